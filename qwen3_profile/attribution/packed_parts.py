"""Trees of parts held as numbers: small, and quick to make many of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.trace.columns import Int32, Int64

NO_PART = -1


class PackedParts(Sequence[Part]):
    """The children of a root, held as numbers until somebody asks for them.

    A trace may hold thousands of forward passes, and as objects the parts of one take as much
    memory as a hundredth of its text.
    """

    __slots__ = ("_count", "_root", "_tree")

    def __init__(self, tree: PartTree, root: int, count: int) -> None:
        self._tree = tree
        self._root = root
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Part: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Part]: ...
    def __getitem__(self, index: int | slice) -> Part | Sequence[Part]:
        return self._unpacked()[index]

    def __iter__(self) -> Iterator[Part]:
        return iter(self._unpacked())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedParts):
            return self._unpacked() == other._unpacked()
        return self._unpacked() == other

    def __hash__(self) -> int:
        return hash(self._unpacked())

    def __repr__(self) -> str:
        return repr(self._unpacked())

    @property
    def place(self) -> tuple[PartTree, int]:
        """The tree that holds the root, and where in it."""
        return self._tree, self._root

    @property
    def names(self) -> tuple[str, ...]:
        """Those of all parts in the tree, the children and what lies in them among them."""
        return self._tree.names

    def _unpacked(self) -> tuple[Part, ...]:
        return _unpack(self._tree)[self._root]


class PackedTimes:
    """int64[p, 16] in as few bytes as they allow, counts apart from nanoseconds."""

    __slots__ = ("_counts", "_ns")

    def __init__(self, times: Int64) -> None:
        self._counts = _smallest(times[:, _IS_COUNT])
        self._ns = _smallest(times[:, ~_IS_COUNT])

    def sharing(self, other: PackedTimes) -> PackedTimes:
        """The same times, which hold what is the same in the other ones no second time."""
        self._counts = _one_of(other._counts, self._counts)
        return self

    def unpacked(self) -> Int64:
        times = np.empty((len(self._ns), len(_IS_COUNT)), np.int64)
        times[:, _IS_COUNT] = self._counts
        times[:, ~_IS_COUNT] = self._ns
        return times


_Array = TypeVar("_Array", bound=npt.NDArray[Any])


def _one_of(known: _Array, new: _Array) -> _Array:
    """One array for both, if they are the same."""
    return known if known.dtype == new.dtype and np.array_equal(known, new) else new


_IS_COUNT = np.array([not name.endswith("_ns") for name in Times._fields] * 2)


def _smallest(values: Int64) -> npt.NDArray[Any]:
    if values.size and values.min() >= 0:
        for width in (np.uint8, np.uint16, np.uint32):
            if values.max() <= np.iinfo(width).max:
                return values.astype(width)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class PartTree:
    """Parts as parallel arrays, parents before their children, roots before all.

    names: what `name` indexes. name: int32[p].
    parent: int32[p], the place of another part, or -1.
    times: the fields of `total` and of `own`.
    """

    names: tuple[str, ...]
    name: Int32
    parent: Int32
    times: PackedTimes

    def sharing(self, other: PartTree | None) -> PartTree:
        """The same tree, which holds what is the same in the other one no second time."""
        if other is None:
            return self
        return PartTree(
            self.names,
            _one_of(other.name, self.name),
            _one_of(other.parent, self.parent),
            self.times.sharing(other.times),
        )

    def is_like(self, other: PartTree) -> bool:
        """Whether both have the same parts in the same places."""
        return (
            self.names == other.names
            and np.array_equal(self.name, other.name)
            and np.array_equal(self.parent, other.parent)
        )

    def roots(self) -> tuple[Part, ...]:
        """The parts that lie in none, their children packed."""
        count = int((self.parent == NO_PART).sum())
        below = np.bincount(self.parent[count:], minlength=count).tolist()
        times = self.times.unpacked()[:count].tolist()
        return tuple(
            Part(
                self.names[self.name[root]],
                *_both(times[root]),
                PackedParts(self, root, below[root]) if below[root] else (),
            )
            for root in range(count)
        )


def place_of(part: Part) -> tuple[PartTree, int]:
    """A tree that holds `part` and all below it, and where in it."""
    if isinstance(part.parts, PackedParts):
        return part.parts.place
    parts, parent = [part], [NO_PART]
    for place, each in enumerate(parts):
        parts += each.parts
        parent += [place] * len(each.parts)
    names = {name: number for number, name in enumerate(dict.fromkeys(each.name for each in parts))}
    tree = PartTree(
        tuple(names),
        np.array([names[each.name] for each in parts], np.int32),
        np.array(parent, np.int32),
        PackedTimes(np.array([(*each.total, *each.own) for each in parts], np.int64)),
    )
    return tree, 0


# Who looks at the parts of one pass looks at all of them, several times.
@lru_cache(maxsize=2)
def _unpack(tree: PartTree) -> dict[int, tuple[Part, ...]]:
    """The children of each root."""
    parents, names, times = tree.parent.tolist(), tree.name.tolist(), tree.times.unpacked().tolist()
    below: list[list[Part]] = [[] for _ in parents]
    roots = parents.count(NO_PART)
    for place in range(len(parents) - 1, roots - 1, -1):
        children = below[place]
        children.reverse()
        part = Part(tree.names[names[place]], *_both(times[place]), tuple(children))
        below[place] = []
        below[parents[place]].append(part)
    return {root: tuple(reversed(below[root])) for root in range(roots)}


def _both(times: list[int]) -> tuple[Times, Times]:
    """Those with children, and those without."""
    return Times._make(times[:_TIMES]), Times._make(times[_TIMES:])


_TIMES = len(Times._fields)
