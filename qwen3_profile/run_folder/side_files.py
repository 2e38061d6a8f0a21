"""Reads the versioned files that lie with the traces of a run."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from qwen3_profile.errors import TraceError


class Versioned(Protocol):
    """What begins with the version of its schema."""

    @property
    def schema_version(self) -> int: ...


_File = TypeVar("_File", bound=Versioned)


def read_versioned(path: Path, kind: type[_File], newest: int, what: str) -> _File:
    """The JSON file at `path`.

    Args:
        newest: the version of the schema that is known here.
        what: the file's kind in a sentence, such as "provenance".

    Raises:
        TraceError: it is not there, not ours, or of a newer schema.
    """
    do = "it belongs to the run's folder; record the run again"
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        found = msgspec.json.decode(text, type=kind)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise TraceError(str(path), f"cannot be read: {why}", do) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(str(path), f"is no {what} of ours: {error}", do) from error
    if found.schema_version > newest:
        newer = f"was written by a newer qwen3_profile (schema {found.schema_version})"
        raise TraceError(str(path), newer, "upgrade qwen3_profile")
    return found
