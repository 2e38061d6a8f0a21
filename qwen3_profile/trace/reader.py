"""A Kineto trace file in, a `Trace` of columns out.

The file is read piece by piece (`pieces.py`), a long one by two processes in turns
(`turns.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.trace.columns import Trace, TraceInfo
from qwen3_profile.trace.event_kinds import MODULE_PREFIX, NODE_PREFIX
from qwen3_profile.trace.json_events import Distributed, Document, decode_document, salvage
from qwen3_profile.trace.pieces import Pieces
from qwen3_profile.trace.recording import Recording
from qwen3_profile.trace.slow_events import nanoseconds, read_events
from qwen3_profile.trace.store import Store
from qwen3_profile.trace.text import Text
from qwen3_profile.trace.turns import read_in_turns

__all__ = ["MODULE_PREFIX", "NODE_PREFIX", "nanoseconds", "read_recording", "read_trace"]


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
    damage = ""
    try:
        store, document = _read(path, keeps_op)
    except DamagedTraceError as error:
        if not accept_damaged:
            raise
        store, damage = Store(path, keeps_op), error.what
        document = salvage(path, error)
    store.add(read_events(document.trace_events or (), store.kinds, path))
    return store.recording(_info(path, document, store, damage))


def _read(path: Path, keeps_op: Callable[[str], bool] | None) -> tuple[Store, Document]:
    """The events, but for some of the last ones; and the document with these alone."""
    found = read_in_turns(path, keeps_op)
    if found is not None:
        return found
    store = Store(path, keeps_op)
    pieces = Pieces(path, store)
    with Text(path) as text:
        rest = pieces.read(text)
    return store, decode_document(path, (pieces.head or b"") + rest, is_trace=pieces.cuts > 0)


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
