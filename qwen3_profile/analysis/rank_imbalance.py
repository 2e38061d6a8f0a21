"""How the ranks of a distributed run differ: of each part the least and the most time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import is_on_device, median_record, ns_of
from qwen3_profile.analysis.part_rows import PartPath, part_rows
from qwen3_profile.analysis.spread import Spread, spread_of
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.parts import Times
from qwen3_profile.attribution.pass_parts import short_name
from qwen3_profile.labels import WHOLE_TRACE

if TYPE_CHECKING:
    from qwen3_profile.records.ranks import RankTrace
    from qwen3_profile.records.record import TimingRecord

# Ranks whose times in collectives differ by less than this do not wait for each other.
_UNEVEN = 1.1


@dataclass(frozen=True, slots=True)
class PassImbalance:
    """One phase of one config.

    shown: the median pass of the first rank. ranks: how many ranks have such passes.
    parts: by their paths; a part that a rank has not counts as 0 there.
    unattributed: None where no device was recorded.
    """

    shown: TimingRecord
    ranks: int
    on_device: bool
    parts: dict[PartPath, Spread]
    unattributed: Spread | None


@dataclass(frozen=True, slots=True)
class RankImbalance:
    """The ranks of a run.

    ranks: their numbers. world_size: how many the traces say there are; 0 where none does.
    without_ranges: how many of the traces have no ranges, and so no passes.
    device, busy: of whole traces, device time summed, and the union of it.
    collectives: the same of the kernels that carry data between devices; communication: of these
        by who does it.
    findings: of each kind what it is on the first rank that has it, and on how many more.
    """

    ranks: tuple[int, ...]
    world_size: int
    without_ranges: int
    device: Spread
    busy: Spread
    collectives: Spread
    communication: dict[str, Spread]
    passes: tuple[PassImbalance, ...]
    findings: tuple[tuple[int, Finding, int], ...]


def straggler(collectives: Spread) -> int | None:
    """The rank that the others wait for: whoever comes last to a collective is through it first.

    Args:
        collectives: time in them. None where the ranks hardly differ in it.
    """
    uneven = collectives.most_ns > _UNEVEN * collectives.least_ns
    return collectives.fastest if uneven else None


def chosen_ranks(ranks: Sequence[RankTrace], most: int) -> tuple[RankTrace, ...]:
    """At most so many ranks, from the least to the most time in collectives, in their own order."""
    if len(ranks) <= most:
        return tuple(ranks)
    ranked = sorted(range(len(ranks)), key=lambda at: _carried_ns(ranks[at]))
    kept = {ranked[round(at * (len(ranks) - 1) / (most - 1))] for at in range(most)}
    return tuple(each for at, each in enumerate(ranks) if at in kept)


def rank_imbalance(ranks: Sequence[RankTrace]) -> RankImbalance:
    """Of a rank with several passes of a phase the median one counts."""
    phases = dict.fromkeys(_phase_of(record) for rank in ranks for record in rank.records)
    return RankImbalance(
        ranks=tuple(rank.rank for rank in ranks),
        world_size=max((rank.world_size or 0 for rank in ranks), default=0),
        without_ranges=sum(not rank.records for rank in ranks),
        device=_spread([rank.totals.ns for rank in ranks], ranks),
        busy=_spread([rank.totals.busy_ns for rank in ranks], ranks),
        collectives=_spread([_carried_ns(rank) for rank in ranks], ranks),
        communication=_communication(ranks),
        passes=tuple(_passes(ranks, phase) for phase in phases),
        findings=tuple(_findings(ranks)),
    )


def _carried_ns(rank: RankTrace) -> int:
    return sum(ns for _, ns in rank.totals.communication)


def _communication(ranks: Sequence[RankTrace]) -> dict[str, Spread]:
    """By who carries the data; NCCL is told even where it carries none."""
    found = [dict(rank.totals.communication) for rank in ranks]
    kinds = dict.fromkeys([labels.NCCL, *(kind for each in found for kind in each)])
    return {kind: _spread([each.get(kind, 0) for each in found], ranks) for kind in kinds}


def _phase_of(record: TimingRecord) -> tuple[int, str]:
    return record.config_index, record.phase


def _passes(ranks: Sequence[RankTrace], phase: tuple[int, str]) -> PassImbalance:
    passes = [[r for r in rank.records if _phase_of(r) == phase] for rank in ranks]
    present = [rank for rank, mine in zip(ranks, passes, strict=True) if mine]
    shown = [median_record(mine) for mine in passes if mine]
    on_device = is_on_device(shown)
    columns = [_by_path(record) for record in shown]
    parts = {
        path: _spread([ns_of(c.get(path, Times()), on_device) for c in columns], present)
        for path in dict.fromkeys(path for column in columns for path in column)
    }
    rest_ns = [record.times.unattributed_ns for record in shown]
    unattributed = _spread(rest_ns, present) if on_device else None
    return PassImbalance(shown[0], len(present), on_device, parts, unattributed)


def _by_path(record: TimingRecord) -> dict[PartPath, Times]:
    """The parts of a pass summed over the layers; of a whole trace the ranges that it has."""
    forward = record.times.forward
    if record.phase != WHOLE_TRACE:
        return {row.path: row.times for row in part_rows(forward)}
    found: dict[PartPath, Times] = {}
    above: PartPath = ()
    for path, part in forward.walk():
        above = (*above[: len(path) - 1], short_name(part))
        found[above] = part.total
    return found


def _spread(values: Sequence[int], ranks: Sequence[RankTrace]) -> Spread:
    return spread_of(values, [each.rank for each in ranks])


def _findings(ranks: Sequence[RankTrace]) -> list[tuple[int, Finding, int]]:
    found: dict[str, dict[int, Finding]] = {}
    for rank in ranks:
        for finding in rank.records[0].findings if rank.records else ():
            found.setdefault(finding.code, {}).setdefault(rank.rank, finding)
    firsts = ((next(iter(by_rank.items())), len(by_rank)) for by_rank in found.values())
    return [(rank, finding, count - 1) for (rank, finding), count in firsts]
