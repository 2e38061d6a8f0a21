"""What a notebook shows of a measured pass: its tables, its passes, and its report in a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from qwen3_profile.analysis.comparison.samples import bare_passes
from qwen3_profile.analysis.distribution import shape_sentences
from qwen3_profile.analysis.median_pass import is_on_device, median_record, ns_of
from qwen3_profile.analysis.part_rows import PartPath, part_times, part_tree
from qwen3_profile.analysis.pass_sentences import sentences
from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.attribution.parts import Times
from qwen3_profile.config import suggest
from qwen3_profile.errors import ConfigError
from qwen3_profile.records.quantiles import quantile
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.passes_picture import Picture, passes_picture
from qwen3_profile.views.report.page_policy import SANDBOX
from qwen3_profile.views.terminal.part_table import HEAD, columns_on, part_cells
from qwen3_profile.words import said

_Passes = list[dict[PartPath, Times]]

_MOST_PARTS = 5
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
    head = [said(name) for name in (f"{HEAD}, ms", *(column.name for column in columns))]
    told = "".join(f"<p>{escape(said(line))}</p>" for line in sentences(totals.passes, shown))
    return f"{told}<table><thead>{_line('th', head)}</thead><tbody>{_lines(rows)}</tbody></table>"


def plot_passes(records: Sequence[TimingRecord], part: str = "") -> Picture:
    """Every bare pass of a config; of a part its time in every pass that is the least disturbed.

    Args:
        part: how its path ends, such as "q_proj" or "attn/q_proj".

    Raises:
        ConfigError: there is no such part.
    """
    if not part:
        runs = [list(bare_passes((record,))) for record in records]
        return _picture(runs, f"bare {records[0].phase}")
    on_device = is_on_device(records)
    rows = part_tree(median_record(records).times.forward)
    names = part.split("/")
    path = next((row.path for row in rows if list(row.path[-len(names) :]) == names), None)
    if path is None:
        hint = suggest(part, [row.name for row in rows])
        raise ConfigError("part", f"{part!r} is none of this pass", hint)
    return _picture(*_times_of(records, _every_pass(records), path, on_device))


def longest_parts(records: Sequence[TimingRecord]) -> str:
    """The pictures of the parts that take the most time, to be unfolded."""
    on_device, passes = is_on_device(records), _every_pass(records)
    leaves = [row for row in part_tree(median_record(records).times.forward) if row.is_leaf]
    leaves.sort(key=lambda row: -ns_of(row.times, on_device))
    pictures = "".join(
        _picture(*_times_of(records, passes, row.path, on_device)).svg
        for row in leaves[:_MOST_PARTS]
    )
    summary = said(f"Every pass of the {len(leaves[:_MOST_PARTS])} parts that take the most time")
    return f"<details><summary>{summary}</summary>{pictures}</details>"


def _every_pass(records: Sequence[TimingRecord]) -> list[_Passes]:
    """The times of all parts, run by run and pass by pass."""
    return [[part_times(each.times.forward) for each in one.one_by_one()] for one in records]


def _times_of(
    records: Sequence[TimingRecord], passes: Sequence[_Passes], path: PartPath, on_device: bool
) -> tuple[list[list[float]], str]:
    """The times of a part in every pass, run by run, and what they are."""
    runs = [[float(ns_of(one[path], on_device)) for one in run if path in one] for run in passes]
    if on_device:
        what = f"device time in {records[0].idle_source} passes"
    else:
        what = f"CPU time in {records[0].cpu_source} passes"
    return runs, f"{'/'.join(path[1:] or path)}: {what}"


def _picture(runs: Sequence[Sequence[float]], what: str) -> Picture:
    times = [ns for run in runs for ns in run]
    ranked = sorted(times)
    p50, p90, p99 = (quantile(ranked, share) / 1e6 for share in (0.5, 0.9, 0.99))
    told = f"{len(times)} passes" if len(times) > 1 else "1 pass"
    title = f"{what}; {told}: p50 {p50:.3f}, p90 {p90:.3f}, p99 {p99:.3f} ms"
    return passes_picture(times, "", [said(line) for line in (title, *shape_sentences(runs))])


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
