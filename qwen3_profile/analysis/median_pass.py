"""The pass that stands for a config: the median one of those that were traced.

A table shows one whole pass, not the medians of its parts, so that what is on a page adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen3_profile.attribution.parts import Times
from qwen3_profile.records.quantiles import median

if TYPE_CHECKING:
    from qwen3_profile.records.record import TimingRecord


def single_passes(records: Sequence[TimingRecord]) -> tuple[TimingRecord, ...]:
    """The traced passes of these records, one forward pass each.

    Those that the profiler lost device events of are left out, unless it did so of all.
    """
    passes = tuple(single for record in records for single in record.one_by_one())
    return tuple(each for each in passes if not each.times.lost_launches) or passes


def incomplete_passes(records: Sequence[TimingRecord]) -> int:
    """How many passes `single_passes` leaves out."""
    return sum(len(record.one_by_one()) for record in records) - len(single_passes(records))


def median_record(records: Sequence[TimingRecord]) -> TimingRecord:
    """The record whose forward pass is the median one by its CPU time, the lower of two."""
    ranked = sorted(records, key=lambda record: record.times.forward.total.cpu_ns)
    return ranked[(len(ranked) - 1) // 2]


def shown_record(records: Sequence[TimingRecord]) -> TimingRecord:
    """The forward pass that tables and pages show of a config."""
    return median_record(single_passes(records))


def is_on_device(records: Sequence[TimingRecord]) -> bool:
    """Whether any device event was recorded; if not, all times are those of the CPU."""
    return any(record.times.device_events for record in records)


def ns_of(times: Times, on_device: bool) -> int:
    """The time that counts, and that shares are of: the device's where there is one."""
    return times.device_ns if on_device else times.cpu_ns


def median_bare_ns(records: Sequence[TimingRecord]) -> float:
    """The median bare pass: of a decode over every step, of a prefill over the runs."""
    steps_ns = [ns for record in records for ns in record.step_times_ns]
    return median(steps_ns or [record.total_ns or 0.0 for record in records])
