"""The records of one config in, the tables of the terminal out. At most 100 columns, no colour.

All times are in milliseconds with three digits, so that a column can be compared at a glance.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from qwen3_profile import labels
from qwen3_profile.parts import Part, Times, sum_times
from qwen3_profile.records import TimingRecord
from qwen3_profile.steps import layers, short_name
from qwen3_profile.summary import NOISY, is_noisy, spread
from qwen3_profile.views.decode import context_table, token_line
from qwen3_profile.views.story import sentences

# A model with more layers is shown in ranges of layers, so that its table fits a screen.
_MOST_ROWS = 40
_FOLDED_ROWS = 24

_WIDTH = 100
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: times of one name, medians over the runs of a config."""

    name: str
    times: Times
    indent: int = 0


def render(records: Sequence[TimingRecord]) -> str:
    """The tables of one config: what was measured, its layers, its parts, and what to doubt.

    Args:
        records: of one config and phase, at least one; the tables show the median one.
    """
    singles = [single for record in records for single in record.one_by_one()]
    shown = median_record(singles)
    forward = shown.times.forward
    on_device = any(record.times.device_events for record in records)
    blocks = [
        _heading(singles, shown),
        _layer_table(forward, on_device),
        _part_table(forward, on_device),
        _totals(singles, on_device),
        token_line(records),
        context_table(singles),
        "\n".join(_wrap(line) for line in sentences(singles, shown)),
        _warnings(singles),
    ]
    return "\n\n".join(block for block in blocks if block)


def median_record(records: Sequence[TimingRecord]) -> TimingRecord:
    """The record whose forward pass is the median one (the lower of two), so that it adds up."""
    ranked = sorted(records, key=lambda record: record.times.forward.total.cpu_ns)
    return ranked[(len(ranked) - 1) // 2]


def milliseconds(ns: float) -> str:
    """Nanoseconds as milliseconds to the microsecond; `0` only where there is nothing at all."""
    return f"{ns / _NS_PER_MS:.3f}" if ns else "0"


def _heading(records: Sequence[TimingRecord], record: TimingRecord) -> str:
    facts, config = record.facts, record.config
    lines = []
    if facts.model is not None:
        model = facts.model
        layers_of = f"{model.num_layers} layers"
        if model.num_layers != model.model_layers:
            layers_of = f"the first {model.num_layers} of {model.model_layers} layers"
        lines.append(f"{model.name}, {layers_of}, {model.weights} weights, on {_place(record)}")
    if config is None:
        device = f", on {facts.device}" if facts.device else ""
        if facts.model_class is not None:
            lines.append(_foreign_model(record))
        lines.append(
            f"{record.phase} in {facts.trace}: step {record.times.number}, "
            f"the median of {len(records)}{device}"
        )
    else:
        lines.append(
            f"{record.phase}: batch {config.batch_size} x {config.input_len} tokens, "
            f"{config.dtype}, {facts.attn_implementation} attention; "
            f"{_which(record)}, the median of {len(records)}"
        )
    lines.append("times in ms; cpu: wall-clock on the host; cuda: device events launched inside")
    return "\n".join(_wrap(line) for line in lines)


def _foreign_model(record: TimingRecord) -> str:
    """What is known of a model whose trace another program recorded."""
    count = len(layers(record.times.forward))
    layers_of = f"{count} layer{'' if count == 1 else 's'}"
    rank = "" if record.facts.rank is None else f", rank {record.facts.rank}"
    told = record.phase_source.removeprefix("annotation: ")
    phase = "phase unknown" if told == "unknown" else f"{record.phase} by {told}"
    return f"{record.facts.model_class}, {layers_of} by its modules{rank}, {phase}"


def _which(record: TimingRecord) -> str:
    if not record.traced:
        return f"run {record.run_index}"
    step = record.traced[0]
    return f"run {record.run_index}, step {step.position} with a context of {step.context_len}"


def _wrap(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _place(record: TimingRecord) -> str:
    environment, device = record.facts.environment, record.facts.device or ""
    if environment is None:
        return device
    name = environment.cpu if device == "cpu" else environment.device_name
    threads = f", {environment.cpu_threads} threads" if device == "cpu" else ""
    return f"{device} ({name}{threads})"


def _layer_table(forward: Part, on_device: bool) -> str:
    all_layers = layers(forward)
    if not all_layers:
        return ""
    whole = _shared(forward.total, on_device)
    lines = [_columns("layer", "attn", "attn_cuda", "ffn", "ffn_cuda", "share")]
    for name, group in _groups(all_layers):
        attn, ffn = (_mean_block(group, block) for block in ("attn", "ffn"))
        share = len(group) * (_shared(attn, on_device) + _shared(ffn, on_device))
        lines.append(_layer_line(name, attn, ffn, on_device, share / whole if whole else 0.0))
    attn, ffn = (sum_times(_block(layer, b) for layer in all_layers) for b in ("attn", "ffn"))
    share = _shared(attn, on_device) + _shared(ffn, on_device)
    lines.append(_rule())
    lines.append(_layer_line("all", attn, ffn, on_device, share / whole if whole else 0.0))
    if len(all_layers) > _MOST_ROWS:
        lines.append("A row of several layers shows their mean; its share is theirs together.")
    return "\n".join(lines)


def _groups(all_layers: Sequence[Part]) -> list[tuple[str, Sequence[Part]]]:
    """Layers one by one, or in ranges of equal length where there are many."""
    count = len(all_layers)
    size = 1 if count <= _MOST_ROWS else -(-count // _FOLDED_ROWS)
    groups = [all_layers[at : at + size] for at in range(0, count, size)]
    return [(_range_name(group), group) for group in groups]


def _range_name(group: Sequence[Part]) -> str:
    first, last = short_name(group[0]), short_name(group[-1])
    return first if first == last else f"{first}-{last}"


def _block(layer: Part, block: str) -> Times:
    part = layer.find(f"{layer.name}.{block}")
    return part.total if part is not None else Times()


def _mean_block(group: Sequence[Part], block: str) -> Times:
    total = sum_times(_block(layer, block) for layer in group)
    return Times(*(getattr(total, field) // len(group) for field in Times.__slots__))


def _layer_line(name: str, attn: Times, ffn: Times, on_device: bool, share: float) -> str:
    return _columns(
        name,
        milliseconds(attn.cpu_ns),
        _device(attn, on_device),
        milliseconds(ffn.cpu_ns),
        _device(ffn, on_device),
        f"{share:.1%}",
    )


def _columns(*cells: str) -> str:
    head, *rest = cells
    return f"{head:>9}" + "".join(f"{cell:>14}" for cell in rest)


def _rule() -> str:
    return "-" * (9 + 14 * 5)


def _part_table(forward: Part, on_device: bool) -> str:
    whole = _shared(forward.total, on_device)
    lines = [_part_columns("part, all layers", "calls", "cpu", "cuda", "events", "idle", "share")]
    for row in part_rows(forward):
        times = row.times
        lines.append(
            _part_columns(
                "  " * row.indent + row.name,
                str(times.calls) if times.calls else "",
                milliseconds(times.cpu_ns),
                _device(times, on_device),
                str(times.device_events) if on_device else "-",
                milliseconds(times.gap_ns) if on_device else "-",
                f"{_shared(times, on_device) / whole:.1%}" if whole else "",
            )
        )
    lines.append(
        "share: of the forward pass's cuda; idle: how long the device waited for these events"
        if on_device
        else "share: of the forward pass's cpu; no device events in this trace"
    )
    return "\n".join(lines)


def _part_columns(*cells: str) -> str:
    widths = (9, 13, 13, 9, 13, 9)
    head, *rest = cells
    tail = "".join(f"{cell:>{width}}" for cell, width in zip(rest, widths, strict=True))
    return f"{head:<29}{tail}"


def part_rows(forward: Part) -> list[Row]:
    """The forward pass, what lies outside the layers, and each part summed over the layers."""
    rows = [Row(forward.name, forward.total)]
    all_layers = layers(forward)
    inside = set(all_layers)
    placed = False
    for part in forward.parts:
        if part not in inside:
            rows.append(Row(short_name(part), part.total, 1))
        elif not placed:
            rows += _summed_rows(all_layers, "layers", 1)
            placed = True
    return [*rows, Row(labels.OTHER, _uncalled(forward.own), 1)]


def _summed_rows(parts: Sequence[Part], name: str, indent: int) -> list[Row]:
    """The same part of all layers, and below it the sums of its children."""
    rows = [Row(name, sum_times(part.total for part in parts), indent)]
    names = dict.fromkeys(short_name(child) for part in parts for child in part.parts)
    for child_name in names:
        same = [c for part in parts for c in part.parts if short_name(c) == child_name]
        rows += _summed_rows(same, child_name, indent + 1)
    if names:
        own = sum_times(part.own for part in parts)
        rows.append(Row(labels.OTHER, _uncalled(own), indent + 1))
    return rows


def _uncalled(times: Times) -> Times:
    return Times(0, *(getattr(times, field) for field in Times.__slots__[1:]))


def _totals(records: Sequence[TimingRecord], on_device: bool) -> str:
    lines = []
    bare = [record.total_ns for record in records if record.total_ns is not None]
    traced = [record.profiled_ns for record in records if record.profiled_ns is not None]
    if bare and traced:
        ratio = median(traced) / median(bare)
        lines.append(_total("total_time", bare, "one forward pass, no profiler, no labels"))
        lines.append(_total("profiled_time", traced, f"with both; disturbance: {ratio:.2f} times"))
    if on_device:
        lines += _device_totals(records)
    return "\n".join(lines)


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


def _warnings(records: Sequence[TimingRecord]) -> str:
    lines = []
    bare = [record.total_ns for record in records if record.total_ns is not None]
    if bare and is_noisy(stats := spread(bare)):
        share = stats["iqr"] / stats["median"]
        lines.append(f"total_time is noisy: its IQR is {share:.0%} of the median, over {NOISY:.0%}")
    lines += dict.fromkeys(f.message for record in records for f in record.findings)
    return "\n".join(_wrap(f"warning: {line}") for line in lines)


def _shared(times: Times, on_device: bool) -> int:
    return times.device_ns if on_device else times.cpu_ns


def _device(times: Times, on_device: bool) -> str:
    return milliseconds(times.device_ns) if on_device else "-"
