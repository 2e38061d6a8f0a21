"""The kinds of pass of which a measured run is made, and what watches each.

A run takes them one after the other, in the order of `PASS_KINDS`. Another kind is another row
there: no execution asks which kinds there are, only what one of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qwen3_profile.measure.clock import Clock
from qwen3_profile.measure.config_files import TraceSlot
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import PROFILER_RANGES, LabelMaker, Phase
from qwen3_profile.run_folder.clocked import ClockedLabels
from qwen3_profile.run_folder.run_json import DevicePass

# What a series is measured for: itself, or to explain a graph's replays beside it.
Variant = Literal["", "eager", "captured"]


@dataclass(frozen=True, slots=True, eq=False)
class PassSeries:
    """Forward passes of one phase, each the next step after the one before.

    forward: runs the next of them.
    lead_in: a pass that nobody looks at; it leaves the series where it is.
    steps: how many there are; chosen: the positions of those to trace.
    variant: "eager" and "captured" lie beside the replays of a graph; see `EagerPass`.
    rewind: puts it back before its first pass, from which it then can be run again; None where
        nothing can.
    nodes: of a graph, node id -> label, where torch can tell.
    pool_bytes: of a graph, tells what its own pool of memory holds.
    """

    phase: Phase
    forward: Callable[[], object]
    lead_in: Callable[[], None]
    steps: int = 1
    chosen: tuple[int, ...] = (0,)
    variant: Variant = ""
    rewind: Callable[[], object] | None = None
    nodes: Mapping[int, str] = field(default_factory=dict)
    pool_bytes: Callable[[], int] | None = None


# Each is run before the next is asked for; what it needs holds until then.
SeriesOfPasses = Generator[PassSeries, None, None]


@dataclass(frozen=True, slots=True)
class Taken:
    """One pass that was measured: its wall-clock, and its session if there was one.

    clocked: what its labels took, where they read the clock.
    device: what is known of it where the device's work alone was recorded.
    sm_mhz: the GPU's clock before and after it; empty where nobody asked for it, or knew.
    """

    wall_ns: int
    step: int = 0
    trace: str = ""
    messages: tuple[str, ...] = ()
    clocked: ClockedLabels | None = None
    device: DevicePass | None = None
    sm_mhz: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PassKind:
    """What watches a pass.

    take: runs the next pass of a series, watched; the slot is for the session, if it needs one.
    labels: what makes labels of the model's parts meanwhile; None where they have none.
    in_session: whether passes run in sessions of the profiler, which no CUDA graph outlives.
    every_step: whether all steps of a decode are taken, one right after the other; else the chosen.
    needs_device: whether there is nothing to see without a device that can be recorded alone.
    """

    name: str
    take: Callable[[Recorder, PassSeries, Callable[[], TraceSlot]], Taken]
    labels: LabelMaker | None = None
    in_session: bool = False
    every_step: bool = False
    needs_device: bool = False

    def is_between(self, series: PassSeries, position: int) -> bool:
        """Whether a step lies between others of which each begins where the last one ends."""
        return self.every_step and 0 < position < series.steps - 1

    @property
    def tells_launches(self) -> bool:
        """Whether its traces say which label launched each kernel."""
        return self.labels is not None and self.in_session

    def positions(self, series: PassSeries) -> tuple[int, ...]:
        """Which passes of `series` are taken; those before and between them only run."""
        return tuple(range(series.steps)) if self.every_step else series.chosen


def _take_bare(recorder: Recorder, series: PassSeries, _: Callable[[], TraceSlot]) -> Taken:
    return Taken(recorder.timed(series.forward))


def _take_traced(
    recorder: Recorder, series: PassSeries, next_slot: Callable[[], TraceSlot]
) -> Taken:
    slot = next_slot()
    traced = recorder.traced(series.forward, series.lead_in, series.phase, slot.step, slot.path)
    return Taken(traced.profiled_ns, slot.step, slot.trace, traced.messages)


def _take_clocked(recorder: Recorder, series: PassSeries, _: Callable[[], TraceSlot]) -> Taken:
    wall_ns = recorder.clocked(series.forward, series.phase, _CLOCK)
    return Taken(wall_ns, clocked=_CLOCK.take())


def _take_device(
    recorder: Recorder, series: PassSeries, next_slot: Callable[[], TraceSlot]
) -> Taken:
    slot = next_slot()
    seen = recorder.device_only(series.forward, series.lead_in, slot.path)
    device = DevicePass(seen.wall_ns, seen.started_ns, slot.trace, seen.messages, seen.loud)
    return Taken(seen.wall_ns, device=device)


_CLOCK = Clock()
BARE = PassKind("bare", _take_bare, every_step=True)
CLOCK = PassKind("clock", _take_clocked, labels=_CLOCK, every_step=True)
DEVICE = PassKind("device", _take_device, in_session=True, needs_device=True)
TRACED = PassKind("traced", _take_traced, labels=PROFILER_RANGES, in_session=True)
# From the least disturbed to the most. What is compiled or captured has no labels for the clock.
PASS_KINDS = (BARE, CLOCK, DEVICE, TRACED)
WITHOUT_CLOCK = (BARE, TRACED)


def kinds_on(kinds: tuple[PassKind, ...], recorder: Recorder) -> tuple[PassKind, ...]:
    """Those of the kinds that there is something to see by."""
    alone = recorder.can_see_device_alone
    return tuple(kind for kind in kinds if alone or not kind.needs_device)
