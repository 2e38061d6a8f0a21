"""A forward pass in, its parts summed over the layers out, each under its path of names.

The paths are what all of a report has in common: `("prefill", "layers", "attn", "q_proj")` is the
row of a table, a bar of a picture, and the owner of kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwen3_profile import label_parts, labels
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.passes.pass_times import backward_of
from qwen3_profile.views.terminal.part_table import Row, part_rows

PartPath = tuple[str, ...]

LAYERS = "layers"

# What a reader looks for first; the colours of the pictures.
FAMILIES = ("attention", "ffn", "norms", "embedding", "head", "other")


@dataclass(frozen=True, slots=True)
class PartRow:
    """One part of the forward pass, of all layers together.

    is_leaf: no row lies below it; the leaves' times add up to those of the pass.
    family: one of `FAMILIES`.
    """

    path: PartPath
    times: Times
    is_leaf: bool
    family: str

    @property
    def name(self) -> str:
        return self.path[-1]


def part_tree(forward: Part) -> tuple[PartRow, ...]:
    """The rows of the parts table, those of a backward below it, parents before their children."""
    rows = _with_backward(forward, part_rows(forward))
    paths = _paths(rows)
    inner = {path[:-1] for path in paths}
    return tuple(
        PartRow(path, row.times, path not in inner, family_of(path))
        for path, row in zip(paths, rows, strict=True)
    )


def family_of(path: PartPath) -> str:
    """What kind of part a path ends in."""
    if labels.COLLECTIVES in path:
        return "other"
    inside = path[path.index(LAYERS) + 1 :] if LAYERS in path else path[1:]
    return (label_parts.family_of(inside[0]) if inside else "") or "other"


def place_of(names: Sequence[str]) -> tuple[PartPath, int]:
    """The path of a scope, and its layer or -1.

    Args:
        names: of the scope and of all around it, from the forward pass's own down.
    """
    path, layer = [], -1
    for at, name in enumerate(names):
        label = labels.parse(name)
        is_layer = label is not None and label.kind == "layer" and label.layer is not None
        if is_layer and (at == 1 or (at == 2 and names[1] == labels.BACKWARD)):
            layer = label.layer if label and label.layer is not None else -1
            path.append(LAYERS)
        else:
            path.append(name.rpartition(".")[2])
    return tuple(path), layer


def own_path(path: PartPath, known: frozenset[PartPath] | set[PartPath]) -> PartPath:
    """Where a part's own time stands: in its row, or in `other` below it if it has parts."""
    other = (*path, labels.OTHER)
    return other if other in known else path


def _with_backward(forward: Part, rows: Sequence[Row]) -> list[Row]:
    backward = backward_of(forward)
    if backward is None or not backward.parts:
        return list(rows)
    found = []
    for row in rows:
        if row.indent == 1 and row.name == labels.BACKWARD:
            found += [replace(r, indent=r.indent + 1) for r in part_rows(backward)]
        else:
            found.append(row)
    return found


def _paths(rows: Sequence[Row]) -> list[PartPath]:
    found, above = [], PartPath()
    for row in rows:
        above = (*above[: row.indent], row.name)
        found.append(above)
    return found
