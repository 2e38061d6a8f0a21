"""A forward pass in, its table of parts out: what each takes, summed over the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile import labels
from qwen3_profile.attribution.parts import Part, Times, sum_times
from qwen3_profile.passes.pass_times import layers, short_name
from qwen3_profile.views.terminal.cells import device, milliseconds, shared

_HEAD = 29  # a longer name, of a kernel that computes many parts, has a line of its own


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: the times of one name, summed over the layers."""

    name: str
    times: Times
    indent: int = 0


def part_table(forward: Part, on_device: bool) -> str:
    """A row per part, below the one that it is part of, and what the columns mean."""
    whole = shared(forward.total, on_device)
    lines = [_columns("part, all layers", "calls", "cpu", "cuda", "events", "idle", "share")]
    for row in part_rows(forward):
        times = row.times
        lines.append(
            _columns(
                "  " * row.indent + row.name,
                str(times.calls) if times.calls else "",
                milliseconds(times.cpu_ns),
                device(times, on_device),
                str(times.device_events) if on_device else "-",
                milliseconds(times.gap_ns) if on_device else "-",
                f"{shared(times, on_device) / whole:.1%}" if whole else "",
            )
        )
    lines.append(
        "share: of the forward pass's cuda; idle: how long the device waited for these events"
        if on_device
        else "share: of the forward pass's cpu; no device events in this trace"
    )
    return "\n".join(lines)


def _columns(*cells: str) -> str:
    widths = (9, 13, 13, 9, 13, 9)
    head, *rest = cells
    tail = "".join(f"{cell:>{width}}" for cell, width in zip(rest, widths, strict=True))
    if len(head) >= _HEAD:
        return f"{head}\n{'':<{_HEAD}}{tail}"
    return f"{head:<{_HEAD}}{tail}"


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
    return Times(0, *(getattr(times, field) for field in Times._fields[1:]))
