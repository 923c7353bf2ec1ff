"""The tensors of a file by their names."""

import re
from collections.abc import Mapping

from studio.files.headers import Tensor


class Names:
    """The tensors of a file, seen below a prefix."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self.tensors, self.prefix = tensors, prefix

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.tensors

    def side(self, name: str, dimension: int) -> int:
        """One side of a tensor's shape; 0 if there is no such tensor or side."""
        tensor = self.tensors.get(self.prefix + name)
        return tensor.shape[dimension] if tensor and -len(tensor.shape) <= dimension < len(tensor.shape) else 0

    def rank(self, name: str) -> int:
        """How many sides a tensor has; 0 if there is no such tensor."""
        tensor = self.tensors.get(self.prefix + name)
        return len(tensor.shape) if tensor else 0

    def below(self) -> list[str]:
        """The names of all tensors below the prefix, without it."""
        start = len(self.prefix)
        return [name[start:] for name in self.tensors if name.startswith(self.prefix)]

    def count(self, group: str) -> int:
        """How many of the numbered blocks "group.0", "group.1"… there are, taken from the highest number."""
        pattern = re.compile(rf"{re.escape(self.prefix + group)}\.(\d{{1,4}})\.")
        return 1 + max((int(found[1]) for found in map(pattern.match, self.tensors) if found), default=-1)

    def ending(self, *endings: str) -> Tensor | None:
        """The first tensor below the prefix whose name ends so."""
        found = (name for name in self.tensors if name.startswith(self.prefix) and name.endswith(endings))
        name = next(found, None)
        return self.tensors[name] if name else None
