"""The same part of several forward passes in, their sum out."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.attribution.packed_parts import PackedParts, PackedTimes, PartTree, place_of
from qwen3_profile.attribution.parts import Part, Times

_NOTHING = (Times(), Times())


def merge_parts(parts: Sequence[Part]) -> Part:
    """The sum of the same part over several forward passes, child by child; at least one."""
    if len(parts) == 1:
        return parts[0]
    return _merge_alike(parts) or _merge_by_name(parts)


def _merge_alike(parts: Sequence[Part]) -> Part | None:
    """The sum of parts that are of one form, as those of one model mostly are; else None."""
    if not all(isinstance(part.parts, PackedParts) for part in parts):
        return None
    places = [place_of(part) for part in parts]
    first, root = places[0]
    if any(at != root or not tree.is_like(first) for tree, at in places[1:]):
        return None
    times = first.times.unpacked()
    for tree, _ in places[1:]:
        times += tree.times.unpacked()
    return PartTree(first.names, first.name, first.parent, PackedTimes(times)).roots()[root]


def _merge_by_name(parts: Sequence[Part]) -> Part:
    name = parts[0].name
    sums: dict[tuple[str, ...], tuple[Times, Times]] = {}
    below: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for part in parts:
        for path, each in part.walk():
            path = (name, *path[1:])
            total, own = sums.get(path, _NOTHING)
            sums[path] = (total + each.total, own + each.own)
            below.setdefault(path[:-1], {})[path] = None
    built: dict[tuple[str, ...], Part] = {}
    for path in sorted(sums, key=len, reverse=True):
        total, own = sums[path]
        children = tuple(built.pop(child) for child in below.get(path, ()))
        built[path] = Part(path[-1], total, own, children)
    return built[name,]
