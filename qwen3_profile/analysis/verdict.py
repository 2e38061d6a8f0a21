"""What holds the passes of a config up, and how far its times can be trusted.

Terminal, report and TensorBoard all say what is judged here, so that none contradicts another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import is_on_device, median_bare_ns, median_record, ns_of
from qwen3_profile.attribution.findings import NOTE, Finding
from qwen3_profile.attribution.idle import IdleTimes, sum_idle
from qwen3_profile.attribution.idle_stretches import IdleStretch
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.attribution.pass_parts import collectives, short_name
from qwen3_profile.config import CUDA_GRAPH
from qwen3_profile.label_parts import blocks
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.summary import NOISY, is_noisy, spread

if TYPE_CHECKING:
    from qwen3_profile.analysis.totals import Totals

# A device that is busy for less of the time than this mostly idles; for more of it than that, it is
# what the forward pass waits for. Between the two neither sentence would be true.
MOSTLY_IDLE = 0.5
MOSTLY_BUSY = 0.9
_NAMED_PARTS = 5
# Of the pass: less than this would be printed as 0.0 %.
_LEAST_SHARE = 0.0005
# Of the idle time: less than this would be printed as 0 %.
_LEAST_IDLE = 0.005
# Of a trace's device time: what may lie outside of its ranges without a word.
_MUCH_OUTSIDE = 0.05
# Of the longest idle times so many are named, if they are more than this share of the pass.
_NAMED_STRETCHES = 3
_LONG_SHARE = 0.02
_NS_PER_MS = 1e6

GPU_BOUND, LAUNCH_BOUND, MIXED = "GPU-bound", "launch-bound", "mixed"
BLOCKED, QUEUED = "blocked", "queued"
MEMORY_BOUND, COMPUTE_BOUND, LATENCY_BOUND = "memory-bound", "compute-bound", "latency-bound"
COMMUNICATION_BOUND, UNDECIDED = "communication-bound", "undecided"


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """For how much of a forward pass the device was busy, and why not longer.

    busy_ns: the union of the device events; the median pass.
    span_ns: of the bare pass; of the pass that tables show where no bare one is known, `is_bare`
        off: from its start to the end of its last event.
    idle: idle time of all passes that were counted together.
    is_trace: the pass stands for a whole trace, which shows none.
    communication_ns: of busy_ns about so much in collectives, inside of which ranks wait, too.
    """

    busy_ns: float
    span_ns: float
    is_bare: bool
    idle: IdleTimes
    is_trace: bool = False
    communication_ns: float = 0.0

    @property
    def share(self) -> float:
        return self.busy_ns / self.span_ns if self.span_ns else 0.0

    @property
    def host_share(self) -> float:
        """Of the idle time that in which the host had asked for nothing, or was about to."""
        return (self.idle.starved_ns + self.idle.launching_ns) / (self.idle.ns or 1)

    @property
    def verdict(self) -> str:
        """What the pass waits for: the kernels, the CPU's launches, or something else."""
        is_busy = self.share >= MOSTLY_IDLE
        if is_busy and self.communication_ns > MOSTLY_IDLE * self.busy_ns:
            return COMMUNICATION_BOUND
        if self.share > MOSTLY_BUSY:
            return GPU_BOUND
        if max(self.idle) and self.host_share < MOSTLY_IDLE:
            return BLOCKED if self.idle.blocked_ns > self.idle.queued_ns else QUEUED
        return LAUNCH_BOUND if self.share < MOSTLY_IDLE else MIXED

    def busy_and_idle_ns(self, times: PassTimes) -> tuple[int, int]:
        """Of one pass, as the share counts it: of a lone trace without what follows the pass."""
        if self.is_bare or self.is_trace:
            return times.busy_ns, times.gap_ns
        return _own_busy_ns(times), times.forward.total.gap_ns

    @property
    def sentence(self) -> str:
        return f"GPU busy {self._busy} ({self.share:.0%}){self._meaning}"

    @property
    def _busy(self) -> str:
        busy_ms, span_ms = self.busy_ns / _NS_PER_MS, self.span_ns / _NS_PER_MS
        if self.is_bare:
            return f"{busy_ms:.3f} of the {span_ms:.3f} ms that a bare pass takes"
        if self.is_trace:
            return (
                f"{busy_ms:.3f} of the {span_ms:.3f} ms until its last kernel ends, profiler "
                "included"
            )
        return (
            f"{busy_ms:.3f} of the {span_ms:.3f} ms that the recorded pass takes, profiler included"
        )

    @property
    def _meaning(self) -> str:
        if self.verdict == LAUNCH_BOUND and self.is_bare:
            return ": it waits for the CPU, so faster kernels alone would gain little."
        if self.verdict == LAUNCH_BOUND:
            return ": it waits for the CPU, which the profiler slows down."
        if self.verdict == GPU_BOUND:
            return ": the kernels set the pace."
        if self.verdict == COMMUNICATION_BOUND:
            carried_ms = self.communication_ns / _NS_PER_MS
            return f": {carried_ms:.3f} ms in collectives, where it waits for other ranks, too."
        whole = self.idle.ns or 1
        if self.verdict == BLOCKED:
            blocked = self.idle.blocked_ns / whole
            return f": for {blocked:.0%} of its idle time the CPU sits in a call that waits for it."
        if self.verdict == QUEUED:
            queued = (self.idle.queued_ns + self.idle.in_graph_ns) / whole
            return (
                f": for {queued:.0%} of its idle time work had been launched and did not run yet, "
                "so launching faster would gain little."
            )
        return ": kernels and idle time both matter."


_NEXT = {
    GPU_BOUND: "the largest kernels are what to speed up; Kernels has them by part.",
    BLOCKED: "remove the calls in which the CPU waits for the GPU; GPU idle names the longest.",
    QUEUED: "look in the time line for streams and copies that wait for one another.",
    COMMUNICATION_BOUND: "see which rank the others wait for, and in which part it lost its time.",
    MIXED: "look at the largest kernels (Kernels) and at the parts that wait most (GPU idle).",
}


def next_step(verdict: str | None, execution: str | None) -> str:
    """What to do about it, in a sentence.

    Args:
        verdict: of the device's share; None of a run without a device.
        execution: how the passes got to the device, if it is known.
    """
    if verdict is None:
        return "Next: the largest parts are what to speed up; Parts has all of them."
    if verdict != LAUNCH_BOUND:
        return f"Next: {_NEXT.get(verdict, _NEXT[MIXED])}"
    if execution == CUDA_GRAPH:
        return "Next: one launch of a graph per pass is too many; capture several steps in one."
    return (
        "Next: launch fewer kernels from Python: torch.compile (--compile) fuses them, a CUDA "
        "graph (--cuda-graph) replays them; GPU idle shows which parts wait most."
    )


def sentences(records: Sequence[TimingRecord], shown: TimingRecord) -> tuple[str, ...]:
    """What dominates: the device or the wait for it, and the largest parts.

    Args:
        records: of one config and phase, at least one.
        shown: the one of them whose parts the tables show.
    """
    share = device_share(records)
    found = [share.sentence] if share is not None else []
    found.append(largest_parts(shown.times.forward, share is not None))
    return (*found, *_outside_of_ranges(shown))


def _outside_of_ranges(shown: TimingRecord) -> tuple[str, ...]:
    """Of a whole trace: that its ranges stand for a part of the device's time alone."""
    share = unattributed_share(shown.times)
    if shown.phase != labels.WHOLE_TRACE or share < _MUCH_OUTSIDE:
        return ()
    return (
        f"{share:.1%} of all CUDA time belongs to none of these ranges and is in no row; "
        "--ledger FILE --kernels names its kernels.",
    )


def device_share(records: Sequence[TimingRecord]) -> DeviceShare | None:
    """How busy the device was in the passes of one config; None where no device was recorded, or
    nothing that the passes launched ran while it was: they were captured in a graph, say.
    """
    if not is_on_device(records):
        return None
    carried_ns = median(record.times.communication_ns for record in records)
    if any(record.total_ns is not None for record in records):
        busy_ns = median(record.times.busy_ns for record in records)
        idle = sum_idle(record.times.idle for record in records)
        return DeviceShare(
            busy_ns, median_bare_ns(records), True, idle, communication_ns=carried_ns
        )
    if records[0].phase == labels.WHOLE_TRACE:
        times = [record.times for record in records]
        spans = [each.busy_ns + each.gap_ns for each in times]
        busy_ns = median(each.busy_ns for each in times)
        idle = sum_idle(each.idle for each in times)
        return DeviceShare(
            busy_ns, median(spans), False, idle, is_trace=True, communication_ns=carried_ns
        )
    # A standalone trace tells of no bare pass; what its pass itself spans has the profiler's
    # delays in it, but not what lies between it and the next one. It is that of the tables, with
    # which a median of two passes would be at odds.
    shown = median_record(records)
    busy_ns, idle = _own_busy_ns(shown.times), _own_idle(shown.times.forward.total)
    if not busy_ns:
        return None
    carried_ns = shown.times.communication_ns
    return DeviceShare(busy_ns, busy_ns + idle.ns, False, idle, communication_ns=carried_ns)


def _own_busy_ns(times: PassTimes) -> int:
    """How long the device worked for what the pass's own label launched, at most."""
    return min(times.busy_ns, times.forward.total.device_ns)


def _own_idle(total: Times) -> IdleTimes:
    """Idle time that ended with events of the pass's own label."""
    known = total.starved_ns + total.launching_ns + total.queued_ns + total.blocked_ns
    return IdleTimes(
        in_graph_ns=total.gap_ns - known,
        queued_ns=total.queued_ns,
        blocked_ns=total.blocked_ns,
        launching_ns=total.launching_ns,
        starved_ns=total.starved_ns,
    )


def source_sentence(totals: Totals) -> str:
    """From which passes the times are, and how much these were disturbed; empty of a lone trace."""
    overhead, shown = totals.overhead, totals.passes[0]
    if overhead is None:
        return ""
    traced = f"traced passes ({overhead_words(totals, overhead.traced)})"
    clock, device = traced, traced
    if shown.cpu_source == "clock" and overhead.clock is not None:
        clock = f"clock passes ({overhead_words(totals, overhead.clock)})"
    if shown.idle_source == "device" and overhead.device is not None:
        device = f"device passes ({overhead_words(totals, overhead.device)})"
    if not is_on_device(totals.passes):
        return f"CPU times are from {clock}."
    if clock == device:
        return f"All times of parts are from {traced}."
    who = "" if traced in (clock, device) else f"; who launched what, from {traced}"
    return f"CPU times are from {clock}, device times from {device}{who}."


def overhead_words(totals: Totals, ratio: float) -> str:
    """How long watched passes took against bare ones: `1.31x bare`.

    The overhead is within noise where they took no longer than the slowest bare pass did.
    """
    bare_ns = totals.all_bare_ns
    slowest = max(bare_ns) / median(bare_ns) if bare_ns else 1.0
    within = ", overhead within noise" if ratio <= slowest else ""
    return f"{ratio:.2f}x bare{within}"


def largest_parts(forward: Part, on_device: bool) -> str:
    """The parts that hold no named ones, each summed over the layers, largest first; and what of
    their containers no part explains.

    Of a whole trace the ranges, each without those inside it.
    """
    times: Counter[str] = Counter()
    if forward.name == labels.WHOLE_TRACE:
        for part in forward.each():
            if part.name != labels.WHOLE_TRACE:
                times[short_name(part)] += ns_of(part.own, on_device)
        return _most_time(times, forward, on_device)
    for name, part, inside in _smallest(forward):
        apart = sum(ns_of(each.total, on_device) for each in inside)
        times[name] += ns_of(part.total, on_device) - apart
    return _most_time(times, forward, on_device)


def _most_time(times: Counter[str], forward: Part, on_device: bool) -> str:
    whole = ns_of(forward.total, on_device)
    times[labels.OTHER] += whole - times.total()
    if not whole:
        return ""
    top = [(n, ns) for n, ns in times.most_common(_NAMED_PARTS) if ns >= _LEAST_SHARE * whole]
    if not top:
        return ""
    named = ", ".join(f"{name} {ns / whole:.1%}" for name, ns in top)
    total = sum(ns for _, ns in top) / whole
    kind = "CUDA" if on_device else "CPU"
    in_total = f"; top {len(top)}: {total:.1%} in total" if len(top) > 1 else ""
    where = " inside these ranges" if forward.name == labels.WHOLE_TRACE else ""
    return f"Most {kind} time{where}: {named}{in_total}."


def idle_classes(idle: IdleTimes) -> str:
    """Whose turn it was while the device idled, in shares."""
    shares = sorted(idle._asdict().items(), key=lambda item: -item[1])
    named = [
        f"{name.removesuffix('_ns').replace('_', ' ')} {ns / idle.ns:.0%}"
        for name, ns in shares
        if ns >= _LEAST_IDLE * idle.ns > 0
    ]
    return f"idle: {', '.join(named)}" if named else "the GPU was never idle"


def idle_sentences(shown: TimingRecord) -> tuple[str, ...]:
    """The longest idle times of the traced pass, as far as they are long."""
    span_ns = shown.times.busy_ns + shown.times.gap_ns
    return tuple(
        _idle_sentence(each, is_longest=not at)
        for at, each in enumerate(shown.times.stretches[:_NAMED_STRETCHES])
        if each.idle.ns > _LONG_SHARE * span_ns
    )


def _idle_sentence(stretch: IdleStretch, is_longest: bool) -> str:
    before = f" before {stretch.before}" if stretch.before else ""
    host = f"; the host was in {stretch.host}" if stretch.host else ""
    turn = longest_class(stretch.idle)
    idle_ms = stretch.idle.ns / _NS_PER_MS
    if is_longest:
        return f"Longest idle: {idle_ms:.3f} ms{before}, mostly {turn}{host}."
    return f"Next longest: {idle_ms:.3f} ms{before}, mostly {turn}{host}."


def longest_class(idle: IdleTimes) -> str:
    """Whose turn it was for the most of an idle time."""
    return _class_name(max(idle._asdict().items(), key=lambda item: item[1])[0])


def _class_name(field: str) -> str:
    return field.removesuffix("_ns").replace("_", " ")


def noise(times_ns: Sequence[float]) -> str:
    """How much these times of the same pass vary; empty where that is little, or not known."""
    if not times_ns or not is_noisy(stats := spread(times_ns)):
        return ""
    return f"IQR is {stats['iqr'] / stats['median']:.1%} of the median, over {NOISY:.0%}"


def unattributed_share(times: PassTimes) -> float:
    """How much of the device's time belongs to no label."""
    return times.unattributed_ns / times.device_ns if times.device_ns else 0.0


def all_findings(passes: Iterable[TimingRecord]) -> tuple[Finding, ...]:
    """What is odd in the traces, each once."""
    return tuple(dict.fromkeys(finding for each in passes for finding in each.findings))


def severe_findings(passes: Iterable[TimingRecord]) -> tuple[Finding, ...]:
    """Of these what may make a time wrong, not what is only noted."""
    return tuple(finding for finding in all_findings(passes) if finding.severity != NOTE)


def _smallest(forward: Part) -> Iterator[tuple[str, Part, tuple[Part, ...]]]:
    """The parts below the containers of our grammar, each with the collectives inside it.

    What another program has below them, such as the activation in the experts, is theirs.
    """
    waiting = [] if forward.name == labels.WHOLE_TRACE else list(forward.parts)
    while waiting:
        part = waiting.pop()
        label = labels.parse(part.name)
        is_leaf = label is None or label.kind == "leaf"
        # A block whose parts nobody labelled is a part itself.
        is_leaf |= label is not None and label.kind in blocks() and not part.parts
        if part.name == labels.BACKWARD or not is_leaf:
            waiting += part.parts
            continue
        inside = tuple(each for each in collectives(part) if each is not part)
        yield short_name(part), part, inside
        waiting += inside
