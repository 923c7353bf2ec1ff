"""Recipes of ComfyUI: the graph of nodes that its pictures carry as `prompt`, read back from where it samples.

A graph is {id: {"class_type": …, "inputs": {name: value or [id, output]}}} (its "API format"; nodes.py and
comfy_extras/nodes_custom_sampler.py there). There are thousands of kinds of nodes, so nothing is known of these here:
from the node that samples, the way leads back along its inputs, and what is met first under a known name counts.
"""

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

from studio.errors import RecipeError

_LIMIT, _NODES, _MOST = 2_000_000, 2000, 20
"""Characters of a graph that is read, nodes that one is looked through for, and nodes in it that sample."""

_NAMES = {
    "Steps": ("steps",),
    "Sampler": ("sampler_name",),
    "Schedule type": ("scheduler",),
    "CFG scale": ("cfg",),
    "Distilled CFG Scale": ("guidance",),
    "Seed": ("seed", "noise_seed"),
    "Model": ("ckpt_name", "unet_name", "model_name"),
    "VAE": ("vae_name",),
}
"""A1111's name for a setting → what inputs of ComfyUI's nodes are called."""

Node = dict[str, Any]


def read(text: str) -> tuple[dict[str, str], str, str]:
    """Settings by A1111's names, the prompt with LoRAs as tags, and the negative prompt. Raises RecipeError."""
    graph = _graph(text)
    # Of several, as where a picture is enlarged and drawn over, the one with the fewest behind it comes first.
    nodes = [name for name, node in graph.items() if _samples(node)][:_MOST]
    for name in sorted(nodes, key=lambda name: sum(map(_samples, _back(graph, name)))):
        fields = _settings(graph, name)
        if {"Steps", "Seed", "Size"} <= fields.keys():
            positive, negative = (_words(graph, name, way) for way in (("positive", "conditioning"), ("negative",)))
            return fields, " ".join([positive, *_loras(graph, name)]).strip(), negative
    raise RecipeError("That graph has no node that makes a picture out of noise.")


def _samples(node: Node) -> bool:
    return "latent_image" in node


def _graph(text: str) -> dict[str, Node]:
    """The inputs of each node."""
    try:
        told = json.loads(text) if len(text) <= _LIMIT else None
    except (ValueError, RecursionError):
        told = None
    nodes = told.items() if isinstance(told, dict) else ()
    return {
        name: node["inputs"] for name, node in nodes if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }


def _back(graph: dict[str, Node], *names: str) -> Iterator[Node]:
    """The nodes from which these get something, they themselves first, each once."""
    waiting, seen = deque(names), set(names)
    while waiting:
        node = graph.get(waiting.popleft(), {})
        yield node
        for value in node.values():
            if (name := _link(value)) and name not in seen and len(seen) < _NODES:
                seen.add(name)
                waiting.append(name)


def _link(value: Any) -> str:
    """The node that an input is linked to; empty if it has a value of its own."""
    return str(value[0]) if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) else ""


def _settings(graph: dict[str, Node], name: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for node in _back(graph, name):
        for theirs, ways in _NAMES.items():
            value = next((node[way] for way in ways if isinstance(node.get(way), str | int | float)), None)
            if value is not None:
                fields.setdefault(theirs, str(value))
        if type(node.get("width")) is type(node.get("height")) is int:
            fields.setdefault("Size", f"{node['width']}x{node['height']}")
        if type(layer := node.get("stop_at_clip_layer")) is int:
            fields.setdefault("Clip skip", str(-layer))
    return fields


def _words(graph: dict[str, Node], name: str, ways: tuple[str, ...]) -> str:
    """The first text behind an input of one of these names."""
    links = (_link(node.get(way)) for node in _back(graph, name) for way in ways)
    for node in _back(graph, next(filter(None, links), "")):
        for way in ("text", "text_g", "t5xxl", "string", "value", "prompt"):
            if isinstance(node.get(way), str):
                return str(node[way])
    return ""


def _loras(graph: dict[str, Node], name: str) -> list[str]:
    nodes = [node for node in _back(graph, name) if isinstance(node.get("lora_name"), str)]
    return [
        f"<lora:{node['lora_name']}:{node.get('strength_clip', node.get('strength_model', 1))}"
        f":{node.get('strength_model', 1)}>"
        for node in reversed(nodes)
    ]
