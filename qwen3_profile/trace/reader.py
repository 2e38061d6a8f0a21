"""Reads a Kineto trace file: chunk by chunk into columns, a long one by two processes.

A chunk of whole events goes to `fast_events.py`, which knows the two layouts that Kineto writes and
is fast; what surprises it goes to `slow_events.py`, which knows JSON.

The second process is a fork of this one. Both go through the whole text and cut it into the same
chunks; each reads every second chunk, and the fork sends what it has then. Whatever surprises one
of the two: then the file is read by one alone, which tells what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.system.processes import ForkFailedError, can_fork, forked, text_bytes
from qwen3_profile.trace.begin_end import BeginEnd
from qwen3_profile.trace.broken_text import BrokenText
from qwen3_profile.trace.columns import Trace, TraceInfo
from qwen3_profile.trace.compact_trace import ColumnBuilder, CompactTrace
from qwen3_profile.trace.document import decode_any, refuse_no_json, refuse_other_program
from qwen3_profile.trace.fast_events import KinetoText
from qwen3_profile.trace.json_events import (
    GZIP_MAGIC,
    NOT_JSON,
    Distributed,
    Document,
    Event,
    decode_events,
    inflate_some,
)
from qwen3_profile.trace.mending import repaired
from qwen3_profile.trace.slow_events import nanoseconds, read_events
from qwen3_profile.trace.text import Text, read_some

# Below, the second process saves less than its start and its answer take.
SHORTEST_BYTES = 64 << 20

_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
# Where one event ends and the next begins: in Kineto's layouts, and in any other.
_BORDERS = (b"\n  },\n", b"},")
_MOST_TRIES = 4
_FIRST_BYTES = 1 << 16
# Longer ones are nobody's, and to wait for their end would fill the memory.
_LONGEST_EVENT = 1 << 25
_LONGEST_CHUNK = 1 << 24


def read_trace(path: Path, *, accept_damaged: bool = False, launch_columns: bool = False) -> Trace:
    """Reads a Kineto trace, plain or packed.

    Args:
        path: the file.
        accept_damaged: of a file that is cut off, read what is whole; `TraceInfo.damage` says so.
        launch_columns: whether `Trace.configs_of` is to be asked.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
        DamagedTraceError: it was a trace, but its text is cut off or broken.
    """
    return _read(_Reading(path, None, launch_columns, accept_damaged)).trace()


def read_compact(
    path: Path, *, accept_damaged: bool = False, keeps_op: Callable[[str], bool] | None = None
) -> CompactTrace:
    """As `read_trace`; for traces that are too long to be looked at in one piece.

    Args:
        keeps_op: which operators are wanted, by name, besides long ones; None for all of them.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
        DamagedTraceError: it was a trace, but its text is cut off or broken.
    """
    return _read(_Reading(path, keeps_op, accept_damaged=accept_damaged))


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is to be read of a file."""

    path: Path
    keeps_op: Callable[[str], bool] | None = None
    launch_columns: bool = False
    accept_damaged: bool = False

    def builder(self) -> ColumnBuilder:
        found = ColumnBuilder(self.path, self.keeps_op, launch_columns=self.launch_columns)
        found.keys.losses.accept = self.accept_damaged
        return found


def _read(reading: _Reading) -> CompactTrace:
    path, damage = reading.path, ""
    try:
        chunks, document = read_by_two(reading) or _read_by_one(reading)
        builder, halves = chunks.builder, chunks.halves
    except DamagedTraceError as error:
        if not reading.accept_damaged:
            raise
        builder, halves, damage = reading.builder(), BeginEnd(nanoseconds), error.what
        document = _left_of(path, error, builder)
    events = halves.others(document.trace_events or [])
    builder.add(read_events((*events, *halves.ranges()), builder.keys, path))
    info = _info(path, document, builder, damage)
    found = builder.compact_trace(replace(info, unpaired=halves.unpaired))
    if found.info.unread and found.is_empty:
        from qwen3_profile.trace.formats import refuse_other_events

        refuse_other_events(path, _head_of(path), found.info.unread)
    return found


def _left_of(path: Path, error: DamagedTraceError, builder: ColumnBuilder) -> Document:
    """What is whole of a file that is cut off, for whose damage `error` stands.

    Raises:
        DamagedTraceError: nothing is.
    """
    raw = path.read_bytes()
    text = inflate_some(raw) if raw[:2] == GZIP_MAGIC else read_some(path)
    found = _events_begin(text)
    begin, head = found or (len(text), b"")
    events = BrokenText(path, builder.keys).read_last(text[begin:], begin)
    if found is None or not events:
        raise DamagedTraceError(str(path), error.what, "nothing of it is whole; record it again")
    document = decode_any(path, head + (b"]" if head.lstrip()[:1] == b"[" else b"]}"))
    document.trace_events = events
    return document


def _head_of(path: Path) -> bytes:
    with Text(path) as text:
        text.fill()
        return bytes(text)


def _info(path: Path, document: Document, builder: ColumnBuilder, damage: str) -> TraceInfo:
    distributed = document.distributed or Distributed()
    return TraceInfo(
        path=str(path),
        schema_version=document.schema_version,
        base_time_ns=document.base_time_ns,
        devices=tuple(device.name for device in document.devices),
        damage=damage,
        rank=distributed.rank,
        world_size=distributed.world_size,
        versions=document.versions,
        messages=(*document.errors, *document.warnings),
        unread=builder.keys.unread,
        losses=builder.keys.losses.counts,
        ignored=document.ignored,
    )


# --- one process, or two --------------------------------------------------------------------------


class OneProcessError(Exception):
    """The file is not in Kineto's layouts, or is broken: one process is to read it."""


def _read_by_one(reading: _Reading) -> tuple[_Chunks, Document]:
    """The events, but for some of the last ones; and the document with these alone.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
    """
    chunks = _Chunks(reading)
    chunks.read()
    return chunks, chunks.document()


def read_by_two(reading: _Reading) -> tuple[_Chunks, Document] | None:
    """The same; None where one process is to read the file.

    It is short, or not in Kineto's layouts, something is wrong with it, or there is no second core
    or no way to use it.
    """
    if text_bytes(reading.path) < SHORTEST_BYTES or not can_fork():
        return None
    chunks = _Chunks(reading, turn=0)
    try:
        with forked(lambda: _second_half(reading)) as messages:
            chunks.read()
            chunks.builder.receive(messages)
            return chunks, chunks.document()
    except (TraceError, OneProcessError, ForkFailedError):
        return None


def _second_half(reading: _Reading) -> Iterator[object]:
    """What the second process reads."""
    chunks = _Chunks(reading, turn=1)
    chunks.read()
    yield from chunks.builder.messages()


class _Chunks:
    """Puts the events of a file into a builder, all but the last ones; these stay in its text.

    Of a document in which some whole events were left out the rest is a document, too: so what
    stands before and after the events needs no reading of its own.

    Args:
        turn: of two processes that read every second chunk each, 0 or 1; None to read them all.
    """

    def __init__(self, reading: _Reading, turn: int | None = None) -> None:
        self.builder = reading.builder()
        self.halves = BeginEnd(nanoseconds)
        self._path = reading.path
        self._kineto = KinetoText(self.builder.keys)
        self._broken = BrokenText(self._path, self.builder.keys)
        self._turn = turn
        self._head: bytes | None = None
        self._cuts = self._events = 0
        self._rest = b""
        self._rest_at = self._next_try = 0

    def read(self) -> None:
        """Reads the file, up to what is no whole chunk.

        Raises:
            TraceError: the file cannot be read.
            DamagedTraceError: it was a trace, but is cut off or broken.
            OneProcessError: it cannot be read by two processes.
        """
        with Text(self._path) as text:
            while self._pass_over(text) or text.fill():
                self._go_on(text)
            self._rest, self._rest_at = bytes(text), text.place
            if text.has_mark:
                self.builder.keys.losses.pass_over("the file begins with a byte order mark")

    def document(self) -> Document:
        """What remains of the text: the header and those events that the builder does not have.

        Raises:
            TraceError: it is the text of another kind of file.
            DamagedTraceError: it was a trace, but is cut off or broken.
        """
        text = (self._head or b"") + self._rest
        try:
            return decode_any(self._path, text, is_trace=self._cuts > 0)
        except TraceError:
            if self._head is None:
                raise
            rest = (self._head, self._rest, self._rest_at, self._events)
            found = self._broken.read_rest(*rest, partial(decode_any, self._path))
            if found is None:
                raise
            return found

    def _pass_over(self, text: Text) -> bool:
        """Leaves the other process its chunk without reading it, where that can be done."""
        if self._turn in (None, self._cuts % 2) or self._head is None:
            return False
        passed = text.pass_over(_BORDERS[0])
        self._cuts += passed
        return passed

    def _go_on(self, text: Text) -> None:
        """Reads what can be read of `text`.

        Raises:
            TraceError: it holds no end of an event where one must be.
        """
        waiting = text.end - text.begin
        # To look at text again and again until its event ends takes the square of its length.
        if waiting < min(self._next_try, _LONGEST_EVENT):
            return
        self._next_try = 0 if self._take(text) else 2 * waiting
        if text.end - text.begin > _LONGEST_EVENT:
            what = "no event begins" if self._head is None else "no event ends"
            raise TraceError(
                str(self._path),
                f"{what} in {_LONGEST_EVENT >> 20} MiB behind byte {text.place}",
                "give a trace that torch.profiler wrote",
            )

    def _take(self, text: Text) -> bool:
        """Reads whole events off the front of `text`; whether that could be done."""
        if self._head is None:
            found = _events_begin(bytes(text))
            refuse_no_json(self._path, bytes(text)[:_FIRST_BYTES])
            if found is None:
                return False
            refuse_other_program(self._path, bytes(text))
            begin, self._head = found
            if self._head != bytes(text)[:begin]:
                self.builder.keys.losses.pass_over(f"the header, up to byte {text.place + begin}")
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
        return self._add_whole(text)

    def _add_whole(self, text: Text) -> bool:
        """Reads the events of a text of which some are broken; whether there are any."""
        place = (text.place, self._events)
        events, count, taken = self._broken.read(bytes(text), *place)
        self._add_events(events)
        self._events += count
        self._cuts += count > 0
        text.begin += taken
        return taken > 0

    def _take_turn(self, text: Text, turn: int) -> None:
        """Reads the next chunk, or leaves it to the other process: both cut the same ones."""
        border = _BORDERS[0]
        found = text.data.rfind(border, text.begin, text.end)
        if found < 0:
            if text.end - text.begin > _LONGEST_CHUNK:
                raise OneProcessError
        elif self._cuts % 2 != turn:
            text.begin = found + len(border)
            self._cuts += 1
        elif not self._add(text, found + len(border)):
            raise OneProcessError

    def _add(self, text: Text, cut: int) -> bool:
        """Whether `text` up to `cut` is whole events with a comma behind each; then it is read."""
        found = self._kineto.read(text, cut)
        if found is None:
            inside = bytes(memoryview(text.data)[text.begin : cut])
            try:
                events = decode_events(b"[" + inside.rstrip()[:-1] + b"]")
            except NOT_JSON:
                return False
            self._events += len(events)
        else:
            block, events = found
            self.builder.add(block)
            self._events += self._kineto.count
        self._add_events(events)
        self._cuts += 1
        text.begin = cut
        return True

    def _add_events(self, events: list[Event]) -> None:
        if not events:
            return
        keys = self.builder.keys
        events = self.halves.others(events)
        self.builder.add(read_events(events, keys, self._path))
        if self._turn is not None and (self.halves or keys.losses):
            # The other end of a range may be in a chunk of the other process, and so may be the
            # first event that is lost.
            raise OneProcessError


def _events_begin(text: bytes) -> tuple[int, bytes] | None:
    """Where the first event of a file begins that begins with `text`, and the header before it.

    None if that is not here. A header that is not JSON is repaired.
    """
    if text.lstrip()[:1] == b"[":
        begin = text.index(b"[") + 1
        return begin, text[:begin]
    found = _EVENTS_KEY.search(text)
    if found is None:
        return None
    head = text[: found.end()]
    for each in (head, repaired(head)):
        try:
            if decode_any(Path(), each + b"]}").trace_events == []:
                return found.end(), each
        except TraceError:
            continue
    return None
