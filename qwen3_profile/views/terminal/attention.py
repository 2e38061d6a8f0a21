"""The records of a run in, one table of the attention implementations that ran side by side out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from qwen3_profile import labels
from qwen3_profile.analysis.comparison_groups import render_alike
from qwen3_profile.attribution.parts import Part
from qwen3_profile.passes.pass_times import backward_of, layers
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.tables import attention_name

if TYPE_CHECKING:
    from qwen3_profile.config import RunConfig

_WIDTHS = (14, 19, 12, 14, 12, 7)
# What stands beside attention: the pass that it is part of, or its own backward.
_WHOLE = ("forward", "forward_cuda")
_OTHERS = {labels.TRAIN_STEP: ("..._bwd", "..._bwd_cuda")}


def render_backends(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """A table for each phase of the configs that differ in nothing but the attention.

    Args:
        groups: records of one config and phase each, of one run or of several.

    Returns:
        The tables, the first config of each being what the others are compared with; an empty
        text where no two configs can be compared.
    """
    return render_alike(groups, lambda config: replace(config, attn_implementation=None), _table)


def _table(phase: str, config: RunConfig, rows: Sequence[Sequence[TimingRecord]]) -> str:
    if len(rows) < 2:
        return ""
    total = "TPOT" if rows[0][0].step_times_ns else "total_time"
    where = f"batch {config.batch_size} x {config.input_len} tokens, {config.dtype}"
    lines = [
        wrap(f"attention compared, {phase}: {where}; the same weights and inputs, times in ms"),
        _columns("attention", "attn_forward", "attn_forward_cuda", *_OTHERS.get(phase, _WHOLE),
                 total, "ratio"),
    ]  # fmt: skip
    whole = _total_ns(rows[0])
    lines += [_row(records, whole) for records in rows]
    lines.append(
        f"medians over the runs; attn_forward: of all layers; ratio: {total} over the first line's"
    )
    if phase == labels.TRAIN_STEP:
        lines.append("..._bwd: attn_forward_bwd, its time in the backward")
    return "\n".join(lines)


def _row(records: Sequence[TimingRecord], first_ns: float) -> str:
    passes = [single for record in records for single in record.one_by_one()]
    on_device = any(each.times.device_events for each in passes)
    total_ns = _total_ns(records)
    cells = []
    second = _attention_bwd_ns if records[0].phase == labels.TRAIN_STEP else _forward_ns
    for values in (_attention_ns, second):
        for column in ("cpu_ns", "device_ns"):
            shown = on_device or column == "cpu_ns"
            ns = median(values(each.times.forward, column) for each in passes)
            cells.append(milliseconds(ns) if shown else "-")
    ratio = f"{total_ns / first_ns:.2f}" if first_ns else ""
    return _columns(attention_name(records[0]), *cells, milliseconds(total_ns), ratio)


def _attention_ns(forward: Part, column: str) -> int:
    """The time of one pass inside `attn_forward`, all layers together."""
    found = 0
    for layer in layers(forward):
        attn = layer.find(f"{layer.name}.attn")
        part = attn.find(f"{attn.name}.attn_forward") if attn is not None else None
        found += int(getattr(part.total, column)) if part is not None else 0
    return found


def _attention_bwd_ns(forward: Part, column: str) -> int:
    """The same of the backward of a training step."""
    backward = backward_of(forward)
    return _attention_ns(backward, column) if backward is not None else 0


def _forward_ns(forward: Part, column: str) -> int:
    return int(getattr(forward.total, column))


def _total_ns(records: Sequence[TimingRecord]) -> float:
    """The median bare pass: of a decode over every step, of a prefill over the runs."""
    steps_ns = [ns for record in records for ns in record.step_times_ns]
    return median(steps_ns or [record.total_ns or 0.0 for record in records])


def _columns(*cells: str) -> str:
    head, *rest = cells
    tail = "".join(f"{cell:>{width}}" for cell, width in zip(rest, _WIDTHS, strict=True))
    return f"{head:<22}{tail}"
