"""How much processes differ, in a line for each config."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from qwen3_profile.analysis.process_spread import Spread
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.table import Column, table
from qwen3_profile.views.terminal.two_sides import percent

_COLUMNS = (
    Column("", left=True, least=29),
    Column("processes", leave_out=2),
    Column("ms"),
    Column("differ by"),
    Column("passes differ by", leave_out=1),
    Column("sees"),
)


def render_spreads(spreads: Iterable[Spread]) -> str:
    """A table for each config, and what its columns mean."""
    blocks = []
    for config, rows in groupby(spreads, key=lambda each: each.config):
        blocks.append(f"{wrap(config)}\n{table(_COLUMNS, [*map(_row, rows)])}")
    meaning = (
        "ms: geometric mean over the processes, of each the median pass; differ by: standard "
        "deviation; sees: the smallest slowdown that so many processes a side would find in 80% of "
        "comparisons"
    )
    return "\n\n".join((*blocks, wrap(meaning)))


def _row(row: Spread) -> tuple[str, ...]:
    between, within = percent(row.between), percent(row.within)
    cells = (str(row.processes), milliseconds(row.mean_ns), between, within, percent(row.sees))
    return (row.path[-1], *cells)
