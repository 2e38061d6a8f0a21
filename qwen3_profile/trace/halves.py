"""A long plain file in, read by two processes; its events in one store out.

The second process is a fork of this one, reads from the middle of the file to its end, and sends
what its store holds through a pipe. Whatever surprises one of the two: then nothing comes out, and
the file is read by one alone, which tells what is wrong with it.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

from qwen3_profile.cores import core_count, may_fork
from qwen3_profile.errors import TraceError
from qwen3_profile.trace.document import GZIP_MAGIC, Document, decode_document
from qwen3_profile.trace.pieces import Pieces
from qwen3_profile.trace.store import Store
from qwen3_profile.trace.text import Text

# Below, the second process saves less than its start and its answer take.
SHORTEST_BYTES = 64 << 20
_BORDER = b"\n  },\n  {\n"
_SEARCHED_BYTES = 1 << 20
_END = "end"

Keeps = Callable[[str], bool] | None


def read_halves(path: Path, keeps_op: Keeps) -> tuple[Store, Document] | None:
    """The events of a file, but for some of the last ones; and the document with these alone.

    None where the file is to be read by one process: it is short or packed, no event begins in its
    middle as Kineto writes them, something is wrong with it, or this process must not be forked.
    """
    if core_count() < 2 or not may_fork():
        return None
    try:
        size = path.stat().st_size
        middle = _middle(path, size) if size >= SHORTEST_BYTES else None
    except OSError:
        return None
    if middle is None:
        return None
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _send_second(path, keeps_op, slice(middle, size), writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            return _join(path, keeps_op, middle, pipe)
    except (TraceError, EOFError, pickle.UnpicklingError):
        return None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _middle(path: Path, size: int) -> int | None:
    """Where, near its middle, an event of the file begins."""
    with path.open("rb") as file:
        if file.read(2) == GZIP_MAGIC:
            return None
        file.seek(size // 2)
        at = file.read(_SEARCHED_BYTES).find(_BORDER)
    return None if at < 0 else size // 2 + at + _BORDER.index(b"  {")


def _join(path: Path, keeps_op: Keeps, middle: int, pipe: IO[bytes]) -> tuple[Store, Document]:
    """Reads the first half, and adds the second to it.

    Raises:
        TraceError: the first half is not whole events, or both together are no document.
        EOFError: the other process could not read the second half.
    """
    store = Store(path, keeps_op)
    pieces = Pieces(path, store)
    with Text(path, slice(0, middle)) as text:
        rest = pieces.read(text)
    if rest or pieces.head is None:
        raise EOFError
    messages = iter(lambda: pickle.load(pipe), _END)
    end = next(messages)
    store.receive(messages)
    return store, decode_document(path, pieces.head + end, is_trace=True)


def _send_second(path: Path, keeps_op: Keeps, part: slice, writing: int) -> None:
    """What the second process does, from its begin to its end.

    That it could not read its half is told by nothing that it sends.
    """
    try:
        store = Store(path, keeps_op)
        with Text(path, part) as text:
            rest = Pieces(path, store, b"").read(text)
        with open(writing, "wb") as pipe:
            for message in (rest, *store.messages(), _END):
                pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    finally:
        # Nothing that this process has in common with the first one is to be cleaned up twice.
        os._exit(0)
