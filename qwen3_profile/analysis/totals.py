"""The headline times of a config: of each, what every pass took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.analysis.median_pass import single_passes
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord


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
    bare_ns, profiled_ns: of these, without and with profiler and labels.
    eager_ns: of replays of a graph, the bare eager passes next to them.
    steps_ns: of a decode every bare step, traced or not.
    tokens_per_second, overheads: of each record; an overhead is how many times as long it took
        with profiler and labels.
    """

    passes: tuple[TimingRecord, ...]
    bare_ns: tuple[float, ...]
    profiled_ns: tuple[float, ...]
    eager_ns: tuple[float, ...]
    steps_ns: tuple[int, ...]
    tokens_per_second: tuple[float, ...]
    overheads: tuple[float, ...]

    @property
    def overhead(self) -> float | None:
        """How many times as long a pass took with profiler and labels: the median record."""
        return median(self.overheads) if self.overheads else None

    @property
    def overhead_of_medians(self) -> float | None:
        """The same of the median passes. It may differ, since it pairs no pass with its own."""
        if not self.bare_ns or not self.profiled_ns:
            return None
        return median(self.profiled_ns) / median(self.bare_ns)

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
    overheads = (record.disturbance for record in records)
    return Totals(
        passes=passes,
        bare_ns=tuple(ns for ns in bare if ns is not None),
        profiled_ns=tuple(ns for ns in profiled if ns is not None),
        eager_ns=tuple(each.eager.bare_ns for each in passes if each.eager is not None),
        steps_ns=tuple(ns for record in records for ns in record.step_times_ns),
        tokens_per_second=tuple(rate for rate in rates if rate is not None),
        overheads=tuple(ratio for ratio in overheads if ratio is not None),
    )
