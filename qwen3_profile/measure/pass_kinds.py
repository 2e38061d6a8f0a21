"""The kinds of pass of which a measured run is made, and what watches each.

A run takes them one after the other, in the order of `PASS_KINDS`. Another kind is another row
there: no execution asks which kinds there are, only what one of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qwen3_profile.measure.config_files import TraceSlot
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import Phase

# What a series is measured for: itself, or to explain a graph's replays beside it.
Variant = Literal["", "eager", "captured"]


@dataclass(frozen=True, slots=True, eq=False)
class PassSeries:
    """Forward passes of one phase, each the next step after the one before.

    forward: runs the next of them.
    lead_in: a pass that nobody looks at; it leaves the series where it is.
    steps: how many there are; chosen: the positions of those to trace.
    variant: "eager" and "captured" lie beside the replays of a graph; see `EagerPass`.
    nodes: of a graph, node id -> label, where torch can tell.
    """

    phase: Phase
    forward: Callable[[], object]
    lead_in: Callable[[], None]
    steps: int = 1
    chosen: tuple[int, ...] = (0,)
    variant: Variant = ""
    nodes: Mapping[int, str] = field(default_factory=dict)


# Each is run before the next is asked for; what it needs holds until then.
SeriesOfPasses = Generator[PassSeries, None, None]


@dataclass(frozen=True, slots=True)
class Taken:
    """One pass that was measured: its wall-clock, and its session if there was one."""

    wall_ns: int
    step: int = 0
    trace: str = ""
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PassKind:
    """What watches a pass.

    take: runs the next pass of a series, watched; the slot is for the session, if it needs one.
    labelled: whether the model's parts are labelled meanwhile.
    in_session: whether passes run in sessions of the profiler, which no CUDA graph outlives.
    every_step: whether all steps of a decode are taken, one right after the other; else the chosen.
    """

    name: str
    take: Callable[[Recorder, PassSeries, Callable[[], TraceSlot]], Taken]
    labelled: bool = False
    in_session: bool = False
    every_step: bool = False

    @property
    def tells_launches(self) -> bool:
        """Whether its traces say which label launched each kernel."""
        return self.labelled and self.in_session

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


BARE = PassKind("bare", _take_bare, every_step=True)
TRACED = PassKind("traced", _take_traced, labelled=True, in_session=True)
PASS_KINDS = (BARE, TRACED)
