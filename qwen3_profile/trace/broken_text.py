"""Events of text that is not JSON: what is broken of it costs its own event alone.

Where an event ends is told by what stands between two, `},` and `{`: each piece between two such
borders is decoded by itself. Pieces that are the inside of one event are joined.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from qwen3_profile.errors import BrokenTextError, DamagedTraceError
from qwen3_profile.trace.columns import Category
from qwen3_profile.trace.event_args import SEQUENCE_KEY, OddArgs, read_correlation, read_sequence
from qwen3_profile.trace.event_keys import LINKED, EventKeys, is_needed
from qwen3_profile.trace.json_events import NOT_JSON, Document, Event, decode_event
from qwen3_profile.trace.mending import Mended, mend, repaired

_BORDER = re.compile(rb"\}\s*,\s*(?=\{)")
# White space, but not in JSON.
_ODD_SPACE = re.compile(rb"[\v\f]\s*,?\s*\Z")
_EVENT_END = re.compile(rb"\}")
_LIST_END = re.compile(rb"\}\s*,?\s*(?=\])")
_ARGS = re.compile(rb',\s*"args"\s*:\s*\{.*\}\s*\}\s*\Z', re.DOTALL)
_KIND = b'"ph"'
_PLACE = re.compile(r" \(byte (\d+)\)")
_TRUNCATED = "truncated"
_MOST_JOINED = 64
_MOST_ENDS = 64
# Text in which so many pieces are no events is that of something else.
_MOST_FRAGMENTS = 50_000
_LONGEST_TOLD = 60
_DO = "record the trace again, or keep every other event with --accept-damaged"


@dataclass(frozen=True, slots=True)
class _Piece:
    """An event of a text, `text[begin:end]`; None as its event where it is broken."""

    begin: int
    end: int
    event: Event | None


class BrokenText:
    """Reads stretches of one file.

    Args:
        path: names the file in errors.
        keys: knows what is read; its losses are told there.
    """

    def __init__(self, path: Path, keys: EventKeys) -> None:
        self._path = path
        self._keys = keys

    def read(self, text: bytes, at: int, number: int) -> tuple[list[Event], int, int]:
        """The events of a text up to the last whole one that another one follows.

        Behind that the list of events may have ended.

        Args:
            text: begins where an event does. at: its place in the file.
            number: how many events stand before it.

        Returns:
            They, how many they are together with those that are left out, and what they take of
            the text.

        Raises:
            BrokenTextError: one of them is broken, and that is not accepted.
        """
        borders = [match.end() for match in _BORDER.finditer(text)]
        pieces = _pieces(text, borders)
        while pieces and not _is_event(text, pieces[-1]):
            pieces.pop()
        taken = pieces[-1].end if pieces else 0
        return list(self._events(text, pieces, at, number)), len(pieces), taken

    def read_last(self, text: bytes, at: int) -> list[Event]:
        """The events of a text that is cut off somewhere behind the last one that is whole."""
        events, _, taken = self.read(text, at, 0)
        ends = (match.end() for match in _EVENT_END.finditer(text, taken))
        for end in islice(ends, _MOST_ENDS):
            try:
                last = decode_event(text[taken:end])
            except NOT_JSON:
                continue
            return [*events, last] if last.ph or last.cat else events
        return events

    def read_rest(
        self, head: bytes, text: bytes, at: int, number: int, decode: Callable[[bytes], Document]
    ) -> Document | None:
        """The document of a head, and the text of its last events and of what follows these.

        Args:
            decode: the document of a text.

        Returns:
            None where it is cut off, or holds no event at all.

        Raises:
            BrokenTextError: an event is broken, and that is not accepted.
        """
        end = _list_end(text, head)
        if end is None:
            return None
        events = text[:end].rstrip().removesuffix(b",").rstrip()
        pieces = _pieces(events, [*(m.end() for m in _BORDER.finditer(events)), len(events)])
        if not number and not any(_is_event(text, piece) for piece in pieces):
            return None
        document = decode(head + repaired(text[end:]))
        document.trace_events = list(self._events(text, pieces, at, number))
        if repaired(text[end:]) != text[end:] or not self._keys.losses:
            self._keys.losses.pass_over(f"the text at the end of the events, at byte {at + end}")
        return document

    def _events(self, text: bytes, pieces: list[_Piece], at: int, number: int) -> Iterator[Event]:
        for count, piece in enumerate(pieces, number + 1):
            event = piece.event
            if event is not None and _ODD_SPACE.search(text, piece.begin, piece.end):
                self._keys.losses.pass_over(f"the white space behind event {count}")
            if event is None:
                event = self._mended(text[piece.begin : piece.end], at + piece.begin, count)
            if event is not None:
                yield event

    def _mended(self, text: bytes, at: int, number: int) -> Event | None:
        """A broken event with what can be read of it; None where it is left out."""
        found, event, marked = _made_lawful(text)
        reason, place = _reason(text, found.at)
        told = f"event {number} ({_shown_name(text)}) is not JSON at byte {at + place}"
        error = BrokenTextError(str(self._path), f"{told}: {reason}", _DO)
        losses = self._keys.losses
        if event is None or marked is None or not self._is_clear(event, marked):
            losses.lose(error)
            return None
        if not self._is_read(event) or event.name == marked.name:
            losses.pass_over(told)
        else:
            losses.mend(error)
        return event

    def _is_clear(self, event: Event, marked: Event) -> bool:
        """Whether all that is needed of an event but its name is as it was written."""
        if event.cat != marked.cat:
            return False
        if event.ph != marked.ph:
            event.ph = "X"
            return event.cat != "" and not self._is_read(event)
        try:
            category = self._keys.category(_as_whole(event))
            if category != self._keys.category(_as_whole(marked)):
                return False
        except DamagedTraceError:
            return not is_needed(event.cat)
        if not self._is_read(event):
            return True
        return _times(event) == _times(marked) and _same_args(event, marked, category)

    def _is_read(self, event: Event) -> bool:
        """Whether a figure may depend on an event."""
        if not is_needed(event.cat):
            return False
        return not event.cat or self._keys.category(_as_whole(event)) is not None


def _as_whole(event: Event) -> Event:
    """The event; of the begin or end of a range the range."""
    if event.ph not in ("B", "E") or bytes(event.dur):
        return event
    return Event("X", event.cat, event.name or "", dur=msgspec.Raw(b"0"))


def _times(event: Event) -> tuple[bytes, ...]:
    return tuple(bytes(each) for each in (event.pid, event.tid, event.ts, event.dur))


def _same_args(event: Event, marked: Event, category: Category | None) -> bool:
    """Whether the args that are read of an event are the same."""
    one, other = bytes(event.args), bytes(marked.args)
    if one == other:
        return True
    try:
        if category in LINKED:
            return read_correlation(one) == read_correlation(other)
        return read_sequence(one, is_node=False) == read_sequence(other, is_node=False)
    except OddArgs:
        return False


# --- pieces ---------------------------------------------------------------------------------------


def _pieces(text: bytes, ends: list[int]) -> list[_Piece]:
    """The events of a text that begins where one does.

    Args:
        ends: where the next piece begins behind each one.
    """
    begins = [0, *ends[:-1]]
    found: list[_Piece] = []
    at, has_event = 0, False
    while at < len(ends) and (at < _MOST_FRAGMENTS or has_event):
        event, used = _decode_some(text, begins[at], ends[at : at + _MOST_JOINED])
        begin, end = begins[at], ends[at + used - 1]
        if event is None and found and _KIND not in text[begin:end] and found[-1].event is None:
            # It is the inside of the broken event before it.
            begin = found.pop().begin
        found.append(_Piece(begin, end, event))
        has_event |= event is not None
        at += used
    return found


def _decode_some(text: bytes, begin: int, ends: list[int]) -> tuple[Event | None, int]:
    """The event that begins there, and how many pieces it is."""
    for used, end in enumerate(ends, 1):
        try:
            event = decode_event(text[begin:end].rstrip().removesuffix(b","))
        except NOT_JSON as error:
            if _TRUNCATED not in str(error):
                break
        else:
            return (event if event.ph or event.cat else None), used
    return None, 1


def _is_event(text: bytes, piece: _Piece) -> bool:
    """Whether a piece surely is one event, though it be broken."""
    return piece.event is not None or _made_lawful(text[piece.begin : piece.end])[1] is not None


def _list_end(text: bytes, head: bytes) -> int | None:
    """Where the list of events ends; None in a text that is cut off."""
    is_list = head.lstrip()[:1] == b"["
    last, end = None, len(text)
    ends = [match.end() for match in _LIST_END.finditer(text)] or [0]
    for end in ends[: -_MOST_ENDS - 1 : -1]:
        rest = text[end:]
        try:
            msgspec.json.decode((b"[" if is_list else b'{"": [') + repaired(rest))
        except NOT_JSON:
            continue
        last = end
    return last


# --- one broken event -----------------------------------------------------------------------------


def _made_lawful(text: bytes) -> tuple[Mended, Event | None, Event | None]:
    """How a text was mended, and the event in both ways; None where nothing makes it one."""
    text = text.rstrip().removesuffix(b",")
    ways = [mend(text), mend(text, quotes=True)]
    without = _ARGS.search(text)
    # The args of some are read: of those nothing is left out.
    if without and b'"cpu_op"' in text and SEQUENCE_KEY.encode() not in text:
        ways.append(mend(text[: without.start()] + b"}", quotes=True))
    for found in ways:
        try:
            event, marked = decode_event(found.text), decode_event(found.marked)
        except NOT_JSON:
            continue
        if event.ph or event.cat:
            return found, event, marked
    return ways[0], None, None


def _reason(text: bytes, mended_at: int) -> tuple[str, int]:
    """What is wrong with a text, and where."""
    try:
        decode_event(text.rstrip().removesuffix(b","))
    except NOT_JSON as error:
        if isinstance(error, UnicodeDecodeError):
            return "it is not UTF-8", mended_at
        what = str(error).removeprefix("JSON is malformed: ")
        place = _PLACE.search(what)
        return _PLACE.sub("", what), int(place[1]) if place else mended_at
    return "it is no event", mended_at


def _shown_name(text: bytes) -> str:
    match = re.search(rb'"name"\s*:\s*"(.{0,200}?)"\s*[,}]', text, re.DOTALL)
    if match is None:
        return "without a name"
    name = match[1].decode(errors="replace")
    return repr(name if len(name) <= _LONGEST_TOLD else f"{name[:_LONGEST_TOLD]}...")
