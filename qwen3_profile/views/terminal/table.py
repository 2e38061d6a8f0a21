"""Tables that fit the screen: columns as wide as what they hold, and where there is no room for all
of them without those that matter least.

Not of rich: the reading half of the package has to draw its tables where numpy, msgspec and
filelock alone are installed; and rich takes longer to import and to draw a run's tables than the
whole of our own reading half takes to be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qwen3_profile.views.terminal.cells import fit, printable, wrap
from qwen3_profile.views.terminal.screen import SCREEN, paint
from qwen3_profile.words import ENGLISH, language, said
from qwen3_profile.words.cells import cells, to_left, to_right

# A row that is a line across the table.
RULE: tuple[str, ...] = ("\0rule",)
_LEAST_GAP, _USUAL_GAP = 2, 4
_BLANK = ("", "-")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    name: its head, of several lines if need be.
    left: whether its text is flush left.
    least: to how few cells its text may be cut; 0 where it is shown whole or not at all.
    leave_out: 0 if it always stays; of the others the highest goes first where room is short.
    own_line: whether text that is too long has a line of its own, in place of being cut.
    cut: how text is made to fit.
    verbatim: whether its texts are names, which are the same in every language.
    styles: how certain texts are painted.
    """

    name: str
    left: bool = False
    least: int = 0
    leave_out: int = 0
    own_line: bool = False
    cut: Callable[[str, int], str] = fit
    styles: Mapping[str, str] | None = None
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class _Shown:
    """A column as it is drawn: where its cells are in a row, and how wide it is."""

    column: Column
    at: int
    width: int


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The table in the language in effect, and a line that says what was left out of it for lack
    of room.

    Columns without anything in them are left out, too, and not spoken of.

    Args:
        rows: of as many texts as there are columns, or fewer; or `RULE`.
    """
    columns, rows = _said(columns, rows)
    # Names are of whoever wrote the trace, and a terminal would obey them.
    rows = [row if row is RULE else [*map(printable, row)] for row in rows]
    filled = [at for at in range(len(columns)) if at == 0 or _is_filled(at, rows)]
    whole = {at: _whole(columns[at], at, rows) for at in filled}
    needed = {at: _needed(columns[at], whole[at]) for at in filled}
    kept, gone = _fit(columns, needed)
    widths = _widths(kept, needed, whole)
    shown = [_Shown(columns[at], at, width) for at, width in zip(kept, widths, strict=True)]
    gap = _gap(widths)
    lines = [paint(line, "bold") for line in _head(shown, gap)]
    for row in rows:
        lines += _lines(row, shown, gap)
    if gone:
        names = ", ".join(" ".join(columns[at].name.split()) for at in sorted(gone))
        full = sum(needed.values()) + _LEAST_GAP * (len(needed) - 1)
        lines.append(wrap(f"left out at {SCREEN.get().width} columns: {names} (all fit in {full})"))
    return "\n".join(lines)


def _said(
    columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[Column], Sequence[Sequence[str]]]:
    """The same in the language in effect, and the styles by its words."""
    if language() == ENGLISH:
        return columns, rows
    shown = [
        replace(
            each,
            name="\n".join(map(said, each.name.split("\n"))),
            styles={said(text): style for text, style in (each.styles or {}).items()},
        )
        for each in columns
    ]
    return shown, [row if row is RULE else [*map(_said_cell, columns, row)] for row in rows]


def _said_cell(column: Column, text: str) -> str:
    """The text of a cell; it may be indented."""
    core = text.lstrip()
    return text if column.verbatim else f"{text[: len(text) - len(core)]}{said(core)}"


def _is_filled(at: int, rows: Sequence[Sequence[str]]) -> bool:
    texts = [row[at] for row in rows if row is not RULE and at < len(row)]
    return not rows or any(text not in _BLANK for text in texts)


def _whole(column: Column, at: int, rows: Sequence[Sequence[str]]) -> int:
    """How many cells its widest text takes."""
    texts = [row[at] for row in rows if row is not RULE and at < len(row)]
    return max(map(cells, [*texts, *column.name.split("\n")]))


def _needed(column: Column, whole: int) -> int:
    """How many cells it takes at least, of the cells of its widest text."""
    return min(whole, column.least) if column.least else whole


def _fit(columns: Sequence[Column], needed: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Which columns there is room for, and which there is not."""
    kept, gone = list(needed), []
    while sum(needed[at] + _LEAST_GAP for at in kept) - _LEAST_GAP > SCREEN.get().width:
        least = max(kept, key=lambda at: (columns[at].leave_out, at))
        if not columns[least].leave_out:
            break
        kept.remove(least)
        gone.append(least)
    return kept, gone


def _widths(kept: Sequence[int], needed: Mapping[int, int], whole: Mapping[int, int]) -> list[int]:
    """What each column gets; what is left over goes to those that would be cut, in their order."""
    widths = [needed[at] for at in kept]
    room = SCREEN.get().width - sum(widths) - _LEAST_GAP * (len(kept) - 1)
    for n, at in enumerate(kept):
        more = min(max(0, room), whole[at] - widths[n])
        widths[n] += more
        room -= more
    return widths


def _gap(widths: Sequence[int]) -> int:
    if len(widths) < 2:
        return _LEAST_GAP
    room = (SCREEN.get().width - sum(widths)) // (len(widths) - 1)
    return min(max(room, _LEAST_GAP), _USUAL_GAP)


def _head(shown: Sequence[_Shown], gap: int) -> Iterator[str]:
    names = [each.column.name.split("\n") for each in shown]
    for line in range(max(map(len, names))):
        texts = [name[line] if line < len(name) else "" for name in names]
        yield _join([_pad(each, text) for each, text in zip(shown, texts, strict=True)], gap)


def _lines(row: Sequence[str], shown: Sequence[_Shown], gap: int) -> Iterator[str]:
    if row is RULE:
        yield paint("-" * (sum(each.width for each in shown) + gap * (len(shown) - 1)), "dim")
        return
    texts = [row[each.at] if each.at < len(row) else "" for each in shown]
    first = shown[0]
    if first.column.own_line and cells(texts[0]) > first.width:
        yield fit(texts[0], SCREEN.get().width)
        texts[0] = ""
    pairs = zip(shown, texts, strict=True)
    yield _join([paint(_pad(each, text), _style(each, text)) for each, text in pairs], gap)


def _style(each: _Shown, text: str) -> str:
    usual = "dim" if text == "0" and each.at else ""
    return (each.column.styles or {}).get(text, usual)


def _pad(each: _Shown, text: str) -> str:
    """The text in its column's width."""
    shown = each.column.cut(text, each.width) if cells(text) > each.width else text
    return (to_left if each.column.left else to_right)(shown, each.width)


def _join(texts: Sequence[str], gap: int) -> str:
    return (" " * gap).join(texts).rstrip()
