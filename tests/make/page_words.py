"""The texts that the report's page and code show, as they stand in its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_NOT_SHOWN = ("script", "style", "noscript", "title")
_VOID = ("meta", "link", "input", "br", "img")
_SHOWN_ATTRIBUTES = ("aria-label", "placeholder", "title")

# A text that the code gives to `say`, or a noun to `many`; other arguments have no commas in
# brackets deeper than three.
_SAID = re.compile(r'\bsay\(\s*"((?:[^"\\]|\\.)*)"')
_BRACKETS = r"(?:[^(),]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*"
_COUNTED = re.compile(rf'\bmany\({_BRACKETS},\s*"((?:[^"\\]|\\.)*)"\)')
_COMMENT = re.compile(r"/\*.*?\*/|(?m:^\s*//[^\n]*$)", re.DOTALL)


class _Texts(HTMLParser):
    """The texts between tags, and of attributes that are shown or read out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden: list[bool] = [False]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        hidden = self._hidden[-1] or tag in _NOT_SHOWN or given.get("translate") == "no"
        if not hidden:
            self.found += [given[name] or "" for name in _SHOWN_ATTRIBUTES if name in given]
        if tag not in _VOID:
            self._hidden.append(hidden)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            self._hidden.pop()

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if not self._hidden[-1] and re.search("[A-Za-z]", text) and "{{" not in text:
            self.found.append(text)


# Four words in a row, none of which is a name or a number.
_ENGLISH = re.compile(r"(?<![\w./_-])(?:[A-Za-z]{2,}[,;:]? ){3,}[A-Za-z]{2,}(?![\w./_-])")


def english_in(text: str) -> list[str]:
    """The runs of English words in a text; names of parts, kernels and files are none."""
    return [found for line in text.splitlines() for found in _ENGLISH.findall(line)]


def page_texts(page: Path) -> set[str]:
    """What an HTML file shows before any code has run."""
    texts = _Texts()
    texts.feed(page.read_text(encoding="utf-8"))
    return set(texts.found)


def code_texts(scripts: list[Path]) -> set[str]:
    """What code gives to `say` and `many` in as many words."""
    found: set[str] = set()
    for path in scripts:
        code = _COMMENT.sub("", path.read_text(encoding="utf-8"))
        found |= {_plain(text) for text in _SAID.findall(code)}
        found |= {"{count} " + _plain(noun) for noun in _COUNTED.findall(code)}
    return found


def _plain(literal: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), literal)


def string_literals(code: str) -> Iterator[tuple[str, str]]:
    """(the code before it, contents) of each string; of a template only what stands in it."""
    at = 0
    while at < len(code):
        if code.startswith("//", at):
            at = (code.find("\n", at) + 1) or len(code)
        elif code.startswith("/*", at):
            at = code.index("*/", at) + 2
        elif code[at] in "\"'`":
            end, text, inside = _literal(code, at)
            yield code[max(0, at - 60) : at], text
            for piece in inside:
                yield from string_literals(piece)
            at = end
        elif code[at] == "/" and code[:at].rstrip()[-1:] in "(=,:?&|!;[{":
            at += len(re.match(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\]|\\.)*\])+/", code[at:])[0])  # type: ignore[index]
        else:
            at += 1


def _literal(code: str, at: int) -> tuple[int, str, list[str]]:
    """(where it ends, its text, the code in its braces) of the string that starts at `at`."""
    quote, text, inside = code[at], "", []
    at += 1
    while code[at] != quote:
        if code[at] == "\\":
            text, at = text + code[at : at + 2], at + 2
        elif quote == "`" and code.startswith("${", at):
            end = _closing(code, at + 2)
            inside.append(code[at + 2 : end])
            text, at = text + "{}", end + 1
        else:
            text, at = text + code[at], at + 1
    return at + 1, text, inside


def _closing(code: str, at: int) -> int:
    depth = 0
    while depth or code[at] != "}":
        if code[at] in "\"'`":
            at = _literal(code, at)[0]
            continue
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        at += 1
    return at
