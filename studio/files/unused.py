"""Weights that a file has and nothing uses: what is drawn is then not what the file was made for, and is told so.

diffusers and transformers say this in their log alone, among much that is of no use to the person at the page. So their
logs are listened to here, and what they say of weights becomes a sentence.
"""

import ast
import logging
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import transformers

from studio.files import headers

_HARMLESS = re.compile(
    r"position_ids|logit_scale|inv_freq|num_batches_tracked|lm_head\.|(?:^|\.)visual\.|vision_model\.|_projection\.|"
    r"^decoder\.(?:block|final_layer_norm|embed_tokens)\.|^(?:loss|model_ema)\.|^logvar$"
)
"""What many files carry along and no picture needs: buffers, and halves of models whose other half is used."""
_SAID = re.compile(r"weights of the model checkpoint.*not used.*?:\s*(?P<names>\[.*\])", re.DOTALL)


def sentence(file: str, names: Iterable[str]) -> str:
    """What a person is told of a file's tensors that were not used; empty if none of them matters."""
    mattering = sorted(name for name in names if not _HARMLESS.search(name))
    if not mattering:
        return ""
    some = ", ".join(name[:80] for name in mattering[:3]) + (", …" if len(mattering) > 3 else "")
    tensors = "1 tensor" if len(mattering) == 1 else f"{len(mattering)} tensors"
    return f"{tensors} of {file} were not used ({some}), so pictures may differ from what it was made for."


def of_file(file: str, path: Path, part: Any, odd: Iterable[str]) -> str:
    """The same of a single file that one part was made of. odd: the tensors that the libraries told of.

    Their converters take what they know of the makers' names, and say nothing of the rest: then there is more in the
    file than in the part.
    """
    if told := sentence(file, odd):
        return told
    there = headers.read(path).tensors
    most = sum(tensor.parameters for name, tensor in there.items() if not _HARMLESS.search(name))
    over = most - sum(value.numel() for name, value in part.state_dict().items() if not _HARMLESS.search(name))
    if over <= 0:
        return ""
    return (
        f"{over:,} of the {most:,} numbers in {file} were not used, so pictures may differ from what it was made for."
    )


def sentences(parts: Iterable[Any]) -> tuple[str, ...]:
    """What is to be told of the parts of a model, which whoever read them has noted there as `unused`."""
    return tuple(filter(None, (getattr(part, "unused", "") for part in parts)))


def listen() -> None:
    """Have the libraries' logs heard here, and nowhere else."""
    for library in (diffusers, transformers):
        root = logging.getLogger(library.__name__)
        if not any(isinstance(each, _Ear) for each in root.handlers):
            library.utils.logging.disable_default_handler()
            root.addHandler(_Ear())
        # Whatever else may have been set since.
        library.utils.logging.set_verbosity_warning()
        library.utils.logging.disable_progress_bar()


@contextmanager
def heard() -> Iterator[list[str]]:
    """Gives the names of tensors that the libraries say they did not use, on this thread, as they say it."""
    listen()
    ears = [each for name in ("diffusers", "transformers") for each in logging.getLogger(name).handlers]
    names: list[str] = []
    for ear in ears:
        if isinstance(ear, _Ear):
            ear.here.names = names
    try:
        yield names
    finally:
        for ear in ears:
            if isinstance(ear, _Ear):
                del ear.here.names


class _Ear(logging.Handler):
    """Takes up what is said of weights; errors go on to the studio's log, hints do not."""

    def __init__(self) -> None:
        super().__init__()
        self.here: Any = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            logging.getLogger(__name__).log(record.levelno, "%s", record.getMessage())
        names = getattr(self.here, "names", None)
        if names is not None and (said := _SAID.search(record.getMessage())):
            listed = ast.literal_eval(said["names"])
            names += [name for each in listed for name in each.split(", ")]
