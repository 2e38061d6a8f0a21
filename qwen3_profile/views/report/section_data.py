"""What the sections of a report on one config speak of, gathered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_profile.analysis.explain import Explanation, explain
from qwen3_profile.analysis.layer_times import LayerTimes, layer_times
from qwen3_profile.analysis.median_pass import median_record
from qwen3_profile.analysis.odd_layers import OddLayers, find_odd_layers
from qwen3_profile.analysis.part_rows import PartRow, part_tree
from qwen3_profile.analysis.totals import Totals, totals_of
from qwen3_profile.analysis.verdict import DeviceShare, device_share
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.report.kernel_rows import KernelStats, LayerKernel
from qwen3_profile.views.report.timeline import Timeline

if TYPE_CHECKING:
    from qwen3_profile.views.report.rank_view import RankView


@dataclass(frozen=True, slots=True)
class ShownPass:
    """What the raw trace of one forward pass adds to its record.

    kernels: all kernels of the pass by part, name and launching operator, the longest first; of a
        pass without a device the operators.
    by_layer: the same kernels by part, layer and name; empty without a device.
    """

    kernels: tuple[KernelStats, ...]
    timeline: Timeline
    by_layer: tuple[LayerKernel, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """One config and phase as a report shows it.

    records: as they were given; of each measured run one.
    totals: their headline times. shown: the median pass, which every table is of.
    odd: layers that stand out.
    share: None where no device was recorded.
    trace: what the raw trace of `shown` adds; None where it is not at hand.
    explained: what holds its parts up; None where the device's roofs are not known.
    ranks: the same pass on all ranks; None where one process ran it.
    """

    records: tuple[TimingRecord, ...]
    totals: Totals
    shown: TimingRecord
    rows: tuple[PartRow, ...]
    layers: LayerTimes
    odd: OddLayers
    share: DeviceShare | None
    trace: ShownPass | None
    explained: Explanation | None
    ranks: RankView | None = None

    @property
    def passes(self) -> tuple[TimingRecord, ...]:
        """The records, one forward pass each."""
        return self.totals.passes

    @property
    def on_device(self) -> bool:
        return self.share is not None


def gather(records: Sequence[TimingRecord], trace: ShownPass | None) -> Config:
    """All that the sections need.

    Args:
        records: of one config and phase, at least one.
        trace: of `shown_record(records)`.
    """
    totals = totals_of(records)
    passes = totals.passes
    shown = median_record(passes)
    rows = part_tree(shown.times.forward)
    return Config(
        records=tuple(records),
        totals=totals,
        shown=shown,
        rows=rows,
        layers=layer_times(shown.times.forward, rows),
        odd=find_odd_layers(shown, passes),
        share=device_share(passes),
        trace=trace,
        explained=explain(records) if shown.facts.ceilings else None,
    )
