"""What each part of the model cost in a pass, of all layers together, however it was executed.

Eager, compiled and as a CUDA graph: the same weights and inputs. A fused kernel counts to the part
that is most of it, so that the parts add up; how sure that is stands with the compiled tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.passes.compiled.part_names import part_name
from qwen3_profile.records.part_bytes import known_bytes, moved_by_part, row_name, total_bytes
from qwen3_profile.run_folder.bytes_moved import Moved

if TYPE_CHECKING:
    from qwen3_profile.passes.pass_times import PassTimes
    from qwen3_profile.records.record import TimingRecord

UNATTRIBUTED = "unattributed"
_LAST = (labels.OTHER, UNATTRIBUTED)
_WITHOUT_LABELS = (labels.GRAPH_REPLAY, UNATTRIBUTED)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part, or a whole pass, took. Times in ns.

    ns: of the device; where none was recorded, of the CPU. gap_ns: idle time of the device.
    kernels: events on the device; where none was recorded, operations that move anything, and None
        where these were not counted.
    bytes: that were read and written; None where that is not known. at_least: whether it may be
        more, since that of some parts is not known.
    elsewhere: whether the part ran, but only in kernels that count to other parts.
    """

    ns: int = 0
    gap_ns: int = 0
    kernels: int | None = 0
    bytes: int | None = 0
    at_least: bool = False
    elsewhere: bool = False

    @property
    def is_any(self) -> bool:
        """Whether it took anything."""
        return bool(self.ns or self.kernels or self.bytes or self.elsewhere)

    @property
    def gb_per_s(self) -> float | None:
        """What was achieved: bytes per nanosecond are gigabytes per second."""
        return self.bytes / self.ns if self.bytes and self.ns and not self.at_least else None


def part_costs(record: TimingRecord, on_device: bool) -> dict[str, Cost]:
    """Each part's cost, in the order of the pass; times and kernels add up to the whole pass's.

    Args:
        record: of one forward pass, or of several together.
        on_device: whether times and kernels are those of the device.
    """
    times = record.times
    found: dict[str, Cost] = {}
    events: Counter[str] = Counter()
    for name, ns, gap_ns, count in _timed(times, on_device):
        mine = found.get(name, Cost())
        found[name] = replace(mine, ns=mine.ns + ns, gap_ns=mine.gap_ns + gap_ns)
        events[name] += count
    moved = moved_by_part(times) if times.traffic is not None else {}
    known = {each.part for each in times.compiled.bounds} if times.compiled else set()
    for name in dict.fromkeys((*found, *moved, *known)):
        mine = found.get(name, Cost())
        operations = moved.get(name, Moved()).operations if times.traffic is not None else None
        found[name] = replace(
            mine,
            kernels=events[name] if on_device else operations,
            bytes=_bytes(name, mine, moved.get(name), times),
            elsewhere=name in known and name not in found,
        )
    return found


def parts_of(costs: Sequence[dict[str, Cost]]) -> list[str]:
    """Every part in which one of them ran anything, in the order of the pass; last what has no
    name.
    """
    ran = {part for each in costs for part, cost in each.items() if cost.is_any}
    found = dict.fromkeys(part for each in costs for part in each if part in ran)
    return sorted(found, key=lambda part: _LAST.index(part) if part in _LAST else -1)


def whole_cost(record: TimingRecord, costs: Collection[Cost]) -> Cost:
    """The cost of all parts together.

    Args:
        costs: of the parts of this record.
    """
    kernels = [each.kernels for each in costs if each.kernels is not None]
    return Cost(
        ns=sum(each.ns for each in costs),
        gap_ns=sum(each.gap_ns for each in costs),
        kernels=sum(kernels) if len(kernels) == len(costs) else None,
        bytes=known_bytes(record.times),
        at_least=total_bytes(record.times) is None,
    )


def _timed(times: PassTimes, on_device: bool) -> Iterator[tuple[str, int, int, int]]:
    """(part, ns, idle ns, device events) of each part of each layer, and of each fused kernel."""
    for part in times.forward.each():
        name = row_name(part, times.forward)
        if name is not None:
            yield name, ns_of(part.own, on_device), part.own.gap_ns, part.own.device_events
    for kernel in times.compiled.kernels if times.compiled else ():
        if kernel.is_fused:
            ns = kernel.device_ns if on_device else kernel.cpu_ns
            yield part_name(kernel.anchor), ns, kernel.gap_ns, kernel.device_events
    if on_device and times.unattributed:
        events = sum(item.events for item in times.unattributed)
        yield UNATTRIBUTED, times.unattributed_ns, 0, events


def _bytes(name: str, cost: Cost, moved: Moved | None, times: PassTimes) -> int | None:
    """What a part moves; None where nothing was counted, or nobody knows which of it ran there."""
    if moved is not None:
        return moved.bytes
    is_unknown = times.traffic is None or (name in _WITHOUT_LABELS and cost.ns)
    return None if is_unknown else 0
