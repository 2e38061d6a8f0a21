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


class BeginEnd:
    """Keeps those events of a file until all of it was read.

    Args:
        nanoseconds: what the text of a time says.
    """

    def __init__(self, nanoseconds: Callable[[bytes], int]) -> None:
        self._nanoseconds = nanoseconds
        self._by_thread: dict[tuple[bytes, bytes], list[Event]] = {}
        self.unpaired = 0

    def __bool__(self) -> bool:
        return bool(self._by_thread)

    def others(self, events: list[Event]) -> list[Event]:
        """The events that are no such ones; those that are it keeps."""
        if not any(map(_is_half, events)):
            return events
        for event in filter(_is_half, events):
            thread = (bytes(event.pid), bytes(event.tid))
            self._by_thread.setdefault(thread, []).append(event)
        return [event for event in events if not _is_half(event)]

    def ranges(self) -> list[Event]:
        """Each range as one event, and what has no time as it is: it is told as any other is."""
        return [each for events in self._by_thread.values() for each in self._pair(events)]

    def _pair(self, events: list[Event]) -> Iterator[Event]:
        timed: list[tuple[int, Event]] = []
        for event in events:
            try:
                timed.append((self._nanoseconds(bytes(event.ts)), event))
            except (ValueError, ArithmeticError):
                yield _whole(event, event, _Raw(b""))
        timed.sort(key=lambda each: each[0])
        stack: list[tuple[int, Event]] = []
        for ns, event in timed:
            if event.ph == "B":
                stack.append((ns, event))
                continue
            at = _last_of_name(stack, event)
            if at is None:
                self.unpaired += 1
            else:
                began_ns, begin = stack.pop(at)
                yield _whole(begin, event, _microseconds(ns - began_ns))
        self.unpaired += len(stack)


def _is_half(event: Event) -> bool:
    return event.ph in ("B", "E") and not bytes(event.dur)


def _microseconds(ns: int) -> msgspec.Raw:
    return _Raw(b"%d.%03d" % divmod(ns, 1000))


def _last_of_name(stack: list[tuple[int, Event]], end: Event) -> int | None:
    """Which open range an event ends."""
    if end.name is None:
        return len(stack) - 1 if stack else None
    for at in range(len(stack) - 1, -1, -1):
        if stack[at][1].name == end.name:
            return at
    return None


def _whole(begin: Event, end: Event, dur: msgspec.Raw) -> Event:
    return Event(
        ph="X",
        cat=begin.cat or end.cat,
        name=begin.name if begin.name is not None else end.name,
        pid=begin.pid,
        tid=begin.tid,
        ts=begin.ts,
        dur=dur,
        args=_together(begin.args, end.args),
    )


def _together(begin: msgspec.Raw, end: msgspec.Raw) -> msgspec.Raw:
    """The args of both; what is in neither way an object is taken as it is."""
    if not bytes(end) or bytes(begin) == bytes(end):
        return begin
    try:
        return _Raw(msgspec.json.encode(_fields(begin) | _fields(end)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return begin


def _fields(args: msgspec.Raw) -> dict[str, msgspec.Raw]:
    return _decode_fields(args) if bytes(args) else {}
