"""Every bare pass as a picture for a notebook: in its order, and as a distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from qwen3_profile.records.quantiles import quantile
from qwen3_profile.words import said

_WIDTH, _HEIGHT, _TOP, _FOOT, _LEFT = 900, 240, 12, 30, 70
# Where the points end, and where the distribution begins.
_POINTS_END, _SHARES_BEGIN, _END = 470, 500, 880
_NS_PER_MS = 1e6
# Of fewer passes a 99th percentile is the slowest one.
_FEWEST_FOR_TAIL = 20
_STYLE = (
    "svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#59636e}"
    ".pass{fill:#2f6fb5;fill-opacity:.6}.line{stroke:#2f6fb5;fill:none;stroke-width:1.5}"
    ".mark{stroke:#59636e;stroke-dasharray:4 3}"
)

Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG, which a notebook shows."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def passes_picture(times_ns: Sequence[float], title: str, notes: Sequence[str] = ()) -> Picture:
    """The passes in their order, and how many of them take at most so long.

    Args:
        times_ns: at least one.
        notes: lines below the picture.
    """
    ranked = sorted(times_ns)
    low, high = ranked[0], ranked[-1]
    rim = 0.08 * (high - low) or 0.05 * high
    low, high = low - rim, high + rim

    def y(ns: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _FOOT) * (high - ns) / (high - low)

    marks = [*_points(times_ns, y), *_shares(ranked, y), *_percentiles(ranked, y)]
    for at, line in enumerate(notes, start=1):
        marks.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8 + 18 * at}">{escape(line)}</text>')
    height = _HEIGHT + 18 * len(notes)
    head = f'viewBox="0 0 {_WIDTH} {height}" xmlns="http://www.w3.org/2000/svg" role="img"'
    text = f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{escape(title)}</text>'
    return Picture(f"<svg {head}><style>{_STYLE}</style>{text}{''.join(marks)}</svg>")


def _points(times_ns: Sequence[float], y: Place) -> Iterator[str]:
    wide = (_POINTS_END - _LEFT) / len(times_ns)
    for at, ns in enumerate(times_ns):
        told = f"<title>{said(f'pass {at + 1}: {ns / _NS_PER_MS:.3f} ms')}</title>"
        x = _LEFT + wide * (at + 0.5)
        yield f'<circle class="pass" cx="{x:.1f}" cy="{y(ns):.1f}" r="3">{told}</circle>'


def _shares(ranked: Sequence[float], y: Place) -> Iterator[str]:
    """The empirical distribution, lying on its side: times upwards as in the points."""
    wide = (_END - _SHARES_BEGIN) / len(ranked)
    steps = [f"M{_SHARES_BEGIN} {y(ranked[0]):.1f}"]
    for at, ns in enumerate(ranked):
        steps.append(f"V{y(ns):.1f}H{_SHARES_BEGIN + wide * (at + 1):.1f}")
    yield f'<path class="line" d="{"".join(steps)}"/>'
    for share in (0, 50, 100):
        x = _SHARES_BEGIN + (_END - _SHARES_BEGIN) * share / 100
        yield f'<text x="{x:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">{share} %</text>'


def _percentiles(ranked: Sequence[float], y: Place) -> Iterator[str]:
    shown = (50, 90, 99) if len(ranked) >= _FEWEST_FOR_TAIL else (50,)
    for percent in shown:
        at = y(quantile(ranked, percent / 100))
        ms = quantile(ranked, percent / 100) / _NS_PER_MS
        yield f'<line class="mark" x1="{_LEFT}" x2="{_END}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{_LEFT - 4}" y="{at + 4:.1f}" text-anchor="end">{ms:.3f} ms</text>'
        yield f'<text x="{_END + 2}" y="{at + 4:.1f}">p{percent}</text>'
