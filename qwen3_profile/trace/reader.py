"""A Kineto trace file in, a `Trace` of columns out.

The file is read piece by piece. A piece of whole events goes to `kineto.py`, which knows the two
layouts that Kineto writes and is fast; what surprises it goes to `general.py`, which knows JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.trace.columns import Trace, TraceInfo
from qwen3_profile.trace.document import (
    NOT_JSON,
    Distributed,
    Document,
    decode_document,
    decode_events,
    salvage,
)
from qwen3_profile.trace.general import nanoseconds, read_events
from qwen3_profile.trace.kinds import MODULE_PREFIX, NODE_PREFIX
from qwen3_profile.trace.kineto import KinetoText
from qwen3_profile.trace.store import Recording, Store
from qwen3_profile.trace.text import Text

__all__ = ["MODULE_PREFIX", "NODE_PREFIX", "nanoseconds", "read_recording", "read_trace"]

_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
# Where one event ends and the next begins: in Kineto's layouts, and in any other.
_BORDERS = (b"\n  },\n", b"},")
_MOST_TRIES = 4
_LONGEST_HEAD = 1 << 24


def read_trace(
    path: Path, *, accept_damaged: bool = False, keeps_op: Callable[[str], bool] | None = None
) -> Trace:
    """Reads a Kineto trace, `.json` or `.json.gz`.

    Args:
        path: the file.
        accept_damaged: of a file that is cut off, read what is whole; `TraceInfo.damage` says so.
        keeps_op: which operators are wanted, by name; None for all of them.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
        DamagedTraceError: it was a trace, but its text is cut off or broken.
    """
    return read_recording(path, accept_damaged=accept_damaged, keeps_op=keeps_op).trace()


def read_recording(
    path: Path, *, accept_damaged: bool = False, keeps_op: Callable[[str], bool] | None = None
) -> Recording:
    """As `read_trace`; for traces that are too long to be looked at in one piece.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
        DamagedTraceError: it was a trace, but its text is cut off or broken.
    """
    store, damage = Store(path, keeps_op), ""
    try:
        document = _Reading(path, store).document()
    except DamagedTraceError as error:
        if not accept_damaged:
            raise
        store, damage = Store(path, keeps_op), error.what
        document = salvage(path, error)
    store.add(read_events(document.trace_events or (), store.kinds, path))
    return store.recording(_info(path, document, store, damage))


def _info(path: Path, document: Document, store: Store, damage: str) -> TraceInfo:
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
        unread=store.kinds.unread,
    )


class _Reading:
    """Puts the events of a file into a store, all but the last ones; these stay in the document.

    Of a document in which some whole events were left out the rest is a document, too: so what
    stands before and after the events needs no reading of its own.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self._path = path
        self._store = store
        self._kineto = KinetoText(path, store.kinds)
        self._head: bytes | None = None
        self._cuts = 0

    def document(self) -> Document:
        """The document without the events that the store has.

        Raises:
            TraceError: the file cannot be read, or is not a trace.
            DamagedTraceError: it was a trace, but its text is cut off or broken.
        """
        with Text(self._path) as text:
            # Text in which no border is found goes to the decoder in one piece.
            goes_on = True
            while text.fill():
                goes_on = goes_on and self._take(text)
            rest = (self._head or b"") + bytes(text)
        return decode_document(self._path, rest, is_trace=self._cuts > 0)

    def _take(self, text: Text) -> bool:
        """Reads whole events off the front of `text`; whether that goes on."""
        if self._head is None:
            begin = _events_begin(bytes(text))
            if begin is None:
                return text.end - text.begin < _LONGEST_HEAD
            self._head = bytes(text)[:begin]
            text.begin += begin
        for border in _BORDERS:
            end = text.end
            for _ in range(_MOST_TRIES):
                end = text.data.rfind(border, text.begin, end)
                if end < 0:
                    break
                if self._add(text, end + len(border)):
                    return True
        return False

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
        self._cuts += 1
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
