"""A long file in, read by two processes in turns; its events in one store out.

The second process is a fork of this one. Both go through the whole text and cut it into the same
pieces; each reads every second piece, and the second one sends what its store holds then through a
pipe. Whatever surprises one of the two: then nothing comes out, and the file is read by one alone,
which tells what is wrong with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

from qwen3_profile.cores import core_count, may_fork, text_bytes
from qwen3_profile.errors import TraceError
from qwen3_profile.trace.document import Document, decode_document
from qwen3_profile.trace.pieces import NoTurnsError, Pieces
from qwen3_profile.trace.store import Store
from qwen3_profile.trace.text import Text

# Below, the second process saves less than its start and its answer take.
SHORTEST_BYTES = 64 << 20
_END = "end"

Keeps = Callable[[str], bool] | None


def read_in_turns(path: Path, keeps_op: Keeps) -> tuple[Store, Document] | None:
    """The events of a file, but for some of the last ones; and the document with these alone.

    None where one process is to read the file: it is short, or not in Kineto's layouts, something
    is wrong with it, or there is no second core or no way to use it.
    """
    if text_bytes(path) < SHORTEST_BYTES or core_count() < 2 or not may_fork():
        return None
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        return None
    if child == 0:
        os.close(reading)
        _send(path, keeps_op, writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            return _join(path, keeps_op, pipe)
    except (TraceError, NoTurnsError, EOFError, pickle.UnpicklingError):
        return None
    finally:
        # Who ignores SIGCHLD has no children to wait for.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _join(path: Path, keeps_op: Keeps, pipe: IO[bytes]) -> tuple[Store, Document]:
    """Reads the first piece and every second one from there, and adds what the other sends.

    Raises:
        TraceError: an event is damaged, or the rest of the text is no document.
        NoTurnsError: a piece is not whole events.
        EOFError: the other process could not read its pieces.
    """
    store = Store(path, keeps_op)
    pieces = Pieces(path, store, turn=0)
    with Text(path) as text:
        rest = pieces.read(text)
    store.receive(iter(lambda: pickle.load(pipe), _END))
    return store, decode_document(path, (pieces.head or b"") + rest, is_trace=pieces.cuts > 0)


def _send(path: Path, keeps_op: Keeps, writing: int) -> None:
    """What the second process does, from its begin to its end.

    That it could not read its pieces is told by nothing that it sends.
    """
    try:
        store = Store(path, keeps_op)
        with Text(path) as text:
            Pieces(path, store, turn=1).read(text)
        with open(writing, "wb") as pipe:
            for message in (*store.messages(), _END):
                pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    finally:
        # Nothing that this process has in common with the first one is to be cleaned up twice.
        os._exit(0)
