"""A comparison as one HTML file, which runs nothing and asks no host for anything."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from qwen3_profile.analysis.comparison.compare import Comparison, ConfigComparison
from qwen3_profile.analysis.comparison.kernel_changes import PartChange
from qwen3_profile.analysis.comparison.rows import WHOLE, Row, Rules
from qwen3_profile.analysis.comparison.settings import Member, Setting, describe_pair
from qwen3_profile.analysis.kernel_names import readable_names
from qwen3_profile.records.process import Process
from qwen3_profile.run_folder.layout import REPORT_FILE
from qwen3_profile.views.comparison.pictures import passes_picture, ratio_picture
from qwen3_profile.views.terminal.cells import milliseconds
from qwen3_profile.views.terminal.two_sides import (
    cells,
    clock_lines,
    conclusions,
    head,
    is_shown,
    kernel_cells,
    meaning,
    parts_explained,
    processes,
)
from qwen3_profile.words import (
    CHINESE,
    ENGLISH,
    LANGUAGES,
    language,
    language_kept,
    said,
    use_language,
)

_TAGS = {ENGLISH: "en", CHINESE: "zh-CN"}
_NAMES = {ENGLISH: "English", CHINESE: "中文"}


def render_page(comparison: Comparison, folder: Path | None = None) -> str:
    """The whole page, in both languages; links show the one or the other without a script.

    Args:
        folder: where it will lie; with it the runs that were compared are links to their reports.
    """
    style = files(__package__).joinpath("assets", "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'"
    first = language()
    with language_kept():
        bodies = "".join(
            _body(comparison, name, folder, is_first=name == first) for name in LANGUAGES
        )
    return (
        f'<!doctype html>\n<html lang="{_TAGS[first]}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{said('BASE against NEW')} - qwen3_profile</title><style>{style}</style></head>"
        f"<body>{bodies}</body></html>\n"
    )


def _body(comparison: Comparison, name: str, folder: Path | None, *, is_first: bool) -> str:
    """All that the page says, in one language."""
    use_language(name)
    links = " ".join(
        f'<a href="#{other}" lang="{_TAGS[other]}">{_NAMES[other]}</a>'
        for other in LANGUAGES
        if other != name
    )
    lines = "".join(f"<p>{_said(line)}</p>" for line in conclusions(comparison))
    configs = "".join(_config(each, comparison.rules, folder) for each in comparison.configs)
    kind = ' class="first"' if is_first else ""
    return (
        f'<main id="{name}" lang="{_TAGS[name]}"{kind}><p class="language">{links}</p>'
        f"<h1>{_said('BASE against NEW')}</h1>{lines}{configs}{_alone(comparison)}</main>"
    )


def _said(text: str) -> str:
    return escape(said(text))


def _alone(comparison: Comparison) -> str:
    words = [f"only in BASE: {name}" for name in comparison.base_alone]
    words += [f"only in NEW: {name}" for name in comparison.new_alone]
    return "".join(f'<p class="quiet">{_said(each)}</p>' for each in words)


def _config(config: ConfigComparison, rules: Rules, folder: Path | None) -> str:
    pair = config.pair
    told = [f"Nothing is decided: {config.undecided}"] if config.undecided else []
    lines = "".join(f"<p>{_said(line)}</p>" for line in (*told, *clock_lines(config)))
    sides = _side("BASE", pair.base, folder) + _side("NEW", pair.new, folder)
    strip = "" if config.whole is None else passes_picture(config.whole, pair)
    return (
        f"<h2>{_said(describe_pair(pair))}</h2>"
        f"{sides}{_settings(config.settings)}{lines}"
        f"{_figure('Every bare pass, process by process in the order of time', strip)}"
        f"{_figure('NEW over BASE, with intervals', ratio_picture(config.every_row, rules))}"
        f'{_rows(config, rules)}<p class="quiet">{_said(meaning(rules))}</p>'
        f"{''.join(map(_reason, parts_explained(config)))}"
    )


def _side(name: str, members: Sequence[Member], folder: Path | None) -> str:
    """How many processes a side has, and which runs these are."""
    runs = ", ".join(_run(process, folder) for process, _ in members)
    return f'<p class="quiet">{_said(f"{name}: {processes(members)}")} ({runs})</p>'


def _run(process: Process, folder: Path | None) -> str:
    """Its name, which leads to its report where it has one."""
    name = escape(process.name)
    report = process.source / REPORT_FILE if process.source else None
    if folder is None or report is None or not report.is_file():
        return name
    path = Path(os.path.relpath(report, folder)).as_posix()
    return f'<a href="{quote(path)}">{name}</a>'


def _figure(title: str, picture: str) -> str:
    return f"<h3>{_said(title)}</h3>{picture}" if picture else ""


def _settings(settings: Sequence[Setting]) -> str:
    if not settings:
        return ""
    rows = (map(said, (each.name, each.base or "-", each.new or "-")) for each in settings)
    return _figure("What differs", _table(("", "BASE", "NEW"), rows))


def _rows(config: ConfigComparison, rules: Rules) -> str:
    names = head(rules, config.on_device)
    lines = "".join(map(_row, config.every_row))
    top = "".join(f"<th>{_said(name)}</th>" for name in names)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_said("Rows")}">'
        f"<table><tr>{top}</tr>{lines}</table></div>"
    )


def _row(row: Row) -> str:
    depth = 0 if row.path == WHOLE else len(row.path) - 1
    name = "&emsp;" * depth + escape(row.path[-1])
    each = list(cells(row))
    inside = "".join(
        f'<td class="{row.state}">{_said(cell)}</td>' if at == 5 else f"<td>{escape(cell)}</td>"
        for at, cell in enumerate(each)
    )
    return f"<tr><td>{name}</td>{inside}</tr>"


def _reason(part: PartChange) -> str:
    title = f"Why {milliseconds(part.change_ns)} ms: {' / '.join(part.path)}"
    names = readable_names((each.name for each in part.kernels), width=90)
    rows = [[said(each.what), names[each.name], *kernel_cells(each)] for each in part.kernels]
    if is_shown(part.unexplained_ns):
        rest = milliseconds(part.unexplained_ns)
        rows.append(["", said("unexplained: medians above, means here"), "", "", rest])
    return _figure(title, _table(("what", "kernel", "runs", "mean us", "change ms"), rows))


def _table(names: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{_said(name)}</th>" for name in names)
    lines = "".join(
        "<tr>" + "".join(f'<td class="words">{escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="words"><tr>{top}</tr>{lines}</table></div>'
