"""The nodes of a compiled graph in, the label of each out. No torch: nodes are plain words here.

A node knows the module that it was traced in and the functions that it was called from:

    mm_3     L['self'].model.layers.7.self_attn.o_proj                        layer.7.attn.o_proj
    mul_9    L['self'].model.layers.7.self_attn, in apply_rotary_pos_emb      layer.7.attn.rope
    add_8    L['self'].model.layers.7, between self_attn and the norm         layer.7.residual_attn

What lies directly in a container is named by its labelled neighbours, as in a trace. Passes move
nodes about; the lines of the source that they were traced at still say in which order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3_profile.labels import gap_label, is_container, kind_of

_CACHE_FILE = "cache_utils.py"
_MASK_FILE = "masking_utils.py"


@dataclass(frozen=True, slots=True)
class Frame:
    """A function that a node was called from: the last component of its file, line and name."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a compiled graph.

    name: unique in the graph. target: the operation, such as "aten.mm.default".
    module: the path of the innermost module, "" for the model itself; None where none is known.
    frames: outermost first.
    """

    name: str
    target: str
    module: str | None
    frames: tuple[Frame, ...]


def label_nodes(nodes: Sequence[Node], modules: Mapping[str, str]) -> dict[str, str]:
    """The label of each node by its name; nodes that nothing is known of have none.

    Args:
        nodes: in the order of the graph.
        modules: path -> label of the labelled modules, as `module_labels` gives them; the forward
            pass itself has the label "".
    """
    # Layers share their lines, which does no harm: a container's children are its own.
    nodes = sorted(nodes, key=lambda node: tuple(frame.line for frame in node.frames))
    found = [_label(node, modules) for node in nodes]
    inner = [label if label is not None and not is_container(label) else None for label in found]
    named = {}
    for index, (node, label) in enumerate(zip(nodes, found, strict=True)):
        if label is not None and inner[index] is None:
            label = gap_label(label, inner, index)
        if label is not None:
            named[node.name] = label
    return named


def _label(node: Node, modules: Mapping[str, str]) -> str | None:
    """By module and functions alone; of what lies between the parts, the container's label."""
    container = _module_label(node.module, modules) if node.module is not None else None
    if container is not None and not is_container(container):
        return container
    part = next((part for part in map(_part_of, reversed(node.frames)) if part), None)
    if part == "causal_mask":
        return part
    if part is not None and container is not None and kind_of(container) == "attn":
        return f"{container}.{part}"
    return container


def _part_of(frame: Frame) -> str | None:
    """The part that a function is."""
    if frame.function.endswith("attention_forward"):
        return "attn_forward"
    if frame.function.startswith("apply_rotary_pos_emb"):
        return "rope"
    if frame.file == _CACHE_FILE:
        return "kv_cache"
    if frame.file == _MASK_FILE or frame.function == "_update_causal_mask":
        return "causal_mask"
    return None


def _module_label(path: str, modules: Mapping[str, str]) -> str | None:
    """The label of a module, or of the nearest one round it that has one."""
    while path not in modules:
        if not path:
            return None
        path = path.rpartition(".")[0]
    return modules[path]
