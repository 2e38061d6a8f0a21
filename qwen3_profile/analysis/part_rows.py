"""The parts of a forward pass, summed over the layers, each under its path of names.

The paths are what all tables and pictures have in common: `("prefill", "layers", "attn", "q_proj")`
is the row of a table, a bar of a time line, and the owner of kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from qwen3_profile import label_parts, labels
from qwen3_profile.attribution.parts import Part, Times, sum_times
from qwen3_profile.attribution.pass_parts import has_pieces, layers, short_name

PartPath = tuple[str, ...]

LAYERS = "layers"

# What a reader looks for first; the colours of the pictures.
FAMILIES = ("attention", "ffn", "norms", "embedding", "head", "other")


@dataclass(frozen=True, slots=True)
class PartRow:
    """One part of the forward pass, of all layers together.

    is_leaf: no row lies below it; the leaves' times add up to those of the pass.
    """

    path: PartPath
    times: Times
    is_leaf: bool

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def depth(self) -> int:
        """How many rows lie around it."""
        return len(self.path) - 1

    @property
    def family(self) -> str:
        """One of `FAMILIES`."""
        return family_of(self.path)


def part_rows(forward: Part) -> tuple[PartRow, ...]:
    """The forward pass, what lies outside the layers, and each part summed over the layers.

    Of a whole trace all ranges as they are nested.
    """
    return tuple(_rows(forward, (), unfold_backward=False))


def part_tree(forward: Part) -> tuple[PartRow, ...]:
    """The same with the parts of a backward below it."""
    return tuple(_rows(forward, (), unfold_backward=True))


def part_times(forward: Part) -> dict[PartPath, Times]:
    """The times of each row of `part_tree`."""
    return {row.path: row.times for row in part_tree(forward)}


def family_times(rows: Sequence[PartRow]) -> dict[str, Times]:
    """The sums of the parts of each family, without overlap."""
    found: dict[str, Times] = {}
    for row in rows:
        if row.is_leaf:
            found[row.family] = found.get(row.family, Times()) + row.times
    return found


def family_of(path: PartPath) -> str:
    """What kind of part a path ends in."""
    if not set(path).isdisjoint(labels.COLLECTIVES):
        return "other"
    inside = inside_of(path)
    if inside[:1] == (labels.BACKWARD,):
        inside = inside[1:]
    return (label_parts.family_of(inside[0]) if inside else "") or "other"


def inside_of(path: PartPath) -> PartPath:
    """The names from the layer on; of a part outside of the layers from the pass on."""
    return path[path.index(LAYERS) + 1 :] if LAYERS in path else path[1:]


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


def own_path(path: PartPath, known: Collection[PartPath]) -> PartPath:
    """Where a part's own time stands: in its row, or in `other` below it if it has parts."""
    other = (*path, labels.OTHER)
    return other if other in known else path


def _rows(forward: Part, above: PartPath, *, unfold_backward: bool) -> Iterator[PartRow]:
    path = (*above, forward.name)
    yield PartRow(path, forward.total, is_leaf=False)
    all_layers = layers(forward)
    inside = {layer.row for layer in all_layers}
    placed = False
    for part in forward.parts:
        if unfold_backward and part.name == labels.BACKWARD and part.parts:
            yield from _rows(part, path, unfold_backward=False)
        elif forward.name == labels.WHOLE_TRACE or (part.row not in inside and has_pieces(part)):
            yield from _summed_rows((part,), (*path, short_name(part)))
        elif part.row not in inside:
            yield PartRow((*path, short_name(part)), part.total, is_leaf=True)
        elif not placed:
            yield from _summed_rows(all_layers, (*path, LAYERS))
            placed = True
    yield _other(path, forward.own)


def _summed_rows(parts: Sequence[Part], path: PartPath) -> Iterator[PartRow]:
    """The same part of all layers, and below it the sums of its children."""
    names = dict.fromkeys(short_name(child) for part in parts for child in part.parts)
    yield PartRow(path, sum_times(part.total for part in parts), is_leaf=not names)
    for name in names:
        same = [c for part in parts for c in part.parts if short_name(c) == name]
        yield from _summed_rows(same, (*path, name))
    if names:
        yield _other(path, sum_times(part.own for part in parts))


def _other(path: PartPath, own: Times) -> PartRow:
    """What no part below `path` explains; nobody called it."""
    return PartRow((*path, labels.OTHER), own._replace(calls=0), is_leaf=True)
