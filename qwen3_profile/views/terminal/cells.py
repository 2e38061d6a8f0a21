"""How times, counts and names are written in the terminal, and how its lines are broken."""

from __future__ import annotations

import textwrap

from qwen3_profile.analysis.roofline import MEMORY, Roof
from qwen3_profile.attribution.findings import DAMAGE, WARNING
from qwen3_profile.errors import one_line
from qwen3_profile.views.terminal.screen import SCREEN, paint
from qwen3_profile.words import said
from qwen3_profile.words.cells import cells, first_cells, last_cells, wrap_cells

_NS_PER_MS = 1e6
_BYTES_PER_MB = 1e6
_NOT_KNOWN = "n/a"
_SMALL = 0.005
_SEVERITIES = {WARNING: "yellow", DAMAGE: "red"}
# In fewer cells no sentence is read.
_LEAST_PROSE = 24


def milliseconds(ns: float) -> str:
    """Nanoseconds as milliseconds to the microsecond; `0` only where there is nothing at all."""
    return f"{ns / _NS_PER_MS:.3f}" if ns else "0"


def number(count: int | None) -> str:
    """A count, which may not be known."""
    return _NOT_KNOWN if count is None else str(count)


def megabytes(count: int | None, *, at_least: bool = False) -> str:
    """Bytes as megabytes to the kilobyte; `0` only where nothing is moved at all.

    Args:
        at_least: whether there may be more of them.
    """
    if count is None:
        return _NOT_KNOWN
    return ("> " if at_least else "") + (f"{count / _BYTES_PER_MB:.3f}" if count else "0")


def gigabytes_per_s(rate: float | None) -> str:
    """A rate of memory traffic; blank where there is none."""
    return "" if rate is None else f"{rate:.1f}"


def roof_share(roof: Roof) -> str:
    """How much of the time taken is the least possible, and by which roof: `84% m`."""
    if roof.share is None:
        return ""
    kind = "m" if roof.bound == MEMORY else "c"
    if roof.is_impossible:
        return f"over {kind}"
    share = roof.share if roof.is_at_a_higher_clock else min(roof.share, 1.0)
    return f"{share:.0%} {kind}" if share >= _SMALL else f"<1% {kind}"


def printable(name: str) -> str:
    """`name` of as many characters, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in name)


def fit(name: str, width: int) -> str:
    """`name` without what a terminal would obey, and without its middle where it is too long."""
    safe = printable(name)
    if cells(safe) <= width:
        return safe
    kept = max(0, width - 3)
    return f"{first_cells(safe, kept - kept // 2)}...{last_cells(safe, kept // 2)}"


def fit_end(path: str, width: int) -> str:
    """The end of a path, which tells the most, where it is too long."""
    safe = printable(path)
    return safe if cells(safe) <= width else "..." + last_cells(safe, width - 3)


def wrap(line: str, indent: int = 2, style: str = "") -> str:
    """`line`, in the language in effect and the width of the screen; what follows its first line
    is indented.

    Control characters in names that a trace holds are shown, not obeyed.

    Args:
        style: how it is painted.
    """
    text, width = said(one_line(line)), SCREEN.get().prose_width
    indent = min(indent, width - _LEAST_PROSE)
    if text.isascii():
        lines = textwrap.wrap(
            text, width, subsequent_indent=" " * indent, break_on_hyphens=False
        ) or [""]
    else:
        lines = wrap_cells(text, width, indent)
    return "\n".join(paint(each, style) for each in lines)


def wrap_finding(severity: str, message: str) -> str:
    """The lines of a finding, painted by how much it matters."""
    line = f"{said(severity)}{said(': ')}{said(message)}"
    return wrap(line, style=_SEVERITIES.get(severity, ""))
