"""Ranges that are written as two events, one where they begin and one where they end.

    {"ph": "B", "cat": "user_annotation", "name": "A", "pid": 10, "tid": 10, "ts": 1000.0}
    {"ph": "E", "pid": 10, "tid": 10, "ts": 1100.0}

Kineto writes whole ones, with "X"; converters and other recorders write these, of any category. An
end without a name ends the range of its thread that began last; one with a name the last of that
name. Chrome's format knows no more of it; in it events of a thread count by their time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from qwen3_profile.trace.json_events import Event

_Raw = msgspec.Raw
_decode_fields = msgspec.json.Decoder(dict[str, _Raw]).decode


class _Half(msgspec.Struct, gc=False):
    """What is kept of one: no text of the file is held by it."""

    ns: int
    begins: bool
    cat: str
    name: str | None
    args: bytes


class BeginEnd:
    """Keeps those events of a file until all of it was read.

    Args:
        nanoseconds: what the text of a time says.
    """

    def __init__(self, nanoseconds: Callable[[bytes], int]) -> None:
        self._nanoseconds = nanoseconds
        self._by_thread: dict[tuple[bytes, bytes], list[_Half]] = {}
        self._words: dict[str | None, str | None] = {}
        self.unpaired = 0

    def __bool__(self) -> bool:
        return bool(self._by_thread)

    def others(self, events: list[Event]) -> list[Event]:
        """The events that are no such ones, and whole ones of those without a time.

        The latter have no duration, either: they are told as others are that lack what they need.
        """
        if not any(map(_is_half, events)):
            return events
        return [event for event in events if not (_is_half(event) and self._keep(event))]

    def _keep(self, event: Event) -> bool:
        try:
            ns = self._nanoseconds(bytes(event.ts))
        except (ValueError, ArithmeticError):
            event.ph = "X"
            return False
        cat, name = (self._words.setdefault(word, word) for word in (event.cat, event.name))
        half = _Half(ns, event.ph == "B", cat or "", name, bytes(event.args))
        self._by_thread.setdefault((bytes(event.pid), bytes(event.tid)), []).append(half)
        return True

    def ranges(self) -> Iterator[Event]:
        """Each range as one event; what has no other end is counted."""
        for (pid, tid), halves in self._by_thread.items():
            # Of one instant the order of the file counts.
            halves.sort(key=lambda half: half.ns)
            for begin, end in self._pairs(halves):
                yield _whole(_Raw(pid), _Raw(tid), begin, end)

    def _pairs(self, halves: list[_Half]) -> Iterator[tuple[_Half, _Half]]:
        stack: list[_Half] = []
        for half in halves:
            if half.begins:
                stack.append(half)
                continue
            at = _last_of_name(stack, half.name)
            if at is None:
                self.unpaired += 1
            else:
                yield stack.pop(at), half
        self.unpaired += len(stack)


def _is_half(event: Event) -> bool:
    return event.ph in ("B", "E") and not bytes(event.dur)


def _microseconds(ns: int) -> msgspec.Raw:
    sign, (whole, rest) = b"-" * (ns < 0), divmod(abs(ns), 1000)
    return _Raw(b"%s%d.%03d" % (sign, whole, rest))


def _last_of_name(stack: list[_Half], name: str | None) -> int | None:
    """Which open range an end ends."""
    if name is None:
        return len(stack) - 1 if stack else None
    places = range(len(stack) - 1, -1, -1)
    return next((at for at in places if stack[at].name == name), None)


def _whole(pid: msgspec.Raw, tid: msgspec.Raw, begin: _Half, end: _Half) -> Event:
    return Event(
        ph="X",
        cat=begin.cat or end.cat,
        name=end.name if begin.name is None else begin.name,
        pid=pid,
        tid=tid,
        ts=_microseconds(begin.ns),
        dur=_microseconds(end.ns - begin.ns),
        args=_Raw(_together(begin.args, end.args)),
    )


def _together(begin: bytes, end: bytes) -> bytes:
    """The args of both; where one is no object, those of the begin."""
    if not end or begin == end:
        return begin
    try:
        return msgspec.json.encode(_fields(begin) | _fields(end))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return begin


def _fields(args: bytes) -> dict[str, msgspec.Raw]:
    return _decode_fields(args) if args else {}
