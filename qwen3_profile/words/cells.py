"""How many cells of a terminal a text takes, and how it is padded and broken by that.

A Chinese character takes two cells, and a line may break behind each; not before a closing mark,
nor behind an opening one.
"""

from __future__ import annotations

import re
from unicodedata import combining, east_asian_width

from qwen3_profile.words import said

_CLOSING = "，。；：、！？）」』】》％"
_OPENING = "（「『【《"
_WIDE = "\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
# What no line breaks within: words without spaces, and each Chinese character with its marks.
_UNBROKEN = re.compile(rf"[{_OPENING}]*(?:[^\s{_WIDE}]+|[{_WIDE}])[{_CLOSING}]*|\s+", re.DOTALL)


def cells(text: str) -> int:
    """How wide a text is."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def first_cells(text: str, count: int) -> str:
    """As much of the beginning of a text as takes at most so many cells."""
    if text.isascii():
        return text[: max(0, count)]
    taken = 0
    for at, char in enumerate(text):
        taken += cells(char)
        if taken > count:
            return text[:at]
    return text


def last_cells(text: str, count: int) -> str:
    """As much of the end of a text as takes at most so many cells."""
    return first_cells(text[::-1], count)[::-1]


def to_left(text: str, width: int) -> str:
    """Filled up with spaces behind it."""
    return text + " " * (width - cells(text))


def to_right(text: str, width: int) -> str:
    """Filled up with spaces before it."""
    return " " * (width - cells(text)) + text


def place(head: str, where: object) -> str:
    """A line that says where something lies, `records  FILE`, in the language in effect.

    Args:
        head: with the spaces behind it, which stay as many cells in every language.
    """
    word = said(head.strip())
    return f"{to_left(word, max(len(head), cells(word) + 1))}{where}"


def wrap_cells(text: str, width: int, indent: int = 0) -> list[str]:
    """The lines of a text, none wider than so many cells; words that are wider are broken.

    Args:
        indent: of the lines behind the first.
    """
    lines, line = [], ""
    for piece in _UNBROKEN.findall(text):
        if line.strip() and cells(line) + cells(piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = " " * indent
            if piece.isspace():
                continue
        while cells(line) + cells(piece.rstrip()) > width:
            part = first_cells(piece, width - cells(line))
            lines.append(line + part)
            line, piece = " " * indent, piece[len(part) :]
        line += piece if line.strip() or not piece.isspace() else ""
    return [*lines, line.rstrip()] if line.strip() or not lines else lines
