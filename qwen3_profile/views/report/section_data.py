"""The records of one config in, what each section of a report speaks of out, gathered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.report.layers import (
    LayerTimes,
    Outlier,
    find_outliers,
    layer_times,
    some_passes,
)
from qwen3_profile.views.report.rows import PartRow, part_tree
from qwen3_profile.views.report.shown_pass import ShownPass
from qwen3_profile.views.terminal.tables import median_record
from qwen3_profile.views.terminal.verdict import DeviceShare, device_share


@dataclass(frozen=True, slots=True)
class Config:
    """One config and phase as a report shows it.

    records: as they were given; of each measured run one.
    passes: the same, one forward pass each. shown: the median one, which every table is of.
    compared: how many passes were looked at for layers that stand out.
    share: None where no device was recorded.
    trace: what the raw trace of `shown` adds; None where it is not at hand.
    """

    records: tuple[TimingRecord, ...]
    passes: tuple[TimingRecord, ...]
    shown: TimingRecord
    rows: tuple[PartRow, ...]
    layers: LayerTimes
    outliers: tuple[Outlier, ...]
    compared: int
    share: DeviceShare | None
    trace: ShownPass | None

    @property
    def on_device(self) -> bool:
        return self.share is not None


def shown_record(records: Sequence[TimingRecord]) -> TimingRecord:
    """The forward pass of a config that a report shows: the median one, as in the terminal."""
    return median_record([single for record in records for single in record.one_by_one()])


def gather(records: Sequence[TimingRecord], trace: ShownPass | None) -> Config:
    """All that the sections need.

    Args:
        records: of one config and phase, at least one.
        trace: of `shown_record(records)`.
    """
    passes = tuple(single for record in records for single in record.one_by_one())
    shown = median_record(passes)
    rows = part_tree(shown.times.forward)
    layers = layer_times(shown.times.forward, rows)
    chosen = [passes[at] for at in some_passes(len(passes))]
    compared = [layer_times(each.times.forward, part_tree(each.times.forward)) for each in chosen]
    return Config(
        records=tuple(records),
        passes=passes,
        shown=shown,
        rows=rows,
        layers=layers,
        outliers=find_outliers(layers, compared),
        compared=len(compared),
        share=device_share(passes),
        trace=trace,
    )
