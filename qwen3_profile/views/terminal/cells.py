"""How times, counts and names are written in the terminal, and the lines of its tables."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from qwen3_profile.analysis.roofline import MEMORY, Roof
from qwen3_profile.errors import one_line

WIDTH = 100
_NS_PER_MS = 1e6
_BYTES_PER_MB = 1e6
_NOT_KNOWN = "n/a"
_SMALL = 0.005


@dataclass(frozen=True, slots=True)
class Table:
    """How wide the columns of a table are. Those that are flush left have a negative width."""

    widths: tuple[int, ...]

    def line(self, *cells: str) -> str:
        """A line of these cells, of which the last columns may have none.

        Names of kernels that compute many parts are too long: such a one has a line of its own.
        """
        head, width = cells[0], abs(self.widths[0])
        if len(head) >= width and len(cells) > 1:
            return f"{head}\n{self.line('', *cells[1:])}"
        pairs = zip(cells, self.widths, strict=False)
        return "".join(
            f"{cell:>{width}}" if width > 0 else f"{cell:<{-width}}" for cell, width in pairs
        ).rstrip()

    def rule(self, columns: int | None = None) -> str:
        """A line across so many columns, or all of them."""
        return "-" * sum(map(abs, self.widths[:columns]))


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
    return f"{min(roof.share, 1.0):.0%} {kind}" if roof.share >= _SMALL else f"<1% {kind}"


def printable(name: str) -> str:
    """`name` of as many characters, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in name)


def fit(name: str, width: int) -> str:
    """`name` without what a terminal would obey, and without its middle where it is too long."""
    safe = printable(name)
    if len(safe) < width:
        return safe
    kept = width - 4
    return f"{safe[: kept - kept // 2]}...{safe[len(safe) - kept // 2 :]}"


def wrap(line: str, indent: int = 2) -> str:
    """`line` in the width of the page; what follows its first line is indented.

    Control characters in names that a trace holds are shown, not obeyed.
    """
    return textwrap.fill(
        one_line(line), WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False
    )
