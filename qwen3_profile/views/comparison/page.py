"""A comparison as one HTML file, which runs nothing and asks no host for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from qwen3_profile.analysis.comparison.compare import Comparison, ConfigComparison
from qwen3_profile.analysis.comparison.kernel_changes import PartChange
from qwen3_profile.analysis.comparison.rows import WHOLE, Row, Rules
from qwen3_profile.analysis.comparison.settings import Setting, describe
from qwen3_profile.analysis.kernel_names import readable_names
from qwen3_profile.views.comparison.pictures import passes_picture, ratio_picture
from qwen3_profile.views.terminal.cells import milliseconds
from qwen3_profile.views.terminal.two_sides import (
    cells,
    clock_lines,
    conclusions,
    head,
    kernel_cells,
    meaning,
    parts_explained,
    processes,
)


def render_page(comparison: Comparison) -> str:
    """The whole page."""
    style = files(__package__).joinpath("assets", "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'"
    lines = "".join(f"<p>{escape(line)}</p>" for line in conclusions(comparison))
    body = "".join(_config(config, comparison.rules) for config in comparison.configs)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>BASE against NEW - qwen3_profile</title><style>{style}</style></head>"
        f"<body><main><h1>BASE against NEW</h1>{lines}{body}{_alone(comparison)}</main></body>"
        "</html>\n"
    )


def _alone(comparison: Comparison) -> str:
    words = [f"only in BASE: {name}" for name in comparison.base_alone]
    words += [f"only in NEW: {name}" for name in comparison.new_alone]
    return "".join(f'<p class="quiet">{escape(each)}</p>' for each in words)


def _config(config: ConfigComparison, rules: Rules) -> str:
    pair = config.pair
    undecided = f"<p>Nothing is decided: {escape(config.undecided)}</p>" if config.undecided else ""
    clocks = "".join(f"<p>{escape(line)}</p>" for line in clock_lines(config))
    strip = "" if config.whole is None else passes_picture(config.whole, pair)
    return (
        f"<h2>{escape(describe(pair.base[0][1][0]))}</h2>"
        f'<p class="quiet">BASE: {processes(pair.base)}; NEW: {processes(pair.new)}</p>'
        f"{_settings(config.settings)}{undecided}{clocks}"
        f"{_figure('Every bare pass, process by process in the order of time', strip)}"
        f"{_figure('NEW over BASE, with intervals', ratio_picture(config.every_row, rules))}"
        f'{_rows(config, rules)}<p class="quiet">{escape(meaning(rules))}</p>'
        f"{''.join(map(_reason, parts_explained(config)))}"
    )


def _figure(title: str, picture: str) -> str:
    return f"<h3>{title}</h3>{picture}" if picture else ""


def _settings(settings: Sequence[Setting]) -> str:
    if not settings:
        return ""
    rows = ([each.name, each.base or "-", each.new or "-"] for each in settings)
    return f"<h3>What differs</h3>{_table(('', 'BASE', 'NEW'), rows)}"


def _rows(config: ConfigComparison, rules: Rules) -> str:
    names = head(rules, config.on_device)
    lines = "".join(map(_row, config.every_row))
    top = "".join(f"<th>{escape(name)}</th>" for name in names)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Rows">'
        f"<table><tr>{top}</tr>{lines}</table></div>"
    )


def _row(row: Row) -> str:
    depth = 0 if row.path == WHOLE else len(row.path) - 1
    name = "&emsp;" * depth + escape(row.path[-1])
    each = list(cells(row))
    inside = "".join(
        f'<td class="{row.state}">{escape(cell)}</td>' if at == 5 else f"<td>{escape(cell)}</td>"
        for at, cell in enumerate(each)
    )
    return f"<tr><td>{name}</td>{inside}</tr>"


def _reason(part: PartChange) -> str:
    title = f"Why {milliseconds(part.change_ns)} ms: {' / '.join(part.path)}"
    names = readable_names((each.name for each in part.kernels), width=90)
    rows = [[each.what, names[each.name], *kernel_cells(each)] for each in part.kernels]
    rest = milliseconds(part.unexplained_ns)
    rows.append(["", "unexplained: medians above, means here", "", "", rest])
    table = _table(("what", "kernel", "runs", "mean us", "change ms"), rows)
    return f"<h3>{escape(title)}</h3>{table}"


def _table(names: Sequence[str], rows: Iterator[list[str]] | Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = "".join(
        "<tr>" + "".join(f'<td class="words">{escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="words"><tr>{top}</tr>{lines}</table></div>'
