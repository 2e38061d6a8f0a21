"""Reads the JSON files of a run's folder: each may be anybody's, and is read bounded."""

from __future__ import annotations

import errno
import os
import stat
import threading
import zlib
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from qwen3_profile.errors import ProfileError, TraceError

# Of a file, unpacked: what the labels of a clock pass of a thousand steps read takes less.
_MOST_BYTES = 1 << 28
_GZIP = 31  # zlib's largest window, with gzip's head and sum
# msgspec looks a type up at its first use; a second thread that uses it meanwhile crashes, as two
# requests of TensorBoard's tab can.
_DECODING = threading.Lock()
_AGAIN = "it belongs to the run's folder; record the run again"


class Versioned(Protocol):
    """What begins with the version of its schema."""

    @property
    def schema_version(self) -> int: ...


_File = TypeVar("_File", bound=Versioned)


def read_versioned(
    path: Path, kind: type[_File], newest: int, what: str, do: str = _AGAIN
) -> _File:
    """The JSON file at `path`.

    Args:
        newest: the version of the schema that is known here.
        what: the file's kind in a sentence, such as "provenance".
        do: what to do about a file that is not there, or none of ours.

    Raises:
        TraceError: it is not there, not ours, or of a newer schema.
    """
    data = _read(path, do)
    version = _decoded(path, data, _Version, what, do).schema_version
    if version > newest:
        newer = f"was written by a newer qwen3_profile (schema {version})"
        raise TraceError(str(path), newer, "upgrade qwen3_profile")
    found: _File = _decoded(path, data, kind, what, do)
    return found


def read_json(path: Path, kind: Any, what: str, do: str = _AGAIN) -> Any:
    """As `read_versioned`, of a file without a version."""
    return _decoded(path, _read(path, do), kind, what, do)


def _decoded(path: Path, data: bytes, kind: Any, what: str, do: str) -> Any:
    try:
        with _DECODING:
            return msgspec.json.decode(data, type=kind)
    # A config checks itself when it is made.
    except (msgspec.DecodeError, UnicodeDecodeError, ProfileError) as error:
        raise TraceError(str(path), f"is not a {what} of ours: {error}", do) from error
    except RecursionError as error:
        raise TraceError(
            str(path), f"is not a {what} of ours: it is nested too deep", do
        ) from error


def _read(path: Path, do: str) -> bytes:
    """The bytes of a plain file, unpacked."""
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a plain file")
            data = file.read(_MOST_BYTES + 1)
        if path.suffix == ".gz":
            data = _unpacked(data)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise TraceError(str(path), f"cannot be read: {why}", do) from error
    if len(data) > _MOST_BYTES:
        raise TraceError(str(path), f"is larger than {_MOST_BYTES >> 20} MB", do)
    return data


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj(_GZIP)
    text = unpacking.decompress(data, _MOST_BYTES + 1)
    if not unpacking.eof and len(text) <= _MOST_BYTES:
        raise EOFError("it is cut off")
    return text


class _Version(msgspec.Struct):
    schema_version: int
