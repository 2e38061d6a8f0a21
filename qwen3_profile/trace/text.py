"""The text of a file, plain or gzip, in memory one chunk at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.trace.json_events import GZIP_MAGIC, damaged

# Small enough to stay in a processor's cache while the columns are made of it, large enough that
# the calls of numpy do not count.
CHUNK_BYTES = 1 << 21
# Windows of text around a position may reach beyond the first event and the last.
MARGIN_BYTES = 1 << 12
# An event is seldom longer.
_LAST_BYTES = 1 << 14

# What inflates four times as fast as the standard library raises an error of its own.
_NOT_WHOLE: tuple[Any, ...] = (gzip.BadGzipFile,)
try:
    from isal import igzip_lib

    _NOT_WHOLE += (igzip_lib.error,)
except ImportError:
    igzip_lib = None  # type: ignore[assignment]


class Text:
    """What is in memory of a file's text: `data[begin:end]`, with room in front and behind it.

    Plain or gzip, whatever the file's name says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.data = bytearray(2 * (MARGIN_BYTES + CHUNK_BYTES))
        self.begin = self.end = MARGIN_BYTES
        with _told(path):
            self._file = path.open("rb", buffering=0)
            self._source = _source(self._file)

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self.data)[self.begin : self.end])

    def fill(self) -> bool:
        """Reads on by a chunk, and makes room for it; False at the end of the file.

        Raises:
            TraceError: the file cannot be read.
            DamagedTraceError: it is gzip, but broken or cut off.
        """
        waiting = self.end - self.begin
        data = self.data
        if waiting + CHUNK_BYTES + 2 * MARGIN_BYTES > len(data):
            data = bytearray(2 * len(data))
        data[MARGIN_BYTES : MARGIN_BYTES + waiting] = self.data[self.begin : self.end]
        self.data, self.begin, self.end = data, MARGIN_BYTES, MARGIN_BYTES + waiting
        with _told(self._path), memoryview(data) as view:
            count = self._source.readinto(view[self.end : self.end + CHUNK_BYTES])
        self.end += count
        return count > 0

    def pass_over(self, border: bytes) -> bool:
        """Goes to behind the last border in what `fill` would read; whether that could be done.

        Of a plain file no more is read than where the border may be expected.
        """
        if not isinstance(self._source, FileIO):
            return False
        with _told(self._path):
            here = self._file.tell()
            self._file.seek(here + CHUNK_BYTES - _LAST_BYTES)
            last = self._file.read(_LAST_BYTES)
            found = last.rfind(border)
            if found < 0 or len(last) < _LAST_BYTES:
                self._file.seek(here)
                return False
        rest = last[found + len(border) :]
        self.begin, self.end = MARGIN_BYTES, MARGIN_BYTES + len(rest)
        self.data[self.begin : self.end] = rest
        return True


def read_text(path: Path) -> bytes:
    """All the text of a file.

    Raises:
        TraceError: the file cannot be read.
        DamagedTraceError: it is gzip, but broken or cut off.
    """
    with Text(path) as text:
        while text.fill():
            pass
        return bytes(text)


def stands_in(path: Path, words: Sequence[bytes]) -> bool:
    """Whether one of these words stands in the text of a file, as far as that can be read.

    Raises:
        TraceError: the file cannot be read.
    """
    try:
        with Text(path) as text:
            while text.fill():
                if any(text.data.find(word, text.begin, text.end) >= 0 for word in words):
                    return True
                # A word may lie across the end of what was read.
                text.begin = max(text.begin, text.end - max(map(len, words)))
    except DamagedTraceError:
        pass
    return False


class _Source(Protocol):
    def readinto(self, view: memoryview, /) -> int: ...


def _source(file: FileIO) -> _Source:
    magic = file.read(2)
    file.seek(0)
    if magic != GZIP_MAGIC:
        return file
    return gzip.GzipFile(fileobj=file) if igzip_lib is None else _Inflated(file)


class _Inflated:
    """The text of a gzip file, which may have several members."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._packed = file.read(CHUNK_BYTES)
        self._inflater: Any = None

    def readinto(self, view: memoryview) -> int:
        while self._inflater is not None or self._next_member():
            if self._inflater.needs_input and not self._packed:
                self._packed = self._file.read(CHUNK_BYTES)
                if not self._packed:
                    raise EOFError("Compressed file ended before its end-of-stream marker")
            text = self._inflater.decompress(self._packed, len(view))
            self._packed = b""
            if self._inflater.eof:
                # Zeros may follow the last member, as padding.
                self._packed = self._inflater.unused_data or self._file.read(CHUNK_BYTES)
                self._packed = self._packed.lstrip(b"\0")
                self._inflater = None
            if text:
                view[: len(text)] = text
                return len(text)
        return 0

    def _next_member(self) -> bool:
        if not self._packed:
            return False
        if not GZIP_MAGIC.startswith(self._packed[:2]):
            raise gzip.BadGzipFile(f"Not a gzipped file ({self._packed[:2]!r})")
        self._inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return True


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the file system and the inflater raise into one line each."""
    try:
        yield
    except _NOT_WHOLE as error:
        raise damaged(path, f"is not whole gzip: {error}") from error
    except OSError as error:
        raise TraceError(str(path), f"cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise damaged(path, f"is cut off or not whole gzip: {error}") from error
