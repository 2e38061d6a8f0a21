"""What a notebook shows of a measured pass: its tables as HTML, and its report in a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from qwen3_profile.analysis.median_pass import is_on_device, median_record
from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.analysis.verdict import sentences
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.report.page_policy import SANDBOX
from qwen3_profile.views.terminal.part_table import HEAD, columns_on, part_cells

_INDENT = "\N{EM SPACE}"
_LEFT = ' style="text-align: left"'


def html_table(records: Sequence[TimingRecord]) -> str:
    """What dominates, and the table of parts of the median run, in ms.

    Args:
        records: of one config and phase, at least one.
    """
    totals = totals_of(records)
    shown = median_record(totals.passes)
    on_device = is_on_device(records)
    columns = columns_on(on_device)
    rows = (
        [_INDENT * row.depth + row.name, *cells]
        for row, cells in part_cells(shown.times.forward, on_device, columns)
    )
    head = [f"{HEAD}, ms", *(column.name for column in columns)]
    told = "".join(f"<p>{escape(line)}</p>" for line in sentences(totals.passes, shown))
    return f"{told}<table><thead>{_line('th', head)}</thead><tbody>{_lines(rows)}</tbody></table>"


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "".join(_line("td", row) for row in rows)


def _line(tag: str, cells: Sequence[str]) -> str:
    first, *others = map(escape, cells)
    inside = "".join(f"<{tag}>{cell}</{tag}>" for cell in others)
    return f"<tr><{tag}{_LEFT}>{first}</{tag}>{inside}</tr>"


def framed(page: str, height_px: int) -> str:
    """A report in a frame of its own, which runs what the page holds and reaches no host."""
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="{SANDBOX}" '
        f'style="width: 100%; height: {height_px}px; border: 0"></iframe>'
    )
