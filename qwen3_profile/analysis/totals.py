"""The headline times of a config: of each, what every pass took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.analysis.median_pass import incomplete_passes, single_passes
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import Overhead, TimingRecord, overhead_of


@dataclass(frozen=True, slots=True)
class GraphSpeedup:
    """A bare pass run eagerly, and replayed as a CUDA graph; medians in ns."""

    eager_ns: float
    graph_ns: float

    @property
    def ratio(self) -> float:
        return self.eager_ns / self.graph_ns


@dataclass(frozen=True, slots=True)
class Totals:
    """All times in ns, one for each pass of which it is known.

    passes: the traced passes, one forward pass each.
    incomplete: how many more there are, that the profiler lost device events of.
    bare_ns, profiled_ns: of these, without and with profiler and labels.
    eager_ns: of replays of a graph, the bare eager passes next to them.
    steps_ns: of a decode every bare step, traced or not.
    runs_ns: of each run its bare passes, in order: the steps of a decode, else one.
    tokens_per_second: of each record.
    overhead: how many times as long as bare the passes took however they were watched; the medians
        over all pairs of such a pass and the bare one that goes with it.
    """

    passes: tuple[TimingRecord, ...]
    incomplete: int
    bare_ns: tuple[float, ...]
    profiled_ns: tuple[float, ...]
    eager_ns: tuple[float, ...]
    steps_ns: tuple[int, ...]
    runs_ns: tuple[tuple[float, ...], ...]
    tokens_per_second: tuple[float, ...]
    overhead: Overhead | None

    @property
    def all_bare_ns(self) -> tuple[float, ...]:
        """Every bare time that was measured: of a decode every step, traced or not."""
        return self.steps_ns or self.bare_ns

    @property
    def graph_speedup(self) -> GraphSpeedup | None:
        """What replaying the pass as a graph gained; None where it was not."""
        if not self.eager_ns or not self.bare_ns:
            return None
        return GraphSpeedup(median(self.eager_ns), median(self.bare_ns))


def totals_of(records: Sequence[TimingRecord]) -> Totals:
    """The totals of one config and phase."""
    passes = single_passes(records)
    bare = (each.total_ns for each in passes)
    profiled = (each.profiled_ns for each in passes)
    rates = (record.tokens_per_second for record in records)
    return Totals(
        passes=passes,
        incomplete=incomplete_passes(records),
        bare_ns=tuple(ns for ns in bare if ns is not None),
        profiled_ns=tuple(ns for ns in profiled if ns is not None),
        eager_ns=tuple(each.eager.bare_ns for each in passes if each.eager is not None),
        steps_ns=tuple(ns for record in records for ns in record.step_times_ns),
        runs_ns=tuple(_bare_passes(record) for record in records if record.total_ns is not None),
        tokens_per_second=tuple(rate for rate in rates if rate is not None),
        overhead=overhead_of([walls for record in records for walls in record.walls]),
    )


def _bare_passes(record: TimingRecord) -> tuple[float, ...]:
    return record.step_times_ns or (record.total_ns or 0.0,)
