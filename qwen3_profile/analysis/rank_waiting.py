"""What ranks wait for each other: transfer and waiting by part, who comes last, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from qwen3_profile import labels
from qwen3_profile.analysis.spread import Spread, spread_of
from qwen3_profile.attribution.collective_times import Collectives
from qwen3_profile.records.collective_sums import CollectiveTimes, collective_times
from qwen3_profile.records.matched_collectives import MatchedCollectives, SplitCollectives
from qwen3_profile.records.quantiles import median
from qwen3_profile.trace.columns import Bool, Int64

if TYPE_CHECKING:
    from qwen3_profile.records.ranks import RankTrace


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """Collectives of one part, kind and size, summed over layers and passes.

    part: who issued them, without its layer. count: of each rank. bytes: the whole array of one.
    waiting: over the ranks; None where the time could not be told apart, as transfer_ns.
    algorithm_bytes_per_s, bus_bytes_per_s: of the median transfer; None where no size is told, or
        one that is mere latency.
    """

    part: str
    kind: str
    count: int
    bytes: int | None
    time: Spread
    overlapped: Spread
    transfer_ns: int | None
    waiting: Spread | None
    algorithm_bytes_per_s: float | None
    bus_bytes_per_s: float | None


@dataclass(frozen=True, slots=True)
class LostTime:
    """Where a rank that came last had lost time against the first one.

    label: which it spent more in, its layer included; "" where no label was open. busy_ns: more
    work. idle_ns: more idle time before its kernels.
    """

    label: str
    busy_ns: int
    idle_ns: int

    @property
    def ns(self) -> int:
        return self.busy_ns + self.idle_ns


@dataclass(frozen=True, slots=True)
class Straggler:
    """The rank that the others wait for longest.

    last, of: how often it came last, of how many collectives.
    held_ns: how long the first rank waited for it, in all. most_often: whether no rank is last more
        often. lost: by part, the most first; lost_at: the label, with its layer, of the most.
    """

    rank: int
    last: int
    of: int
    held_ns: int
    most_often: bool
    lost: tuple[LostTime, ...]
    lost_at: LostTime | None


@dataclass(frozen=True, slots=True)
class RankWaiting:
    """The collectives of one phase, or of whole traces.

    passes: how many of each rank. count: of each rank, those that are matched.
    rows: in the order of the trace. total: their sum, over all parts; None without any.
    straggler: None where nobody waits.
    residual_ns: how far the ends of the same collective lie apart once clocks are aligned.
    differences: what could not be matched, and why.
    on_device: whether they are kernels.
    """

    passes: int
    count: int
    rows: tuple[WaitingRow, ...]
    total: WaitingRow | None
    straggler: Straggler | None
    residual_ns: tuple[int, int] | None
    differences: tuple[str, ...]
    on_device: bool


@dataclass(frozen=True, slots=True)
class _Rank:
    """One rank, and which of its collectives are of the phase."""

    rank: int
    found: Collectives
    split: SplitCollectives
    chosen: Bool
    sums: tuple[CollectiveTimes, ...]


def rank_waiting(
    ranks: Sequence[RankTrace], phase: tuple[int, str] | None = None
) -> RankWaiting | None:
    """None where the ranks have no collectives in common.

    Args:
        ranks: of one group.
        phase: config and phase whose passes count; None for all that the traces hold.
    """
    matched = ranks[0].matched
    if matched is None:
        return None
    mine = [_chosen(each, split, phase) for each, split in zip(ranks, matched.splits, strict=True)]
    if not any(each.chosen.any() for each in mine):
        return None
    rows = tuple(_rows(mine))
    return RankWaiting(
        passes=max(len(set(each.found.step[each.chosen].tolist())) for each in mine),
        count=max(int((each.chosen & each.split.is_split).sum()) for each in mine),
        rows=rows,
        total=_summed("all", "", mine, [each.sums for each in mine]) if len(rows) > 1 else None,
        straggler=_straggler(mine),
        residual_ns=matched.residual_ns,
        differences=_differences(matched),
        on_device=mine[0].found.on_device,
    )


def _differences(matched: MatchedCollectives) -> tuple[str, ...]:
    return tuple(dict.fromkeys(matched.differences))


def _chosen(rank: RankTrace, split: SplitCollectives, phase: tuple[int, str] | None) -> _Rank:
    found = rank.collectives
    steps = set(found.step.tolist())
    if phase is not None:
        mine = (r for r in rank.records if (r.config_index, r.phase) == phase)
        steps = {number for record in mine for number in record.step_numbers}
    sums = collective_times(found, split, steps)
    return _Rank(rank.rank, found, split, np.isin(found.step, list(steps)), sums)


def _rows(ranks: Sequence[_Rank]) -> Iterator[WaitingRow]:
    keys = dict.fromkeys(_key(each) for rank in ranks for each in rank.sums)
    for key in keys:
        parts = [[each for each in rank.sums if _key(each) == key] for rank in ranks]
        yield _summed(key[0], key[1], ranks, parts)


def _key(each: CollectiveTimes) -> tuple[str, str, int | None, bool]:
    return part_of(each.label), each.kind, each.bytes, each.waiting_ns is None


def part_of(label: str) -> str:
    """The part of a label, whichever layer it is of."""
    return labels.every_layer(label).removeprefix(f"{labels.ANY_LAYER}.")


def _summed(
    part: str, kind: str, ranks: Sequence[_Rank], sums: Sequence[Sequence[CollectiveTimes]]
) -> WaitingRow:
    numbers = [each.rank for each in ranks]
    all_sums = [each for mine in sums for each in mine]
    one = next((mine for mine in sums if mine), ())
    known = any(each.waiting_ns is not None for each in all_sums)
    transfer_ns = max(sum(each.transfer_ns or 0 for each in mine) for mine in sums)
    waiting_ns = [sum(each.waiting_ns or 0 for each in mine) for mine in sums]
    whole = _one_size(one)
    return WaitingRow(
        part=part,
        kind=kind,
        count=sum(each.count for each in one),
        bytes=whole.bytes if whole else None,
        time=spread_of([sum(each.ns for each in mine) for mine in sums], numbers),
        overlapped=spread_of([sum(each.overlapped_ns for each in mine) for mine in sums], numbers),
        transfer_ns=transfer_ns if known else None,
        waiting=spread_of(waiting_ns, numbers) if known else None,
        algorithm_bytes_per_s=whole.algorithm_bytes_per_s if whole else None,
        bus_bytes_per_s=whole.bus_bytes_per_s if whole else None,
    )


def _one_size(sums: Sequence[CollectiveTimes]) -> CollectiveTimes | None:
    """One that stands for all, by the median of their transfers; None of several sizes."""
    if len({(each.kind, each.bytes) for each in sums}) != 1:
        return None
    known = [each.typical_ns for each in sums if each.typical_ns is not None]
    return replace(sums[0], typical_ns=median(known) if known else None)


# --- who comes last, and why ----------------------------------------------------------------------


def _straggler(ranks: Sequence[_Rank]) -> Straggler | None:
    held_ns = [int(each.split.held_ns[each.chosen].sum()) for each in ranks]
    most = int(np.argmax(held_ns))
    if not held_ns[most]:
        return None
    last = [int((each.split.held_ns[each.chosen] > 0).sum()) for each in ranks]
    mine = ranks[most]
    by_label = _lost(ranks, mine)
    by_part = _added(replace(each, label=part_of(each.label)) for each in by_label)
    return Straggler(
        rank=mine.rank,
        last=last[most],
        of=int((mine.chosen & mine.split.is_split).sum()),
        held_ns=held_ns[most],
        most_often=last[most] == max(last),
        lost=by_part,
        lost_at=next(iter(_added(iter(by_label))), None),
    )


def _lost(ranks: Sequence[_Rank], late: _Rank) -> list[LostTime]:
    """What the last rank spent more in each label than the first, collective by collective."""
    found = []
    held = np.flatnonzero(late.chosen & (late.split.held_ns > 0))
    for place in held.tolist():
        early = ranks[int(late.split.first[place])]
        found += [(1, *row) for row in _spent_before(late.found, place)]
        there = int(late.split.first_place[place])
        found += [(-1, *row) for row in _spent_before(early.found, there)]
    return [LostTime(name, sign * busy, sign * idle) for sign, name, busy, idle in found]


def _spent_before(found: Collectives, place: int) -> Iterator[tuple[str, int, int]]:
    """(label, busy, idle) from the collective in front of one up to it."""
    before: Int64 = found.before
    first, last = np.searchsorted(before[0], (place, place + 1)).tolist()
    for _, label, busy_ns, idle_ns in before[:, first:last].T.tolist():
        yield found.labels[label], busy_ns, idle_ns


def _added(times: Iterator[LostTime]) -> tuple[LostTime, ...]:
    """The sums of each label that more time was spent in, the most first."""
    busy_ns: Counter[str] = Counter()
    idle_ns: Counter[str] = Counter()
    for each in times:
        busy_ns[each.label] += each.busy_ns
        idle_ns[each.label] += each.idle_ns
    lost = [LostTime(name, busy_ns[name], idle_ns[name]) for name in busy_ns]
    return tuple(sorted((each for each in lost if each.ns > 0), key=lambda each: -each.ns))
