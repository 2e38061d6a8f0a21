"""Writes the trace of a finished session of torch.profiler, gzipped: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from torch.profiler import profile

from qwen3_profile.errors import OutputError
from qwen3_profile.measure.profiler_log import kept_log
from qwen3_profile.system.files import output_error, write_atomic

_BLOCK_BYTES = 1 << 20
# The last key that Kineto writes; a file that was cut off has none.
_LAST_KEY = b'"traceName"'
_TAIL_BYTES = 1 << 16
_GZIP = 31  # zlib's largest window, with gzip's head and sum


def export_trace(profiler: profile, path: Path) -> None:
    """Writes the trace of a session that has ended to `path`, `.json.gz`.

    Raises:
        OutputError: it could not be written; nothing is left of it.
    """
    plain = path.with_name(f".{path.name}.json")
    try:
        path.parent.mkdir(exist_ok=True)
        _write_plain(profiler, plain)
        write_atomic(path, _packed(plain))
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        # Kineto leaves a file of its own next to the plain one when it fails.
        for leftover in path.parent.glob(f".{path.name}.*"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _packed(plain: Path) -> Iterator[bytes]:
    """A file as gzip has it, piece by piece."""
    packing = zlib.compressobj(level=6, wbits=_GZIP)
    with open(plain, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield packing.compress(block)
    yield packing.flush()


def _write_plain(profiler: profile, plain: Path) -> None:
    """Lets Kineto write; it tells a full disk by a line in its log at most, and never raises."""
    complaints: list[str] = []
    with kept_log(complaints):
        profiler.export_chrome_trace(str(plain))
    if _is_whole(plain):
        return
    if _is_full(plain.parent):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = f": {complaints[0]}" if complaints else ""
    raise OutputError(str(plain.parent), f"the profiler did not write its trace{said}")


def _is_whole(plain: Path) -> bool:
    try:
        with open(plain, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return False
    return _LAST_KEY in tail and tail.rstrip().endswith(b"}")


def _is_full(folder: Path) -> bool:
    """Whether the disk has no room for another block; the free bytes alone ignore quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * _BLOCK_BYTES)
            probe.flush()
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False
