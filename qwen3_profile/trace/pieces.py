"""The text of a trace file in, its events in a store, piece by piece; what remains of it out.

A piece of whole events goes to `kineto.py`, which knows the two layouts that Kineto writes and is
fast; what surprises it goes to `general.py`, which knows JSON.
"""

from __future__ import annotations

import re
from pathlib import Path

from qwen3_profile.errors import TraceError
from qwen3_profile.trace.fast_events import KinetoText
from qwen3_profile.trace.json_events import NOT_JSON, decode_document, decode_events
from qwen3_profile.trace.slow_events import read_events
from qwen3_profile.trace.store import Store
from qwen3_profile.trace.text import Text

_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
# Where one event ends and the next begins: in Kineto's layouts, and in any other.
_BORDERS = (b"\n  },\n", b"},")
_MOST_TRIES = 4
_LONGEST_HEAD = 1 << 24
_LONGEST_PIECE = 1 << 24


class NoTurnsError(Exception):
    """The file is not in Kineto's layouts, or is broken: one process is to read it."""


class Pieces:
    """Puts the events of a file into a store, all but the last ones; these stay in its text.

    Of a document in which some whole events were left out the rest is a document, too: so what
    stands before and after the events needs no reading of its own.

    Args:
        turn: of two processes that read every second piece each, 0 or 1; None to read them all.
    """

    def __init__(self, path: Path, store: Store, turn: int | None = None) -> None:
        self._path = path
        self._store = store
        self._kineto = KinetoText(path, store.kinds)
        self._turn = turn
        self.head: bytes | None = None
        self.cuts = 0

    def read(self, text: Text) -> bytes:
        """What of the text remains behind the head and the events that the store has.

        Raises:
            TraceError: the file cannot be read.
            DamagedTraceError: it was a trace, but is cut off or broken.
            NoTurnsError: it cannot be read by two processes.
        """
        # Text in which no border is found goes to the decoder in one piece.
        goes_on = True
        while self._pass_over(text) or text.fill():
            goes_on = goes_on and self._take(text)
        return bytes(text)

    def _pass_over(self, text: Text) -> bool:
        """Leaves the other process its piece without reading it, where that can be done."""
        if self._turn in (None, self.cuts % 2) or self.head is None:
            return False
        passed = text.pass_over(_BORDERS[0])
        self.cuts += passed
        return passed

    def _take(self, text: Text) -> bool:
        """Reads whole events off the front of `text`; whether that goes on."""
        if self.head is None:
            begin = _events_begin(bytes(text))
            if begin is None:
                return text.end - text.begin < _LONGEST_HEAD
            self.head = bytes(text)[:begin]
            text.begin += begin
        if self._turn is not None:
            self._take_turn(text, self._turn)
            return True
        for border in _BORDERS:
            end = text.end
            for _ in range(_MOST_TRIES):
                end = text.data.rfind(border, text.begin, end)
                if end < 0:
                    break
                if self._add(text, end + len(border)):
                    return True
        return False

    def _take_turn(self, text: Text, turn: int) -> None:
        """Reads the next piece, or leaves it to the other process: both cut the same ones."""
        border = _BORDERS[0]
        found = text.data.rfind(border, text.begin, text.end)
        if found < 0:
            if text.end - text.begin > _LONGEST_PIECE:
                raise NoTurnsError
        elif self.cuts % 2 != turn:
            text.begin = found + len(border)
            self.cuts += 1
        elif not self._add(text, found + len(border)):
            raise NoTurnsError

    def _add(self, text: Text, cut: int) -> bool:
        """Whether `text` up to `cut` is whole events with a comma behind each; then it is read."""
        blocks = self._kineto.read(text, cut)
        if blocks is None:
            inside = bytes(memoryview(text.data)[text.begin : cut])
            try:
                events = decode_events(b"[" + inside.rstrip()[:-1] + b"]")
            except NOT_JSON:
                return False
            blocks = (read_events(events, self._store.kinds, self._path),)
        for block in blocks:
            self._store.add(block)
        self.cuts += 1
        text.begin = cut
        return True


def _events_begin(text: bytes) -> int | None:
    """Where the first event of a file begins that begins with `text`; None if that is not here."""
    if text.lstrip()[:1] == b"[":
        return text.index(b"[") + 1
    found = _EVENTS_KEY.search(text)
    if found is None:
        return None
    try:
        head = decode_document(Path(), text[: found.end()] + b"]}")
    except TraceError:
        return None
    return found.end() if head.trace_events == [] else None
