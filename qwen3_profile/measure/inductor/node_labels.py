"""The labels of a compiled graph's nodes. No torch: nodes are plain words here.

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
from fnmatch import fnmatchcase
from functools import cache

from qwen3_profile import label_parts
from qwen3_profile.label_parts import PartSpec
from qwen3_profile.labels import gap_label, is_container, kind_of


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
    holders = {label.rpartition(".")[0] for label in modules.values()}
    inner = [None if label in holders or is_container(label or "") else label for label in found]
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
    called = (_parts_of(frame.file, frame.function) for frame in reversed(node.frames))
    for part in next(filter(None, called), ()):
        if part.block == "phase":
            return part.name
        if container is not None and kind_of(container) == part.block:
            return f"{container}.{part.name}"
    named = _parts_by_op().get((kind_of(container), node.target)) if container else None
    return f"{container}.{named}" if named else container


@cache
def _parts_by_op() -> dict[tuple[str, str], str]:
    """(block, operation) -> the part that it is where it lies in no other."""
    rows = (row for row in label_parts.PARTS if isinstance(row, PartSpec))
    return {(row.block, op): row.name for row in rows for op in row.ops}


@cache
def _parts_of(file: str, function: str) -> tuple[PartSpec, ...]:
    """The parts that a function is; of several blocks, where a name stands in several."""
    return tuple(
        row
        for row in label_parts.PARTS
        if isinstance(row, PartSpec)
        and (function.startswith(row.functions) or _fits(row.frames, file, function))
    )


def _fits(patterns: Sequence[str], *words: str) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns for word in words)


def _module_label(path: str, modules: Mapping[str, str]) -> str | None:
    """The label of a module, or of the nearest one round it that has one."""
    while path not in modules:
        if not path:
            return None
        path = path.rpartition(".")[0]
    return modules[path]
