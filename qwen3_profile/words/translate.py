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
_NUMBER = re.compile(r"[+-]?\d(?:[^,]|,(?! ))*")
# A text beyond this is no message, whatever it is.
_LONGEST = 1000
_LONG_NAME = 40
# So many pieces between marks a message has at most that is a part of a longer text.
_MOST_PIECES = 8

# The first of the characters that Unicode leaves to programs.
_FIRST_MASK = 0xE000
_MASK = re.compile("[\ue000-\uf8ff]")
_TEMPLATED = re.compile(r"[\w:~]+<")
_ANGLE = re.compile("[<>]")
_LIST = re.compile("[,;] ")

_BRACKET = re.compile(r"[()]")
# Between these a space is written.
_SEAM = re.compile(r"(?<=[\u4e00-\u9fff])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9%])(?=[\u4e00-\u9fff])")
_SHARE = re.compile(r"([A-Za-z][A-Za-z ]*) ([\d.,]+ ?%)")


@dataclass(frozen=True, slots=True)
class _Template:
    """literals: how many characters are its own. words: how many of these it has. is_weak: whether
    none of them says anything.
    """

    pattern: re.Pattern[str]
    chinese: str
    literals: int
    words: int
    is_weak: bool

    def parts(self, text: str) -> Sequence[str] | None:
        """What stands in its holes; None where it does not make this text."""
        found = self.pattern.fullmatch(text)
        if found is None or not all(map(_is_whole, found.groups())):
            return None
        *first, last = parts = found.groups()
        if self.is_weak and not (first and all(map(_NUMBER.fullmatch, first))):
            return parts if _translate(last) != last else None
        # One word is too little to hold a list together: `norms 2 %, attention 3 %`.
        if self.words == 1 and not self.is_weak and any(_LIST.search(part) for part in parts):
            return None
        return parts


def _is_whole(part: str) -> bool:
    """Whether it is no piece of two sentences, of two pairs of brackets, or of a path of parts."""
    depth = 0
    for bracket in _BRACKET.findall(part):
        depth += 1 if bracket == "(" else -1
        if depth < 0:
            return False
    return not depth and not _SENTENCE.search(part) and not part.endswith(" /")


def is_weak(template: str) -> bool:
    """Whether none of its words says anything alone."""
    return {*_WORD.findall(HOLE.sub(" ", template))} <= _WEAK


def without_edges(text: str) -> tuple[str, str, str]:
    """A text without the punctuation at its ends, which templates do not have; that, around it."""
    found = _EDGES.match(text)
    assert found is not None  # it matches anything
    before, core, after = found.groups()
    return before, core, after


def translate(text: str) -> str:
    """`text` in Chinese, as far as it is ours."""
    names: list[str] = []
    masked = _without_names(text, names)
    if len(masked) > _LONGEST:
        return text
    return _MASK.sub(lambda mask: names[ord(mask[0]) - _FIRST_MASK], _translate(masked))


def _without_names(text: str, names: list[str]) -> str:
    """Puts a mark in place of each long name with `<...>`, as kernels have them: these are full of
    commas, at each of which a message of ours could end.
    """
    out, at = [], 0
    for found in _TEMPLATED.finditer(text):
        end = _closing(text, found.end())
        if found.start() >= at and end - found.start() > _LONG_NAME:
            out += [text[at : found.start()], chr(_FIRST_MASK + len(names))]
            names.append(text[found.start() : end])
            at = end
    return "".join((*out, text[at:]))


def _closing(text: str, at: int) -> int:
    """Where the `<` before a position closes, or the text ends."""
    depth = 1
    for found in _ANGLE.finditer(text, at):
        depth += 1 if found[0] == "<" else -1
        if not depth:
            return found.end()
    return len(text)


@lru_cache(maxsize=4096)
def _translate(text: str) -> str:
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
    share = _SHARE.fullmatch(text)
    if share and share[1] in exact:
        return f"{exact[share[1]]} {share[2]}"
    words = {*_WORD.findall(text)}
    candidates = [each for word in words for each in table.get(word, ())]
    for template in sorted(candidates, key=_rank):
        parts = template.parts(text)
        if parts is not None:
            return _filled(template.chinese, [*map(_translate, parts)])
    return None


def _rank(template: _Template) -> tuple[bool, int, str]:
    """What has the most of its own comes first; of equals always the same."""
    return template.is_weak, -template.literals, template.chinese


def _filled(template: str, parts: Sequence[str]) -> str:
    """A template with its holes filled, and a space where Chinese and other letters meet there."""
    pieces = HOLE.split(template)
    pieces[1::2] = [parts[int(number)] for number in pieces[1::2]]
    out = pieces[0]
    for piece in filter(None, pieces[1:]):
        out += " " + piece if _SEAM.search(out[-1:] + piece[0]) else piece
    return out


def _piece_by_piece(text: str) -> str:
    """The text with its longest known pieces replaced, and the marks beside these."""
    tokens = _BETWEEN.split(text)
    pieces, marks = tokens[::2], [*tokens[1::2], ""]
    out, at, was_known = "", 0, False
    while at < len(pieces):
        known, end, closed = _longest(tokens, at)
        if closed:
            marks[end - 1] = marks[end - 1].removeprefix(")")
        is_known = known is not None
        if at and (is_known or was_known):
            out += _marks(marks[at - 1])
        elif at:
            out += marks[at - 1]
        out += known if known is not None else pieces[at]
        at, was_known = end, is_known
    return out


def _longest(tokens: list[str], at: int) -> tuple[str | None, int, bool]:
    """The Chinese of the longest known run of pieces from one on, the piece after it, and whether
    the bracket behind it belongs to it.
    """
    count = (len(tokens) + 1) // 2
    for end in range(min(count, at + _MOST_PIECES), at, -1):
        text = "".join(tokens[2 * at : 2 * end - 1])
        closed = end < count and tokens[2 * end - 1] == ")" and text.count("(") > text.count(")")
        text += ")" * closed
        if _WORD.search(text) and (at, end) != (0, count):
            before, core, after = without_edges(text)
            found = _of_template(core)
            if found is not None:
                return f"{before}{found}{_marks(after)}", end, closed
    return None, at + 1, False


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
            words = len(_WORD.findall(" ".join(literals)))
            found[word].append(_Template(pattern, chinese, weight, words, is_weak(english)))

    return found
