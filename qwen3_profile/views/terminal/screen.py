"""The screen that the tables are written on: how wide it is, and whether it has colour."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

# Where nobody says how wide it is: in a pipe, a file, a notebook.
USUAL_WIDTH = 100
_NARROWEST, _WIDEST = 40, 200
# Lines of prose that are longer are hard to read.
_WIDEST_PROSE = 100
_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}
# What `paint` writes, and nothing else that begins with an escape.
PAINT = r"\x1b\[(?:0|1|2|31|32|33)m"


@dataclass(frozen=True, slots=True)
class Screen:
    """How many cells a line may take, and whether it may have colour."""

    width: int = USUAL_WIDTH
    colour: bool = False

    @property
    def prose_width(self) -> int:
        return min(self.width, _WIDEST_PROSE)


# A file, which no terminal shapes.
FILE = Screen()
SCREEN = ContextVar("SCREEN", default=FILE)


def screen_of(stream: TextIO | None, environ: Mapping[str, str] = os.environ) -> Screen:
    """The screen that a stream is: a terminal's own size; COLUMNS, where it is set, holds for all.

    Colour is for terminals, and for who asks for it by FORCE_COLOR; NO_COLOR forbids it.
    """
    is_terminal = stream is not None and stream.isatty()
    columns = environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        width = int(columns)
    else:
        width = _terminal_width(stream) if is_terminal else USUAL_WIDTH
    forced = environ.get("FORCE_COLOR", "") not in ("", "0")
    colour = forced or (is_terminal and environ.get("TERM") != "dumb")
    return Screen(min(max(width, _NARROWEST), _WIDEST), colour and not environ.get("NO_COLOR"))


def _terminal_width(stream: TextIO | None) -> int:
    try:
        assert stream is not None
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return shutil.get_terminal_size((USUAL_WIDTH, 24)).columns


@contextlib.contextmanager
def on_screen(shown: Screen) -> Iterator[None]:
    """Writes for this screen meanwhile."""
    before = SCREEN.set(shown)
    try:
        yield
    finally:
        SCREEN.reset(before)


def paint(text: str, style: str) -> str:
    """`text` in one of the styles, where the screen has colour."""
    if not style or not text or not SCREEN.get().colour:
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"
