"""The records of one config in, the lines of their totals out: medians over the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from qwen3_profile import labels
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.summary import spread
from qwen3_profile.views.terminal.cells import milliseconds


def totals(records: Sequence[TimingRecord], on_device: bool) -> str:
    """The wall-clock without and with the profiler, and the device's sums; each with its range."""
    lines = []
    bare = [record.total_ns for record in records if record.total_ns is not None]
    traced = [record.profiled_ns for record in records if record.profiled_ns is not None]
    if bare and traced:
        ratio = median(traced) / median(bare)
        what = "training step" if records[0].phase == labels.TRAIN_STEP else "forward pass"
        lines.append(_total("total_time", bare, f"one {what}, no profiler, no labels"))
        lines.append(_total("profiled_time", traced, f"with both; disturbance: {ratio:.2f} times"))
    rates = [rate for record in records if (rate := record.tokens_per_second) is not None]
    if rates:
        lines.append(_rates(rates, records[0].phase))
    if on_device:
        lines += _device_totals(records)
    return "\n".join(lines)


def _rates(rates: Sequence[float], phase: str) -> str:
    low, high = min(rates), max(rates)
    of = "chosen in a bare step" if phase == "decode" else "of the input in a bare pass"
    span = f"[{low:.1f} .. {high:.1f}]"
    return f"{'tokens/s':<14}{median(rates):>12.1f}  {span:<24}  {of}, all sequences"


def _device_totals(records: Sequence[TimingRecord]) -> list[str]:
    def values(read: Callable[[TimingRecord], int]) -> list[int]:
        return [read(record) for record in records]

    events = int(median(values(lambda record: record.times.device_events)))
    spare = values(lambda record: record.times.unattributed_ns)
    lines = [
        _total("cuda_total", values(lambda r: r.times.device_ns), f"{events} device events"),
        _total("cuda_busy", values(lambda r: r.times.busy_ns), "the union of their intervals"),
        _total("cuda_gap", values(lambda r: r.times.gap_ns), "the device had nothing to do"),
        _total("unattributed", spare, _reasons(records)),
    ]
    return lines


def _reasons(records: Sequence[TimingRecord]) -> str:
    found = dict.fromkeys(item.reason for r in records for item in r.times.unattributed)
    return ", ".join(found) or "every device event has its label"


def _total(name: str, values: Sequence[float], meaning: str) -> str:
    stats = spread(values)
    low, high = milliseconds(stats["min"]), milliseconds(stats["max"])
    span = f"[{low} .. {high}]"
    return f"{name:<14}{milliseconds(stats['median']):>12}  {span:<24}  {meaning}"
