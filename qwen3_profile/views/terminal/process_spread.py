"""How much processes differ, in a line for each config."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from qwen3_profile.analysis.process_spread import Spread
from qwen3_profile.views.terminal.cells import Table, milliseconds, wrap
from qwen3_profile.views.terminal.two_sides import percent

_HEAD = ("", "processes", "ms", "differ by", "passes differ by", "sees")
_TABLE = Table((-29, 12, 12, 18, 18, 10))


def render_spreads(spreads: Iterable[Spread]) -> str:
    """A table for each config, and what its columns mean."""
    blocks = []
    for config, rows in groupby(spreads, key=lambda each: each.config):
        blocks.append("\n".join((config, _TABLE.line(*_HEAD), *map(_line, rows))))
    meaning = (
        "ms: geometric mean over the processes, of each the median pass; differ by: standard "
        "deviation; sees: the smallest slowdown that so many processes a side would find in 80% of "
        "comparisons"
    )
    return "\n\n".join((*blocks, wrap(meaning)))


def _line(row: Spread) -> str:
    between, within = percent(row.between), percent(row.within)
    cells = (str(row.processes), milliseconds(row.mean_ns), between, within, percent(row.sees))
    return _TABLE.line(row.path[-1], *cells)
