"""For how much of its passes a device is busy, and in a word what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import is_on_device, median_bare_ns, median_record
from qwen3_profile.attribution.idle import IdleTimes, sum_idle
from qwen3_profile.attribution.parts import Times
from qwen3_profile.config import CUDA_GRAPH
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord

# A device that is busy for less of the time than this mostly idles; for more of it than that, it is
# what the forward pass waits for. Between the two neither sentence would be true.
MOSTLY_IDLE = 0.5
MOSTLY_BUSY = 0.9
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
