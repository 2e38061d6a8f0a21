"""What holds the passes of a config up, and how far its times can be trusted.

Terminal, report and TensorBoard all say what is judged here, so that none contradicts another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import is_on_device, ns_of
from qwen3_profile.attribution.findings import NOTE, Finding
from qwen3_profile.attribution.parts import Part
from qwen3_profile.passes.pass_times import PassTimes, collectives, short_name
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.summary import NOISY, is_noisy, spread

# A device at work for less of the time than this mostly waits; for more of it than that, it is
# what the forward pass waits for. Between the two neither sentence would be true.
MOSTLY_IDLE = 0.5
MOSTLY_BUSY = 0.9
# Where for less of a pass than this nothing is launched and not ended, the CPU keeps ahead.
_RARELY_EMPTY = 0.1
_NAMED_PARTS = 5
_NS_PER_MS = 1e6

LAUNCH_BOUND, COMPUTE_BOUND, MIXED = "launch-bound", "compute-bound", "neither bound alone"


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """For how much of a forward pass the device was at work; medians over the passes.

    busy_ns: the union of the device events.
    span_ns: of the bare pass; of the traced one where no bare one is known, `is_bare` off.
    """

    busy_ns: float
    span_ns: float
    is_bare: bool

    @property
    def share(self) -> float:
        return self.busy_ns / self.span_ns if self.span_ns else 0.0

    @property
    def verdict(self) -> str:
        """What the pass waits for: the CPU's launches, the kernels, or both."""
        if self.share < MOSTLY_IDLE:
            return LAUNCH_BOUND
        return COMPUTE_BOUND if self.share > MOSTLY_BUSY else MIXED

    @property
    def sentence(self) -> str:
        of = "a bare pass takes" if self.is_bare else "the traced pass takes, profiler and all"
        span_ms = self.span_ns / _NS_PER_MS
        worked = f"{self.busy_ns / _NS_PER_MS:.3f} of the {span_ms:.3f} ms that {of}"
        return f"The device is at work {worked} ({self.share:.0%}){self._meaning}"

    @property
    def _meaning(self) -> str:
        if self.verdict == LAUNCH_BOUND and self.is_bare:
            return ": it waits for the CPU, so faster kernels alone would gain little."
        if self.verdict == LAUNCH_BOUND:
            return ": it waits for the CPU, which the profiler slows down."
        if self.verdict == COMPUTE_BOUND:
            return ": the kernels set the pace."
        return ": both kernels and waiting count."


def sentences(records: Sequence[TimingRecord], shown: TimingRecord) -> tuple[str, ...]:
    """What dominates: the device or the wait for it, and the largest parts.

    Args:
        records: of one config and phase, at least one.
        shown: the one of them whose parts the tables show.
    """
    share = device_share(records)
    found = [share.sentence] if share is not None else []
    return (*found, largest_parts(shown.times.forward, share is not None))


def device_share(records: Sequence[TimingRecord]) -> DeviceShare | None:
    """How busy the device was in the passes of one config; None where no device was recorded."""
    if not is_on_device(records):
        return None
    bare = [record.total_ns for record in records if record.total_ns is not None]
    # A standalone trace tells of no bare pass; its own span has the profiler's delays in it.
    spans = bare or [record.times.busy_ns + record.times.gap_ns for record in records]
    busy_ns = median(record.times.busy_ns for record in records)
    return DeviceShare(busy_ns, median(spans), bool(bare))


def largest_parts(forward: Part, on_device: bool) -> str:
    """The parts that hold no named ones, each summed over the layers, largest first.

    Of a whole trace the ranges, each without those inside it.
    """
    times: Counter[str] = Counter()
    if forward.name == labels.WHOLE_TRACE:
        for part in forward.each():
            times[short_name(part)] += ns_of(part.own, on_device)
    for part, inside in _smallest(forward):
        apart = sum(ns_of(each.total, on_device) for each in inside)
        times[short_name(part)] += ns_of(part.total, on_device) - apart
    whole = ns_of(forward.total, on_device)
    top = [(name, ns) for name, ns in times.most_common(_NAMED_PARTS) if ns]
    if not whole or not top:
        return ""
    named = ", ".join(f"{name} {ns / whole:.1%}" for name, ns in top)
    together = sum(ns for _, ns in top) / whole
    kind = "CUDA" if on_device else "CPU"
    return f"Most {kind} time: {named}; together {together:.1%}."


def noise(times_ns: Sequence[float]) -> str:
    """How much these times of the same pass vary; empty where that is little, or not known."""
    if not times_ns or not is_noisy(stats := spread(times_ns)):
        return ""
    return f"its IQR is {stats['iqr'] / stats['median']:.1%} of the median, over {NOISY:.0%}"


def is_disturbed(overhead: float) -> bool:
    """Whether profiler and labels made a pass longer than noise would.

    Args:
        overhead: how many times as long it took with them.
    """
    return overhead > 1 + NOISY


def unattributed_share(times: PassTimes) -> float:
    """How much of the device's time belongs to no label."""
    return times.unattributed_ns / times.device_ns if times.device_ns else 0.0


def keeps_ahead(empty_share: float) -> bool:
    """Whether the CPU launches faster than the device works.

    Args:
        empty_share: for how much of the pass no device event was launched and had not ended.
    """
    return empty_share < _RARELY_EMPTY


def all_findings(passes: Iterable[TimingRecord]) -> tuple[Finding, ...]:
    """What is odd in the traces, each once."""
    return tuple(dict.fromkeys(finding for each in passes for finding in each.findings))


def severe_findings(passes: Iterable[TimingRecord]) -> tuple[Finding, ...]:
    """Of these what may make a time wrong, not what is only noted."""
    return tuple(finding for finding in all_findings(passes) if finding.severity != NOTE)


def _smallest(forward: Part) -> Iterator[tuple[Part, tuple[Part, ...]]]:
    """The parts below the containers of our grammar, each with the collectives inside it.

    What another program has below them, such as the activation in the experts, is theirs.
    """
    waiting = [] if forward.name == labels.WHOLE_TRACE else list(forward.parts)
    while waiting:
        part = waiting.pop()
        label = labels.parse(part.name)
        if part.name == labels.BACKWARD or (label is not None and label.kind != "leaf"):
            waiting += part.parts
            continue
        inside = tuple(each for each in collectives(part) if each is not part)
        yield part, inside
        waiting += inside
