"""The same collective on several ranks: its time told apart into transfer and waiting.

A collective ends for all ranks together, and begins for each when it gets there: who comes early
waits inside the kernel. So what the last one needed is the transfer, as an upper bound, for it may
have waited, too, for a link or a cold communicator; what the others needed longer is waiting.

Ranks record windows of their own, so the first collective of one need not be the first of another:
they are matched by the number that torch gives them, else from the end, and refused where names or
sizes differ. Clocks of ranks differ as well, and passes that were recorded apart lie beside each
other as each rank has put them; the ends of matched collectives say by how much, pass by pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from qwen3_profile.attribution.collective_times import Collectives, kind_of
from qwen3_profile.trace.columns import Bool, Int64
from qwen3_profile.trace.messages import UNNUMBERED, Message

# Nobody can end one of these before all have come; an all_to_all, a broadcast or a send can.
TOGETHER = frozenset({"all_reduce", "all_gather", "reduce_scatter"})
UNKNOWN = -1


@dataclass(frozen=True, slots=True, eq=False)
class SplitCollectives:
    """The collectives of one rank beside those of the others: int64[n], in the order of its own.

    transfer_ns: the least time that a rank needed for it, or -1 where it is not matched, or may end
        for one rank before another.
    held_ns: where this rank came last, how long the first one waited for it; else 0.
    first: which rank, an index, came first; -1 as above.
    first_place: which of that rank's collectives it is.
    """

    transfer_ns: Int64
    held_ns: Int64
    first: Int64
    first_place: Int64

    @property
    def is_split(self) -> Bool:
        known: Bool = self.transfer_ns != UNKNOWN
        return known


@dataclass(frozen=True, slots=True, eq=False)
class MatchedCollectives:
    """The collectives of all ranks of a group.

    splits: one of each rank. last: how often each rank came last.
    offset_ns: of each rank: the number of a step -> by how much its times there are ahead of the
        first rank's.
    residual_ns: how far the ends of the same collective lie apart once clocks are aligned: the
        least and the most against the middle one; None where nothing is matched.
    matched: how many collectives are.
    differences: why others are not, one line each.
    """

    splits: tuple[SplitCollectives, ...]
    last: tuple[int, ...]
    offset_ns: tuple[dict[int, int], ...]
    residual_ns: tuple[int, int] | None
    matched: int
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Matched collectives of the same ranks.

    members: int64[m], which ranks. places: int64[n, m], which of the collectives of each.
    """

    members: Int64
    places: Int64

    def of(self, found: Sequence[Collectives], column: str) -> Int64:
        """int64[n, m]: a column of the collectives."""
        members = self.members.tolist()
        columns = [getattr(found[r], column)[self.places[:, at]] for at, r in enumerate(members)]
        return np.stack(columns, axis=1)


def match_collectives(ranks: Sequence[int], found: Sequence[Collectives]) -> MatchedCollectives:
    """Finds the same collectives in the traces of ranks.

    Args:
        ranks: their numbers. found: what each of them exchanged.
    """
    groups: list[_Group] = []
    told: list[str] = []
    for name in dict.fromkeys(m.ranks for each in found for m in each.messages):
        group, difference = _match(ranks, found, name)
        told += [difference] if difference else []
        groups += [group] if group is not None else []
    together = [_together(found, group) for group in groups]
    offset_ns, residual_ns = _aligned(found, together)
    splits = tuple(_unknown(len(each)) for each in found)
    last = np.zeros(len(found), np.int64)
    for group in together:
        last += _split(found, group, splits)
    matched = sum(len(group.places) for group in groups)
    counts = tuple(last.tolist())
    return MatchedCollectives(splits, counts, offset_ns, residual_ns, matched, tuple(told))


def _match(
    ranks: Sequence[int], found: Sequence[Collectives], name: str
) -> tuple[_Group | None, str]:
    """The collectives among the ranks of one group, and why some are not matched."""
    places = [_places(each, name) for each in found]
    members = np.array([at for at, mine in enumerate(places) if len(mine)], np.int64)
    mine = [places[at] for at in members.tolist()]
    if len(members) < 2:
        return None, ""
    numbers = [_sequence(found[r])[at] for r, at in zip(members.tolist(), mine, strict=True)]
    if all((each != UNNUMBERED).all() for each in numbers):
        known = reduce(np.intersect1d, numbers)
        rows = [at[np.searchsorted(n, known)] for at, n in zip(mine, numbers, strict=True)]
    else:
        fewest = min(map(len, mine))
        rows = [at[len(at) - fewest :] for at in mine]
    group = _Group(members, np.stack(rows, axis=1))
    difference = _difference(ranks, found, group)
    if difference:
        return None, difference
    left = max(map(len, mine)) - len(group.places)
    what = f"{left} collectives are in the traces of some ranks only, and are not split"
    return group, what if left else ""


def _places(found: Collectives, name: str) -> Int64:
    """Which collectives are among the ranks of this name."""
    chosen = [at for at, message in enumerate(found.messages) if message.ranks == name]
    return np.flatnonzero(np.isin(found.message, chosen))


def _sequence(found: Collectives) -> Int64:
    return np.array([m.sequence for m in found.messages], np.int64)[found.message]


def _difference(ranks: Sequence[int], found: Sequence[Collectives], group: _Group) -> str:
    """The first pair of matched collectives that are not the same; empty where all are."""
    first, *others = (found[r] for r in group.members.tolist())
    for at, other in enumerate(others, 1):
        known: dict[tuple[int, int], bool] = {}
        columns = (first.message[group.places[:, 0]], other.message[group.places[:, at]])
        for row, pair in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            mine, theirs = first.messages[pair[0]], other.messages[pair[1]]
            if not known.setdefault(pair, _is_same(mine, theirs)):
                back, one, two = (
                    len(group.places) - row,
                    ranks[group.members[0]],
                    ranks[group.members[at]],
                )
                return (
                    f"collective {back} from the end is {_told(mine)} on rank {one} and "
                    f"{_told(theirs)} on rank {two}: the ranks do not do the same"
                )
    return ""


def _is_same(one: Message, other: Message) -> bool:
    kind = kind_of(one.collective)
    if kind != kind_of(other.collective) or one.dtype != other.dtype:
        return False
    # What an all_to_all takes from each rank may differ, and what is gathered of each, too.
    return kind != "all_reduce" or one.in_elements == other.in_elements


def _told(message: Message) -> str:
    size = f" of {message.in_elements} {message.dtype}" if message.in_elements else ""
    return f"{kind_of(message.collective)}{size}"


def _together(found: Sequence[Collectives], group: _Group) -> _Group:
    """Those that end for all ranks together."""
    each = found[int(group.members[0])]
    named = np.array([kind_of(m.collective) in TOGETHER for m in each.messages], bool)
    return _Group(group.members, group.places[named[each.message[group.places[:, 0]]]])


def _aligned(
    found: Sequence[Collectives], groups: Sequence[_Group]
) -> tuple[tuple[dict[int, int], ...], tuple[int, int] | None]:
    """`offset_ns` and `residual_ns` of matched collectives."""
    offsets: tuple[dict[int, int], ...] = tuple({} for _ in found)
    rests: list[Int64] = []
    for near in _of_one_step(found, groups):
        steps = near.of(found, "step")[0].tolist()
        members = list(zip(near.members.tolist(), steps, strict=True))
        # A group goes on from a rank that is aligned already, as far as there is one.
        known = [at for at, (rank, step) in enumerate(members) if step in offsets[rank]]
        base = known[0] if known else 0
        first = offsets[members[base][0]].get(members[base][1], 0)
        ends = near.of(found, "end_ns")
        ahead = np.median(ends - ends[:, [base]], axis=0).astype(np.int64) + first
        mine = [
            offsets[rank].setdefault(step, ns)
            for (rank, step), ns in zip(members, ahead.tolist(), strict=True)
        ]
        aligned = ends - np.array(mine, np.int64)
        rests.append(aligned - np.median(aligned, axis=1, keepdims=True).astype(np.int64))
    if not rests:
        return offsets, None
    return offsets, (min(int(r.min()) for r in rests), max(int(r.max()) for r in rests))


def _of_one_step(found: Sequence[Collectives], groups: Sequence[_Group]) -> Iterator[_Group]:
    """The matched collectives of each step, each group behind one that it shares a rank with."""
    left = [group for group in groups if len(group.places)]
    reached: set[int] = {0}
    while left:
        near = next((g for g in left if reached & set(g.members.tolist())), left[0])
        left.remove(near)
        reached |= set(near.members.tolist())
        _, number = np.unique(near.of(found, "step"), axis=0, return_inverse=True)
        for each in range(int(number.max()) + 1):
            yield _Group(near.members, near.places[number.ravel() == each])


def _unknown(count: int) -> SplitCollectives:
    none = np.full(count, UNKNOWN, np.int64)
    return SplitCollectives(none, np.zeros(count, np.int64), none.copy(), none.copy())


def _split(
    found: Sequence[Collectives], group: _Group, splits: Sequence[SplitCollectives]
) -> Int64:
    """Fills in what is known of the collectives of a group; how often each rank came last."""
    dur_ns = group.of(found, "dur_ns")
    rows = np.arange(len(dur_ns))
    late, early = dur_ns.argmin(axis=1), dur_ns.argmax(axis=1)
    transfer_ns = dur_ns[rows, late]
    for at, rank in enumerate(group.members.tolist()):
        places, split = group.places[:, at], splits[rank]
        split.transfer_ns[places] = transfer_ns
        split.first[places] = group.members[early]
        split.first_place[places] = group.places[rows, early]
        split.held_ns[places] = np.where(late == at, dur_ns[rows, early] - transfer_ns, 0)
    return np.bincount(group.members[late], minlength=len(found))
