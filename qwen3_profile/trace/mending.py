"""Makes JSON of text that nearly is: what writers of traces leave unescaped, and no numbers.

Bytes that are no UTF-8, raw control characters, half surrogate pairs and escapes that there are
none of become something lawful inside of strings; NaN and infinities become null. Of a name with
raw quotes in it the end is found by the key that stands behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# A string whole, or one of the constants that are no JSON, as C, C++ and Python print them.
_STRING_OR_CONSTANT = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"'
    r"|[-+]?\b(?:nan\b(?:\((?:ind|snan)\))?|inf(?:inity)?\b)|[-+]?\b1\.#(?:inf|q?nan|ind)\w*",
    re.DOTALL | re.IGNORECASE,
)
_IN_STRING = re.compile(
    r"(?P<good>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r'|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\["\\/bfnrt])'
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|(?P<escape>\\)|(?P<control>[\x00-\x1f])"
    r"|(?P<byte>[\udc80-\udcff]+)"
)
_NAME = re.compile(
    r'("name"\s*:\s*)"(.*?)"\s*(?=,\s*"(?:ph|cat|pid|tid|ts|dur|args|id|s|bp)"\s*:|\}\s*\Z)',
    re.DOTALL,
)
_QUOTE = re.compile(r'\\.|\\\Z|"', re.DOTALL)
_PLAIN, _MARK = "\ufffd", "\ufffc"


@dataclass(frozen=True, slots=True)
class Mended:
    """A text made lawful in two ways, which differ where it was mended; `at` is its first byte."""

    text: bytes
    marked: bytes
    at: int


def repaired(text: bytes) -> bytes:
    """`text` with what Kineto sometimes writes and JSON forbids made lawful; times are not touched.

    Nothing in it is moved to another string: raw quotes stay.
    """
    return _Mender(_PLAIN).mended(_decoded(text))


def mend(text: bytes, *, quotes: bool = False) -> Mended:
    """The same in both ways.

    Args:
        quotes: whether raw quotes in its name are looked for, too.
    """
    found, chars = [], _decoded(text)
    for mark in (_PLAIN, _MARK):
        mender = _Mender(mark)
        found.append(mender.mended(mender.with_quoted_name(chars) if quotes else chars))
    at = len(chars[: mender.first or 0].encode(errors="surrogateescape"))
    return Mended(found[0], found[1], at)


def _decoded(text: bytes) -> str:
    return text.decode(errors="surrogateescape")


class _Mender:
    """Mends texts in one way; `first` is where it first had to, None where it had not."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.first: int | None = None

    def mended(self, text: str) -> bytes:
        return _STRING_OR_CONSTANT.sub(self._lawful, text).encode(errors="replace")

    def with_quoted_name(self, text: str) -> str:
        return _NAME.sub(self._quoted, text, count=1)

    def _note(self, at: int) -> None:
        self.first = at if self.first is None else min(self.first, at)

    def _lawful(self, match: re.Match[str]) -> str:
        found = match[0]
        if found[0] == '"':
            return _IN_STRING.sub(self._inside(match.start()), found)
        self._note(match.start())
        return "null" if self._mark == _PLAIN else "0"

    def _inside(self, begin: int) -> Callable[[re.Match[str]], str]:
        def lawful(match: re.Match[str]) -> str:
            kind, found = match.lastgroup, match[0]
            if kind == "good":
                return found
            self._note(begin + match.start())
            if self._mark == _MARK or kind in ("half", "byte"):
                return self._mark
            return f"\\u{ord(found):04x}" if kind == "control" else "\\\\"

        return lawful

    def _quoted(self, match: re.Match[str]) -> str:
        def lawful(part: re.Match[str]) -> str:
            if len(part[0]) == 2:
                return part[0]
            self._note(match.start(2) + part.start())
            return self._mark if self._mark == _MARK else f"\\{part[0]}"

        return f'{match[1]}"{_QUOTE.sub(lawful, match[2])}"'
