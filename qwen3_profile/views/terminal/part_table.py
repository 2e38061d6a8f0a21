"""The table of parts: what each takes, summed over the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.analysis.part_rows import PartRow, part_rows
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.views.terminal.cells import Table, device, milliseconds

HEAD = "part, all layers"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of times of a part.

    cell: of the part's times, of the pass's, and of whether a device was recorded.
    in_markdown: whether TensorBoard's Text tab has it too, where there is less room.
    """

    name: str
    width: int
    cell: Callable[[Times, Times, bool], str]
    in_markdown: bool = True


COLUMNS = (
    Column("calls", 9, lambda part, _, __: str(part.calls or "")),
    Column("cpu", 13, lambda part, _, __: milliseconds(part.cpu_ns)),
    Column("cuda", 13, lambda part, _, on_device: device(part.device_ns, on_device)),
    Column(
        "events", 9, lambda part, _, on_device: str(part.device_events) if on_device else "-", False
    ),
    Column("idle", 13, lambda part, _, on_device: device(part.gap_ns, on_device), False),
    Column("share", 9, lambda part, whole, on_device: _share(part, whole, on_device)),
)
_TABLE = Table((-29, *(column.width for column in COLUMNS)))


def part_table(forward: Part, on_device: bool) -> str:
    """A row per part, below the one that it is part of, and what the columns mean."""
    lines = [_TABLE.line(HEAD, *(column.name for column in COLUMNS))]
    for row, cells in part_cells(forward, on_device):
        lines.append(_TABLE.line("  " * row.depth + row.name, *cells))
    lines.append(
        "share: of the forward pass's cuda; idle: how long the device waited for these events"
        if on_device
        else "share: of the forward pass's cpu; no device events in this trace"
    )
    return "\n".join(lines)


def part_cells(
    forward: Part, on_device: bool, columns: tuple[Column, ...] = COLUMNS
) -> Iterator[tuple[PartRow, list[str]]]:
    """Each part of the table, and its cells."""
    for row in part_rows(forward):
        yield row, [column.cell(row.times, forward.total, on_device) for column in columns]


def _share(part: Times, whole: Times, on_device: bool) -> str:
    whole_ns = ns_of(whole, on_device)
    return f"{ns_of(part, on_device) / whole_ns:.1%}" if whole_ns else ""
