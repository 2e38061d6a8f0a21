"""Finds the Chinese of an English text by the template that it was made from.

A text is looked up as a whole. What stands in place of `{0}`, `{1}` is looked up in turn, as it may
be words of ours, too: a reason, a count with its noun. A text that no template makes is one of
several put together, `error: FILE: is empty; give another`: it is cut at its punctuation, and each
of the longest pieces that are known is replaced. What is not known stays as it is: names, numbers,
what other programs say.

These may look like words of ours. So a single word is replaced where it is the whole text, the head
of a column, and inside of another text only if it is one of `CODES`; and a template that has hardly
a word of its own, `{0} of {1}`, counts only where numbers stand in it, or words of ours.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("zh.json")
HOLE = re.compile(r"\{(\d+)\}")
# A hole that the Chinese counts with, so that a number stands in it.
COUNTED = re.compile(r"\{(\d+)\} ?[个次遍层行条步张]")
# Single words of ours that stand inside of texts.
CODES = {
    "blocked", "clock", "commands", "device", "interrupted", "launching", "memory", "mixed",
    "note",
    "preparation", "queued", "starved", "traced", "undecided", "warning",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z]{2,}")
# Words that say nothing alone.
_WEAK = {
    "as", "and", "at", "by", "for", "from", "in", "is", "lie", "lies", "ms", "of", "on", "or",
    "per", "that", "the", "to", "us", "with",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?\d")
_WITH_FIGURE = re.compile(r"(.*\S) ([+-]?[\d.,]+(?: ?%|x)?)", re.DOTALL)
# An error of other people's code.
_FOREIGN = re.compile(r"\w+(?:Error|Exception): ")
_OPEN = re.compile("[:;] $|^before $|there is $|the known ones are $")
_NAMES = re.compile(r"[\w.-]+(?:, [\w.-]+)* and [\w.-]+")
# A full stop ends a sentence where the next one begins with a capital letter.
_SENTENCE = re.compile(r"\. (?=[A-Z])")
_BETWEEN = re.compile(r"(^\(|\. (?=[A-Z])|; |: |, | \(|\)(?=$|[ ,;:.)])|\n|\.$)")
_EDGES = re.compile(r"^([ ,;:.]*)(.*?)([ ,;:.]*)$", re.DOTALL)
_MARKS = {". ": "。", ".": "。", "; ": "；", ": ": "：", ", ": "，", ":": "：", ";": "；", " ": ""}
_CHINESE, _LATIN = re.compile("[\u4e00-\u9fff]"), re.compile("[A-Za-z0-9+-]")
# A text beyond this is no message, whatever it is.
_LONGEST = 2000
# So many pieces between marks a message has at most that is a part of a longer text.
_MOST_PIECES = 12
# The first of the characters that Unicode leaves to programs; and names that these stand for.
_FIRST_MASK, _LONG_NAME = 0xE000, 40
_MASK = re.compile("[\ue000-\uf8ff]")
_TEMPLATED = re.compile(r"[\w:~]+<")
_ANGLE = re.compile("[<>]")
_INNER = re.compile(r"\([^()]*\)")
# No bracket of a file's name, which goes on behind it.
_BRACKETS = re.compile(r" ?\(([^()]*[\u4e00-\u9fff][^()]*)\)(?![\w./])")
_FLAG_OR_SHARE = re.compile(r"(?<=[\u4e00-\u9fff]) ?\((--[^()]*|[<>]?[\d.]+ ?%)\)")


@dataclass(frozen=True, slots=True)
class _Template:
    """weight: how many characters are its own.

    is_weak: whether no word of it says anything. is_short: whether one alone does.
    is_open: whether its last hole ends it, behind a mark, say, and may be several pieces.
    has_head: whether its first hole is what stands before a colon, and so has none in it.
    counts: the holes that hold numbers.
    """

    pattern: re.Pattern[str]
    chinese: str
    weight: int
    is_weak: bool
    is_short: bool
    is_open: bool
    has_head: bool
    counts: tuple[int, ...]

    def parts(self, text: str) -> Sequence[str] | None:
        """What stands in its holes; None where it does not make this text."""
        found = self.pattern.fullmatch(text)
        if found is None:
            return None
        *first, _ = parts = found.groups()
        checked = first if self.is_open else parts
        if not all(map(_is_one, checked)) or any("; " in _INNER.sub("", part) for part in checked):
            return None
        if not all(_NUMBER.match(parts[at]) for at in self.counts):
            return None
        if self.has_head and ": " in parts[0]:
            return None
        if self.is_weak:
            is_ours = all(map(_NUMBER.match, parts)) or any(map(_begins_known, parts))
            whole = first[: 1 if len(parts) > 2 else None]
            is_cut = any(_BETWEEN.search(f"{part} ") for part in whole)
            return parts if is_ours and not is_cut else None
        is_cut = any(_BETWEEN.search(f"{part} ") for part in checked)
        return None if self.is_short and is_cut else parts


def is_weak(template: str) -> bool:
    """Whether none of its words says anything alone."""
    return {*_WORD.findall(HOLE.sub(" ", template))} <= _WEAK


def without_edges(text: str) -> tuple[str, str, str]:
    """A text without the punctuation at its ends, which templates do not have; that, around it."""
    found = _EDGES.match(text)
    assert found is not None  # it matches anything
    before, core, after = found.groups()
    if core.startswith("(") and core.endswith(")") and _is_one(core[1:-1]):
        return f"{before}(", core[1:-1], f"){after}"
    return before, core, after


def translate(text: str) -> str:
    """`text` in Chinese, as far as it is ours."""
    names: list[str] = []
    masked = _without_names(text, names)
    if len(masked) > _LONGEST:
        return text
    found = _FLAG_OR_SHARE.sub("（\\1）", _translate(masked))
    return _MASK.sub(lambda mask: names[ord(mask[0]) - _FIRST_MASK], found)


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
    before, core, after = without_edges(text)
    return _in_marks(before, _exact()[core], after) if core in _exact() else _inside(text)


def _inside(text: str) -> str:
    """The same of a text that stands in another one."""
    if not _WORD.search(text):
        return _MARKS.get(text, text)
    if _FOREIGN.match(text):
        return text
    before, core, after = without_edges(text)
    found = _known(core)
    if found is not None:
        return _in_marks(before, found, after)
    return _and(text) if _NAMES.fullmatch(core) else _piece_by_piece(text)


def _and(names: str) -> str:
    """`q_proj and k_proj`: names, which stay as they are, and what joins them."""
    return names.replace(" and ", " 和 ")


def _known(text: str) -> str | None:
    """The Chinese of a text of ours, or of one with a figure behind it: `short kernels 12%`."""
    found = _of_template(text)
    parts = _WITH_FIGURE.fullmatch(text)
    if found is None and parts:
        known = _of_template(parts[1])
        if known is None:
            return None
        return _filled("{0} {1}" if known[-1:].isascii() else "{0}{1}", (known, parts[2]))
    return found


def _of_template(text: str) -> str | None:
    """What the template says that makes this text and has the most words of its own."""
    if text in _exact():
        is_told = not text.isalpha() or text in CODES
        return _exact()[text] if is_told else None
    words = {*_WORD.findall(text)}
    candidates = [each for word in words for each in _templates().get(word, ())]
    for template in sorted(candidates, key=_rank):
        parts = template.parts(text)
        if parts is not None:
            return _filled(template.chinese, [*map(_inside, parts)])
    return None


def _rank(template: _Template) -> tuple[bool, int, str]:
    """What has the most of its own comes first; of equals always the same."""
    return template.is_weak, -template.weight, template.chinese


def _filled(template: str, parts: Sequence[str]) -> str:
    """The template with its parts in it, and a space between Chinese and what is not."""
    text = ""
    for at, piece in enumerate(HOLE.split(template)):
        more = parts[int(piece)] if at % 2 else piece
        end, begin = text.rstrip()[-1:], more.lstrip()[:1]
        if _CHINESE.match(end) and _CHINESE.match(begin):
            text, more = text.rstrip(), more.lstrip()
        elif _is_border(end, begin) or _is_border(begin, end):
            text, more = f"{text.rstrip()} ", more.lstrip()
        text += more
    return text


def _is_border(one: str, other: str) -> bool:
    return bool(_CHINESE.match(one) and _LATIN.match(other))


def _in_marks(before: str, chinese: str, after: str) -> str:
    """The punctuation of a text round its Chinese."""
    if before.endswith("(") and after.startswith(")"):
        chinese, before, after = f"（{chinese}）", before[:-1], after[1:]
    return f"{_MARKS.get(before, before)}{chinese}{_MARKS.get(after, after)}"


def _piece_by_piece(text: str) -> str:
    """The text with its longest known pieces replaced, and the marks beside these."""
    tokens = _BETWEEN.split(text)
    pieces, marks = tokens[::2], [*tokens[1::2], ""]
    out, at, was_known = "", 0, False
    while at < len(pieces):
        known, end = _longest(tokens, at)
        is_known = known is not None
        if at:
            mark = marks[at - 1]
            out += _MARKS.get(mark, mark) if is_known or was_known else mark
        out += known if known is not None else _unknown(pieces[at])
        at, was_known = end, is_known
    return _BRACKETS.sub("（\\1）", out)


def _unknown(piece: str) -> str:
    return _and(piece) if _NAMES.fullmatch(piece) else piece


def _longest(tokens: Sequence[str], at: int) -> tuple[str | None, int]:
    """The Chinese of the longest known run of pieces from one on, and the piece after it."""
    count = (len(tokens) + 1) // 2
    # All the rest is tried, too, which may be a list of any length.
    for end in (count, *range(min(count - 1, at + _MOST_PIECES), at, -1)):
        text = "".join(tokens[2 * at : 2 * end - 1])
        if _WORD.search(text) and (at, end) != (0, count):
            before, core, after = without_edges(text)
            found = _known(core)
            if found is not None:
                return _in_marks(before, found, after), end
    return None, at + 1


def _is_one(part: str) -> bool:
    """Whether it is the whole of something: no two sentences, no half of a bracket or a path."""
    depths = [*itertools.accumulate({"(": 1, ")": -1}.get(char, 0) for char in part)]
    is_whole = not depths or (min(depths) >= 0 and depths[-1] == 0)
    return is_whole and not _SENTENCE.search(part) and not part.endswith(" /")


def _begins_known(text: str) -> bool:
    """Whether it is ours, or its first piece is."""
    some = (without_edges(each)[1] for each in (text, _BETWEEN.split(text, maxsplit=1)[0]))
    return any(_known(each) is not None for each in some)


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
            words = [word for word in _WORD.findall(" ".join(literals)) if word not in _WEAK]
            template = _Template(
                re.compile("(.*?)".join(map(re.escape, literals)), re.DOTALL),
                chinese,
                sum(map(len, literals)),
                not words,
                len(words) < 2,
                not literals[-1] and bool(_OPEN.search(literals[-2])),
                not literals[0] and literals[1].startswith(": "),
                tuple(int(hole) for hole in COUNTED.findall(chinese)),
            )
            found[max(words or _WORD.findall(" ".join(literals)), key=len)].append(template)
    return found
