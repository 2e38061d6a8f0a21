"""The pictures of a comparison, as SVG: ratios with their intervals, and every pass as a point.

They need no script: what the pointer rests on is told by the browser itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import exp, log, log10

from qwen3_profile.analysis.comparison.rows import WHOLE, Row, Rules
from qwen3_profile.analysis.comparison.settings import Pair
from qwen3_profile.records.quantiles import median
from qwen3_profile.views.terminal.cells import fit
from qwen3_profile.words import said

_WIDTH = 1060
_LEFT, _RIGHT, _ROW = 250, 70, 20
_FOOT, _TOP = 26, 8
_STRIP = 230
# A ratio axis is never narrower than this share around 1.
_LEAST_REACH = 0.02
_NS_PER_MS = 1e6

Place = Callable[[float], float]


def ratio_picture(rows: Sequence[Row], rules: Rules) -> str:
    """A line for each row: its ratio and interval on a logarithmic axis, and the band of `same`.

    A filled dot is decided, a hollow one is not.
    """
    shown = [row for row in rows if row.ratio is not None]
    if not shown:
        return ""
    reach = _reach(shown, rules)
    height = _TOP + _ROW * len(shown) + _FOOT

    def x(ratio: float) -> float:
        share = log(min(max(ratio, exp(-reach)), exp(reach))) / reach
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (1 + share) / 2

    marks = list(_ratio_axis(x, reach, rules, height))
    for at, row in enumerate(shown):
        marks += _ratio_row(row, x, _TOP + _ROW * (at + 0.5))
    return _svg(height, "NEW over BASE, row by row", marks)


def _reach(rows: Sequence[Row], rules: Rules) -> float:
    ends = [log(1 + rules.margin), _LEAST_REACH]
    for row in rows:
        assert row.ratio is not None
        ends.append(abs(log(row.ratio)))
        if row.test is not None:
            ends += [abs(log(row.test.low)), abs(log(row.test.high))]
    # One row that nobody can decide shall not press all others together.
    return min(max(ends), max(8 * sorted(ends)[len(ends) // 2], log(1 + 2 * rules.margin))) * 1.05


def _ratio_axis(x: Place, reach: float, rules: Rules, height: float) -> Iterator[str]:
    low, high, foot = x(1 / (1 + rules.margin)), x(1 + rules.margin), height - _FOOT
    yield f'<rect class="band" x="{low:.1f}" y="0" width="{high - low:.1f}" height="{foot:.0f}"/>'
    step = 10 ** round(log10(reach) - 0.6)
    for number in range(-20, 21):
        ratio = 1 + number * step
        if ratio > 0 and abs(log(ratio)) <= reach:
            kind = "one" if number == 0 else "grid"
            at = f'x1="{x(ratio):.1f}" x2="{x(ratio):.1f}"'
            yield f'<line class="{kind}" {at} y1="0" y2="{foot:.0f}"/>'
            digits = max(2, -round(log10(step)))
            label = f'x="{x(ratio):.1f}" y="{height - 8:.0f}" text-anchor="middle"'
            if number % 2 == 0:
                yield f'<text class="quiet" {label}>{ratio:.{digits}f}</text>'


def _ratio_row(row: Row, x: Place, y: float) -> Iterator[str]:
    depth = 0 if row.path == WHOLE else min(len(row.path) - 1, 6)
    name = escape(fit(row.path[-1], 34 - 2 * depth))
    yield f'<text x="{8 + 12 * depth}" y="{y + 4:.0f}">{name}</text>'
    assert row.ratio is not None
    kind = row.state if row.state in ("slower", "faster", "same") else "undecided"
    told = f"{row.path[-1]}: {row.ratio:.4f}, {said(row.state)}"
    yield f'<g class="{kind}"><title>{escape(told)}</title>'
    if row.test is not None:
        low, high = x(row.test.low), x(row.test.high)
        yield f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.0f}" y2="{y:.0f}" stroke-width="2"/>'
    yield f'<circle cx="{x(row.ratio):.1f}" cy="{y:.0f}" r="4" stroke-width="1.5"/></g>'
    yield f'<text x="{_WIDTH - _RIGHT + 12}" y="{y + 4:.0f}">{row.ratio:.3f}</text>'


def passes_picture(row: Row, pair: Pair) -> str:
    """A column for each process in order of time, and a point for each of its passes."""
    columns = sorted(
        (process.span[0], side, process.name, passes)
        for side, members, times in (("base", pair.base, row.base), ("new", pair.new, row.new))
        for (process, _), passes in zip(members, times, strict=True)
        if passes
    )
    every = [ns for *_, passes in columns for ns in passes]
    if not every:
        return ""
    low, high = min(every), max(every)
    rim = 0.08 * (high - low) or 0.05 * high
    low, high = low - rim, high + rim

    def y(ns: float) -> float:
        return _TOP + (_STRIP - _TOP - _FOOT) * (high - ns) / (high - low)

    wide = (_WIDTH - 90) / len(columns)
    marks = list(_time_axis(low, high, y))
    for at, (_, side, name, passes) in enumerate(columns):
        marks += _column(80 + wide * at, wide, side, name, passes, y)
    return _svg(_STRIP, f"every pass of {row.path[-1]}, process by process", marks)


def _time_axis(low: float, high: float, y: Place) -> Iterator[str]:
    step = 10 ** round(log10((high - low) / 4))
    step = step if (high - low) / step < 8 else 2 * step
    number = int(low // step) + 1
    while number * step < high:
        at = y(number * step)
        yield f'<line class="grid" x1="76" x2="{_WIDTH - 8}" y1="{at:.1f}" y2="{at:.1f}"/>'
        text = f"{number * step / _NS_PER_MS:.6g} ms"
        yield f'<text class="quiet" x="70" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
        number += 1


def _column(
    left: float, wide: float, side: str, name: str, passes: Sequence[float], y: Place
) -> Iterator[str]:
    middle = median(passes)
    told = f"{side.upper()}, {name}: median of {len(passes)} passes {middle / 1e6:.3f} ms"
    yield f'<g class="{side}"><title>{escape(said(told))}</title>'
    for at, ns in enumerate(passes):
        x = left + wide * (0.2 + 0.6 * (at + 0.5) / len(passes))
        yield f'<circle class="pass" cx="{x:.1f}" cy="{y(ns):.1f}" r="3"/>'
    ends = f'x1="{left + 0.15 * wide:.1f}" x2="{left + 0.85 * wide:.1f}"'
    yield f'<line {ends} y1="{y(middle):.1f}" y2="{y(middle):.1f}" stroke-width="2"/></g>'
    label = f'x="{left + wide / 2:.1f}" y="{_STRIP - 8}" text-anchor="middle"'
    yield f'<text class="quiet" {label}>{"BASE" if side == "base" else "NEW"}</text>'


def _svg(height: float, name: str, marks: Sequence[str]) -> str:
    head = f'viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img"'
    name = escape(said(name))
    return f'<div class="scroll"><svg {head} aria-label="{name}">{"".join(marks)}</svg></div>'
