"""How near each part of a pass comes to what the device can do: the roofline of Williams, Waterman
and Patterson (2009), with ceilings that were measured on the device itself.

A part that computes F FLOPs and moves B bytes takes at least the longer of F over the FLOP/s and B
over the bytes/s: its floor. Bytes are each operand once, so a part whose data lie in a cache may be
faster than the memory's floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.analysis.part_costs import UNATTRIBUTED, part_costs
from qwen3_profile.analysis.part_rows import PartPath, PartRow, own_path, part_rows, place_of
from qwen3_profile.analysis.row_bytes import row_bytes
from qwen3_profile.attribution.pass_parts import backward_of
from qwen3_profile.passes.compiled.part_names import scope_names
from qwen3_profile.run_folder.ceilings import TOLERANCE, Ceilings

if TYPE_CHECKING:
    from qwen3_profile.records.record import TimingRecord

MEMORY, COMPUTE = "memory", "compute"
_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Roof:
    """A part beside its roof.

    ns: what it took: of the device; where none was recorded, of the CPU.
    flops, bytes: what it computes and moves; None where that is not known.
    compute_ns, memory_ns: the least that these take; 0 where they are not known.
    floor_ns: the longer of the two; of a part with parts, the sum of theirs.
    possible_ns: the same at the highest clock of the device, which `floor_ns` need not be at.
    """

    ns: int
    flops: int | None
    bytes: int | None
    compute_ns: float
    memory_ns: float
    floor_ns: float
    possible_ns: float

    @property
    def bound(self) -> str:
        """Which of the two roofs is the nearer one."""
        return MEMORY if self.memory_ns >= self.compute_ns else COMPUTE

    @property
    def share(self) -> float | None:
        """The floor as a share of the time taken: 1 is as fast as the device can; None of a part
        that took no time, or of which nothing is known.
        """
        return self.floor_ns / self.ns if self.ns and self.floor_ns else None

    @property
    def is_impossible(self) -> bool:
        """Whether it is faster than is possible, by more than ceilings are uncertain."""
        return self.share is not None and self.possible_ns > (1 + TOLERANCE) * self.ns

    @property
    def is_at_a_higher_clock(self) -> bool:
        """Whether it is faster than what was measured, as it may be at a higher clock."""
        return self.share is not None and self.share > 1 + TOLERANCE and not self.is_impossible

    @property
    def is_empty(self) -> bool:
        """Whether it computes and moves nothing: its floor is no time at all."""
        return self.bytes == 0 and not self.flops

    @property
    def gain_ns(self) -> float:
        """What the part would save at its floor; 0 where that is not known."""
        return max(0.0, self.ns - self.floor_ns) if self.floor_ns or self.is_empty else 0.0

    @property
    def flops_per_s(self) -> float | None:
        return self.flops * _NS_PER_S / self.ns if self.flops and self.ns else None

    @property
    def bytes_per_s(self) -> float | None:
        return self.bytes * _NS_PER_S / self.ns if self.bytes and self.ns else None

    @property
    def intensity(self) -> float | None:
        """FLOPs for each byte."""
        return self.flops / self.bytes if self.flops is not None and self.bytes else None


def roof_of(ns: int, flops: int | None, moved: int | None, ceilings: Ceilings) -> Roof:
    """The roof of a part without parts."""
    compute_ns = _least_ns(flops, ceilings.flops_per_s)
    memory_ns = _least_ns(moved, ceilings.bytes_per_s)
    possible_ns = max(compute_ns / ceilings.clock_room, memory_ns)
    floor_ns = max(compute_ns, memory_ns)
    return Roof(ns, flops, moved, compute_ns, memory_ns, floor_ns, possible_ns)


def row_roofs(record: TimingRecord, on_device: bool) -> dict[PartPath, Roof]:
    """The roof of each row of the parts table, those of a backward under paths of their own.

    Nothing where the ceilings were not measured, or nobody knows what the parts compute and move.
    """
    ceilings, flops = record.facts.ceilings, record.flops
    if ceilings is None or (flops is None and record.times.traffic is None):
        return {}
    forward = record.times.forward
    rows = part_rows(forward)
    moved = dict(zip((row.path for row in rows), row_bytes(record.times, rows), strict=False))
    computed = row_flops(flops.forward, rows, forward.name) if flops else {}
    unknown = flops.unknown if flops else ()
    found = _roofs(rows, computed, moved, unknown, ceilings, on_device)
    backward = backward_of(forward)
    if backward is not None:
        rows = part_rows(backward)
        moved = dict(zip((row.path for row in rows), row_bytes(record.times, rows), strict=False))
        computed = row_flops(flops.backward, rows, backward.name) if flops else {}
        found |= _roofs(rows, computed, moved, unknown, ceilings, on_device)
    return found


def row_flops(flops: Mapping[str, int], rows: Iterable[PartRow], phase: str) -> dict[PartPath, int]:
    """What each row computes, with the rows below it; 0 for those that multiply no matrices."""
    known = {row.path for row in rows}
    found = dict.fromkeys(known, 0)
    for label, count in flops.items():
        own = own_path(place_of((phase, *scope_names((label,))))[0], known)
        for depth in range(1, len(own) + 1):
            if own[:depth] in found:
                found[own[:depth]] += count
    return found


def _roofs(
    rows: Iterable[PartRow],
    computed: Mapping[PartPath, int],
    moved: Mapping[PartPath, int | None],
    unknown: Iterable[str],
    ceilings: Ceilings,
    on_device: bool,
) -> dict[PartPath, Roof]:
    hidden = set(unknown)
    found: dict[PartPath, Roof] = {}
    floors: dict[PartPath, tuple[float, float]] = {}
    for row in rows:
        count = None if row.name in hidden else computed.get(row.path)
        found[row.path] = roof_of(ns_of(row.times, on_device), count, moved.get(row.path), ceilings)
        if row.is_leaf:
            for depth in range(1, len(row.path)):
                above = row.path[:depth]
                floor_ns, possible_ns = floors.get(above, (0.0, 0.0))
                mine = found[row.path]
                floors[above] = (floor_ns + mine.floor_ns, possible_ns + mine.possible_ns)
    for path, (floor_ns, possible_ns) in floors.items():
        if path in found:
            found[path] = replace(found[path], floor_ns=floor_ns, possible_ns=possible_ns)
    return found


def _least_ns(count: int | None, per_s: float) -> float:
    return count / per_s * _NS_PER_S if count and per_s else 0.0


def part_roofs(record: TimingRecord, on_device: bool) -> dict[str, Roof]:
    """By name of a part, as `part_costs` has them: what its kernels took in all layers together,
    however it was executed. Nothing where `row_roofs` gives nothing.
    """
    ceilings, flops = record.facts.ceilings, record.flops
    if ceilings is None or (flops is None and record.times.traffic is None):
        return {}
    computed = flops.by_part() if flops else {}
    return {
        name: roof_of(
            cost.ns,
            computed.get(name, 0) if flops else None,
            None if cost.at_least else cost.bytes,
            ceilings,
        )
        for name, cost in part_costs(record, on_device).items()
        if name not in (labels.OTHER, UNATTRIBUTED) and cost.is_any
    }
