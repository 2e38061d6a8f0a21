"""The table of parts: what each takes, summed over the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.analysis.part_rows import PartPath, PartRow, part_rows
from qwen3_profile.analysis.roofline import Roof
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.labels import OTHER, WHOLE_TRACE
from qwen3_profile.views.terminal.cells import milliseconds, roof_share, wrap
from qwen3_profile.views.terminal.table import Column, table

HEAD = "part, all layers"
_RANGES_HEAD = "range, with all in it"
# A trace of another program has as many ranges as its authors and its frameworks like.
_MOST_RANGES = 40
_LEAST_NAME = 29

Cells = tuple[PartRow, list[str]]


@dataclass(frozen=True, slots=True)
class PartColumn:
    """A column of times of a part.

    cell: of the part's times, of the pass's, and of whether a device was recorded.
    leave_out: as of a `Column`.
    in_markdown: whether TensorBoard's Text tab has it too, where there is less room.
    of_device: whether it is left out of a run without a device.
    """

    name: str
    leave_out: int
    cell: Callable[[Times, Times, bool], str]
    in_markdown: bool = True
    of_device: bool = False


COLUMNS = (
    PartColumn("calls", 2, lambda part, _, __: str(part.calls or "")),
    PartColumn("cpu", 0, lambda part, _, __: milliseconds(part.cpu_ns)),
    PartColumn("cuda", 0, lambda part, _, __: milliseconds(part.device_ns), of_device=True),
    PartColumn("events", 3, lambda part, _, __: str(part.device_events), False, of_device=True),
    PartColumn("idle", 1, lambda part, _, __: milliseconds(part.gap_ns), False, of_device=True),
    PartColumn("share", 0, lambda part, whole, on_device: _share(part, whole, on_device)),
)
ROOF = "of roof"


def part_table(
    forward: Part, on_device: bool, roofs: Mapping[PartPath, Roof] = MappingProxyType({})
) -> str:
    """A row per part, below the one that it is part of, and what the columns mean.

    Args:
        roofs: of the rows, where the ceilings are known.
    """
    by_ranges = forward.name == WHOLE_TRACE
    columns = columns_on(on_device)
    # Names of kernels that compute many parts are long, and say which.
    name = Column(
        _RANGES_HEAD if by_ranges else HEAD,
        left=True,
        least=_LEAST_NAME,
        own_line=not by_ranges,
        verbatim=True,
    )
    head = (name, *(Column(each.name, leave_out=each.leave_out) for each in columns), Column(ROOF))
    every = list(part_cells(forward, on_device, columns))
    shown = _largest(every, on_device) if by_ranges else every
    rows = []
    for row, cells in shown:
        roof = roof_share(roofs[row.path]) if row.path in roofs else ""
        rows.append(("  " * row.depth + row.name, *cells, roof))
    lines = [table(head, rows)]
    if by_ranges and len(shown) == _MOST_RANGES:
        lines.append(wrap(f"the {_MOST_RANGES} rows of the most time"))
    of = "these ranges'" if by_ranges else "the forward pass's"
    meaning = (
        f"share: of {of} cuda; idle: GPU idle time before these events"
        if on_device
        else f"share: of {of} cpu; no device events in this trace"
    )
    lines.append(wrap(meaning))
    if roofs:
        lines.append(
            wrap(
                "of roof: the least time that the measured ceilings allow, as a share of the time "
                "taken; m: memory bandwidth sets it; c: the rate of matrix products does"
            )
        )
        seen = [roofs[row.path] for row, _ in shown if row.path in roofs]
        if any(roof.is_at_a_higher_clock for roof in seen):
            lines.append(
                wrap(
                    "more than 100%: at a higher SM clock than the power of the products left them "
                    "that the ceiling was measured with"
                )
            )
        if any(roof.is_impossible for roof in seen):
            lines.append(
                wrap(
                    "over: faster than the ceiling allows, so do not trust the rate (data in a "
                    "cache, or fewer FLOPs or bytes than counted)"
                )
            )
    return "\n".join(lines)


def _largest(every: list[Cells], on_device: bool) -> list[Cells]:
    """The rows of the most time, in their order; a range takes at least as long as those in it."""
    some = [each for each in every if each[0].name != OTHER or ns_of(each[0].times, on_device)]
    order = sorted(some, key=lambda each: -ns_of(each[0].times, on_device))
    kept = {each[0].path for each in order[:_MOST_RANGES]}
    return [each for each in some if each[0].path in kept]


def columns_on(
    on_device: bool, columns: tuple[PartColumn, ...] = COLUMNS
) -> tuple[PartColumn, ...]:
    """Those of the columns that have anything to show."""
    return tuple(column for column in columns if on_device or not column.of_device)


def part_cells(
    forward: Part, on_device: bool, columns: tuple[PartColumn, ...] = COLUMNS
) -> Iterator[Cells]:
    """Each part of the table, and its cells."""
    for row in part_rows(forward):
        yield row, [column.cell(row.times, forward.total, on_device) for column in columns]


def _share(part: Times, whole: Times, on_device: bool) -> str:
    whole_ns = ns_of(whole, on_device)
    return f"{ns_of(part, on_device) / whole_ns:.1%}" if whole_ns else ""
