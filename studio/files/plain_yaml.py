"""YAML of other people: texts, lists and tables alone."""

from typing import Any

import yaml


class PlainYaml(yaml.BaseLoader):
    """Texts, lists and tables alone, and none of them twice: a few lines of aliases can stand for more than there is
    memory for.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)
