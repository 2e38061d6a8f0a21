"""Finds the Chinese of an English text by the template that it was made from.

A text is looked up as a whole. What stands in place of `{0}`, `{1}` is looked up in turn, as it may
be words of ours, too: a reason, a count with its noun. A text that no template makes is one of
several put together, `error: FILE: is empty; give another`: it is cut at its punctuation, and each
of the longest pieces that are known is replaced. What is not known stays as it is: names, numbers,
what other programs say. These may look like a template that has hardly a word of its own, `{0} of
{1}`: it makes a text only where numbers stand in it, or at its end what is known itself.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("zh.json")
HOLE = re.compile(r"\{(\d+)\}")
_WORD = re.compile(r"[A-Za-z]{2,}")
# A full stop ends a sentence where the next one begins with a capital letter.
_SENTENCE = re.compile(r"\. (?=[A-Z])")
_BETWEEN = re.compile(r"(\. (?=[A-Z])|; |: |, | \(|\)(?=$|[ ,;:.)])|\n|\.$)")
_EDGES = re.compile(r"^([ ,;:.]*)(.*?)([ ,;:.]*)$", re.DOTALL)
_CHINESE_MARKS = {
    ". ": "。",
    ".": "。",
    "; ": "；",
    ": ": "：",
    ", ": "，",
    ":": "：",
    ";": "；",
    " ": "",
}
# Words that say nothing alone.
_WEAK = {
    *(
        "a",
        "and",
        "as",
        "at",
        "by",
        "for",
        "from",
        "in",
        "is",
        "lie",
        "lies",
        "ms",
        "of",
        "on",
        "or",
    ),
    *("per", "that", "the", "to", "us", "with"),
}
_NUMBER = re.compile(r"[+-]?\d")


@dataclass(frozen=True, slots=True)
class _Template:
    """literals: how many characters are its own. is_weak: whether no word of it says anything."""

    pattern: re.Pattern[str]
    chinese: str
    literals: int
    is_weak: bool

    def parts(self, text: str) -> Sequence[str] | None:
        """What stands in its holes; None where it does not make this text."""
        found = self.pattern.fullmatch(text)
        if found is None or any(_SENTENCE.search(part) for part in found.groups()):
            return None
        *first, last = parts = found.groups()
        if self.is_weak and not (first and all(map(_NUMBER.match, first))):
            return parts if translate(last) != last else None
        return parts


def is_weak(template: str) -> bool:
    """Whether none of its words says anything alone."""
    return {*_WORD.findall(HOLE.sub(" ", template))} <= _WEAK


def without_edges(text: str) -> tuple[str, str, str]:
    """A text without the punctuation at its ends, which templates do not have; that, around it."""
    found = _EDGES.match(text)
    assert found is not None  # it matches anything
    before, core, after = found.groups()
    return before, core, after


@lru_cache(maxsize=4096)
def translate(text: str) -> str:
    """`text` in Chinese, as far as it is ours."""
    if not _WORD.search(text):
        return _marks(text)
    before, core, after = without_edges(text)
    found = _of_template(core)
    if found is None:
        return _piece_by_piece(text)
    return f"{_marks(before)}{found}{_marks(after)}"


def _marks(text: str) -> str:
    return _CHINESE_MARKS.get(text, text)


def _of_template(text: str) -> str | None:
    """What the template says that makes this text and has the most words of its own."""
    table, exact = _templates(), _exact()
    if text in exact:
        return exact[text]
    words = {*_WORD.findall(text)}
    candidates = [each for word in words for each in table.get(word, ())]
    for template in sorted(candidates, key=lambda each: -each.literals):
        parts = template.parts(text)
        if parts is not None:
            return _filled(template.chinese, [*map(translate, parts)])
    return None


def _filled(template: str, parts: Sequence[str]) -> str:
    return HOLE.sub(lambda hole: parts[int(hole[1])], template)


def _piece_by_piece(text: str) -> str:
    """The text with its longest known pieces replaced, and the marks beside these."""
    tokens = _BETWEEN.split(text)
    pieces, marks = tokens[::2], [*tokens[1::2], ""]
    out, at, was_known = "", 0, False
    while at < len(pieces):
        known, end = _longest(tokens, at)
        is_known = known is not None
        if at and (is_known or was_known):
            out += _marks(marks[at - 1])
        elif at:
            out += marks[at - 1]
        out += known if known is not None else pieces[at]
        at, was_known = end, is_known
    return out


def _longest(tokens: list[str], at: int) -> tuple[str | None, int]:
    """The Chinese of the longest known run of pieces from one on, and the piece after it."""
    count = (len(tokens) + 1) // 2
    for end in range(count, at, -1):
        text = "".join(tokens[2 * at : 2 * end - 1])
        if _WORD.search(text) and (at, end) != (0, count):
            before, core, after = without_edges(text)
            found = _of_template(core)
            if found is not None:
                return f"{before}{found}{_marks(after)}", end
    return None, at + 1


@cache
def read_table() -> dict[str, str]:
    """English template -> Chinese, both with the same holes."""
    found: dict[str, str] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


@cache
def _exact() -> dict[str, str]:
    return {english: chinese for english, chinese in read_table().items() if "{0}" not in english}


@cache
def _templates() -> dict[str, list[_Template]]:
    """The templates with holes, each by the longest of its own words."""
    found = defaultdict(list)
    for english, chinese in read_table().items():
        literals = HOLE.split(english)[::2]
        if len(literals) > 1:
            word = max(_WORD.findall(" ".join(literals)), key=len)
            pattern = re.compile("(.*?)".join(map(re.escape, literals)), re.DOTALL)
            weight = sum(map(len, literals))
            found[word].append(_Template(pattern, chinese, weight, is_weak(english)))
    return found
