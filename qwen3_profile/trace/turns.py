"""A long file in, read by two processes in turns; its events in one store out.

The second process is a fork of this one. Both go through the whole text and cut it into the same
pieces; each reads every second piece, and the second one sends what its store holds then. Whatever
surprises one of the two: then nothing comes out, and the file is read by one alone, which tells
what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qwen3_profile.errors import TraceError
from qwen3_profile.system.processes import ForkFailedError, can_fork, forked, text_bytes
from qwen3_profile.trace.json_events import Document, decode_document
from qwen3_profile.trace.pieces import NoTurnsError, Pieces
from qwen3_profile.trace.store import Store
from qwen3_profile.trace.text import Text

# Below, the second process saves less than its start and its answer take.
SHORTEST_BYTES = 64 << 20

Keeps = Callable[[str], bool] | None


def read_in_turns(path: Path, keeps_op: Keeps) -> tuple[Store, Document] | None:
    """The events of a file, but for some of the last ones; and the document with these alone.

    None where one process is to read the file: it is short, or not in Kineto's layouts, something
    is wrong with it, or there is no second core or no way to use it.
    """
    if text_bytes(path) < SHORTEST_BYTES or not can_fork():
        return None
    try:
        with forked(lambda: _theirs(path, keeps_op)) as messages:
            return _join(path, keeps_op, messages)
    except (TraceError, NoTurnsError, ForkFailedError):
        return None


def _join(path: Path, keeps_op: Keeps, messages: Iterator[Any]) -> tuple[Store, Document]:
    """Reads the first piece and every second one from there, and adds what the other sends.

    Raises:
        TraceError: an event is damaged, or the rest of the text is no document.
        NoTurnsError: a piece is not whole events.
        ForkFailedError: the other process could not read its pieces.
    """
    store = Store(path, keeps_op)
    pieces = Pieces(path, store, turn=0)
    with Text(path) as text:
        rest = pieces.read(text)
    store.receive(messages)
    return store, decode_document(path, (pieces.head or b"") + rest, is_trace=pieces.cuts > 0)


def _theirs(path: Path, keeps_op: Keeps) -> Iterator[Any]:
    """What the second process reads."""
    store = Store(path, keeps_op)
    with Text(path) as text:
        Pieces(path, store, turn=1).read(text)
    yield from store.messages()
