"""What holds up a whole forward pass: what most of its wall-clock goes to.

The wall-clock of a bare pass is taken apart: while the device works, by the verdicts on the parts
that it works on; while it idles, by whose turn it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_profile.analysis.verdict import (
    BLOCKED,
    COMMUNICATION_BOUND,
    LATENCY_BOUND,
    LAUNCH_BOUND,
    MOSTLY_IDLE,
    QUEUED,
    UNDECIDED,
    DeviceShare,
)
from qwen3_profile.records.quantiles import quantile
from qwen3_profile.records.summary import NOISY

if TYPE_CHECKING:
    from qwen3_profile.analysis.part_verdicts import PartVerdict
    from qwen3_profile.records.record import TimingRecord

# What leads has to lead by so much, of the wall-clock.
_MARGIN = NOISY
# By so much, at most seen, the profiler makes a pass longer that waits for launches.
_MOST_OVERHEAD = 2.1
_LOW, _HIGH = 0.25, 0.75


@dataclass(frozen=True, slots=True)
class PhaseVerdict:
    """What a pass of one config is held up by.

    kind: a verdict of a part, `LAUNCH_BOUND`, `BLOCKED`, `COMMUNICATION_BOUND` or `UNDECIDED`.
    why: where it is undecided, the reason. tied: the two kinds, where that is that they have about
        the same share.
    wall_ns: of a bare pass, `is_bare`; else of the recorded one, profiler included.
    busy_ns: of it, the device at work; without a device, the parts.
    split: kind -> how much of the wall-clock it has; the most first.
    best_ns: what the pass would take at least if that which the verdict names cost nothing more
        than it must.
    """

    kind: str
    why: str
    wall_ns: float
    is_bare: bool
    busy_ns: float
    split: dict[str, float]
    best_ns: float
    tied: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """How many times as fast it could get at most."""
        return self.wall_ns / self.best_ns if self.best_ns else 1.0


def phase_verdict(
    share: DeviceShare | None, shown: TimingRecord, parts: Sequence[PartVerdict], bare: Bare
) -> PhaseVerdict:
    """The verdict on the pass that is shown.

    Args:
        share: how busy the device was; None where no device was recorded.
        parts: of the same pass; none without ceilings.
        bare: the wall-clock of bare passes, by which noise is judged; without a device of passes
            whose labels were clocked, as the parts are of these.
    """
    if share is None:
        splits = [_host_split(wall_ns, parts) for wall_ns in (*bare.ends, bare.ns)]
        busy_ns = float(sum(each.roof.ns for each in parts))
        return _decided(splits[-1], splits, bare.ns, busy_ns, parts, is_bare=False)
    communication_ns = _exposed_communication(shown)
    splits = [
        _device_split(share, wall_ns, parts, communication_ns) for wall_ns in (*bare.ends, bare.ns)
    ]
    return _decided(splits[-1], splits, bare.ns, share.busy_ns, parts, is_bare=share.is_bare)


@dataclass(frozen=True, slots=True)
class Bare:
    """The wall-clock of bare passes in ns, and between which bounds it is taken to lie."""

    ns: float
    ends: tuple[float, float]


def host_walls(passes: Sequence[TimingRecord]) -> tuple[float, ...]:
    """The wall-clock of each pass as its parts were timed, in ns."""
    return tuple(float(each.times.forward.total.cpu_ns) for each in passes)


def bare_of(share: DeviceShare | None, shown: TimingRecord, walls_ns: Sequence[float]) -> Bare:
    """Half of the passes lie within the bounds; of a single one 10 % about it. Where no bare one is
    known it is as long as the recorded one, or shorter by what a profiler costs at most.

    Args:
        walls_ns: of bare passes; without a device, `host_walls`.
    """
    if share is not None and not share.is_bare:
        return Bare(
            share.span_ns, (max(share.busy_ns, share.span_ns / _MOST_OVERHEAD), share.span_ns)
        )
    ns = host_walls([shown])[0] if share is None else share.span_ns
    if len(walls_ns) < 2:
        return Bare(ns, (ns * (1 - NOISY), ns * (1 + NOISY)))
    ranked = sorted(walls_ns)
    return Bare(ns, (float(quantile(ranked, _LOW)), float(quantile(ranked, _HIGH))))


def _device_split(
    share: DeviceShare, wall_ns: float, parts: Sequence[PartVerdict], communication_ns: float
) -> dict[str, float]:
    idle_ns = max(0.0, wall_ns - share.busy_ns)
    found = defaultdict(float, {_idle_kind(share): idle_ns})
    found[COMMUNICATION_BOUND] += communication_ns
    # Kernels that overlap are busy together.
    worked_ns = share.busy_ns - communication_ns
    works = [each for each in parts if each.kind != COMMUNICATION_BOUND]
    total_ns = sum(each.roof.ns for each in works)
    for each in works:
        found[each.kind] += worked_ns * each.roof.ns / total_ns
    if not total_ns:
        found[UNDECIDED] += worked_ns
    return _ranked(found)


def _host_split(wall_ns: float, parts: Sequence[PartVerdict]) -> dict[str, float]:
    """Without a device, what is in no part is Python between them, and so is what calls operators
    that are done at once.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for each in parts:
        found[LAUNCH_BOUND if each.kind == LATENCY_BOUND else each.kind] += each.roof.ns
    rest_ns = max(0.0, wall_ns - sum(found.values()))
    found[LAUNCH_BOUND if parts else UNDECIDED] += rest_ns
    return _ranked(found)


def _ranked(found: Mapping[str, float]) -> dict[str, float]:
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return {kind: ns for kind, ns in ranked if ns > 0}


def _idle_kind(share: DeviceShare) -> str:
    """Whose turn it was for the most of the idle time."""
    idle = share.idle
    if not idle.ns or share.host_share >= MOSTLY_IDLE:
        return LAUNCH_BOUND
    if idle.blocked_ns > idle.queued_ns + idle.in_graph_ns:
        return BLOCKED
    return LATENCY_BOUND if idle.in_graph_ns > idle.queued_ns else QUEUED


def _exposed_communication(shown: TimingRecord) -> float:
    """Device time of collectives that no other work of the device can have covered."""
    times = shown.times
    carried_ns = times.communication_ns
    return float(max(0, times.busy_ns - (times.device_ns - carried_ns))) if carried_ns else 0.0


def _decided(
    split: dict[str, float],
    splits: Sequence[dict[str, float]],
    wall_ns: float,
    busy_ns: float,
    parts: Sequence[PartVerdict],
    *,
    is_bare: bool,
) -> PhaseVerdict:
    kind = next(iter(split), UNDECIDED)
    why, tied = _why_undecided(kind, split, splits, parts), tuple[str, ...]()
    if not why and (tied := _tied(split)):
        why = f"{tied[0]} and {tied[1]} have about the same share"
    best_ns = wall_ns if why else _best_ns(kind, wall_ns, split, parts)
    found = UNDECIDED if why else kind
    return PhaseVerdict(found, why, wall_ns, is_bare, busy_ns, split, best_ns, tied)


def _why_undecided(
    kind: str,
    split: dict[str, float],
    splits: Sequence[dict[str, float]],
    parts: Sequence[PartVerdict],
) -> str:
    if kind == UNDECIDED and not parts:
        return "most of the time goes to work, and what the device does at most was not measured"
    if kind == UNDECIDED:
        part = next(each for each in parts if each.kind == UNDECIDED)
        return f"most of the time goes to parts without a verdict, first {part.name}: {part.why}"
    if kind == QUEUED:
        return (
            "work had been launched and did not run: behind other streams, or records are missing"
        )
    if any(next(iter(each), kind) != kind for each in splits):
        return "noise, or what the profiler costs, could turn it"
    return ""


def _tied(split: dict[str, float]) -> tuple[str, ...]:
    """The two kinds of which neither leads by enough."""
    first, second = (*split.values(), 0.0)[:2]
    return tuple(split)[:2] if first - second < _MARGIN * sum(split.values()) else ()


def _best_ns(
    kind: str, wall_ns: float, split: dict[str, float], parts: Sequence[PartVerdict]
) -> float:
    """The wall-clock without what the verdict's kind takes, but for the floors of its parts."""
    floors = sum(min(e.roof.floor_ns, e.roof.ns) for e in parts if e.kind == kind)
    return max(0.0, wall_ns - split[kind]) + floors
