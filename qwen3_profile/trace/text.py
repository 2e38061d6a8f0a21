"""The text of a file, plain or packed, in memory one chunk at a time."""

from __future__ import annotations

import stat
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol

from qwen3_profile.errors import DamagedTraceError, OtherFormatError, TraceError

# Small enough to stay in a processor's cache while the columns are made of it, large enough that
# the calls of numpy do not count.
CHUNK_BYTES = 1 << 21
# Windows of text around a position may reach beyond the first event and the last.
MARGIN_BYTES = 1 << 12
# An event is seldom longer.
_LAST_BYTES = 1 << 14


class Text:
    """What is in memory of a file's text: `data[begin:end]`, with room in front and behind it.

    Plain or packed, whatever the file's name says.

    has_mark: whether it began with a byte order mark, which is left out.
    passed: how much of it was read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.data = bytearray(2 * (MARGIN_BYTES + CHUNK_BYTES))
        self.begin = self.end = MARGIN_BYTES
        self.passed = 0
        self.has_mark = False
        with _told(path):
            _refuse_special(path)
            self._file = path.open("rb", buffering=0)
        try:
            with _told(path):
                self._source = _source(path, self._file)
        except BaseException:
            self._file.close()
            raise

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
            DamagedTraceError: it is packed, but broken or cut off.
        """
        waiting = self.end - self.begin
        data = self.data
        if waiting + CHUNK_BYTES + 2 * MARGIN_BYTES > len(data):
            data = bytearray(2 * len(data))
        data[MARGIN_BYTES : MARGIN_BYTES + waiting] = self.data[self.begin : self.end]
        self.data, self.begin, self.end = data, MARGIN_BYTES, MARGIN_BYTES + waiting
        with _told(self._path), memoryview(data) as view:
            count = self._source.readinto(view[self.end : self.end + CHUNK_BYTES])
        if not self.passed and data.startswith(BOM_UTF8, self.end, self.end + count):
            self.begin += len(BOM_UTF8)
            self.has_mark = True
        self.end += count
        self.passed += count
        return count > 0

    @property
    def place(self) -> int:
        """Where `begin` is in the whole text."""
        return self.passed - (self.end - self.begin)

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


def read_text(path: Path, most: int | None = None) -> bytes:
    """All the text of a file.

    Args:
        most: so many bytes at most, for a small packed file can hold more than there is memory.

    Raises:
        TraceError: the file cannot be read, or is longer.
        DamagedTraceError: it is packed, but broken or cut off.
    """
    with Text(path) as text:
        while text.fill():
            if most is not None and text.passed > most:
                raise TraceError(str(path), f"is longer than {most >> 20} MB", "give a part of it")
        return bytes(text)


def read_some(path: Path) -> bytes:
    """The text of a file up to where it breaks."""
    with Text(path) as text:
        with suppress(DamagedTraceError):
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
    except (DamagedTraceError, OtherFormatError):
        pass
    return False


# By so much of its begin a file's format is known; of tar it stands far behind.
_HEAD_BYTES = 512


def _source(path: Path, file: FileIO) -> Source:
    """The text of a file, whatever it is packed in.

    Raises:
        OtherFormatError: it is no text of a trace.
    """
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if _may_be_json(head):
        return file
    # Most traces are plain, or of one packing alone: their code is all that is imported.
    from qwen3_profile.trace.unpacking import unpacked

    source, head = unpacked(path, file, head, _HEAD_BYTES)
    if not _may_be_json(head):
        from qwen3_profile.trace.formats import refuse_other_file

        refuse_other_file(path, head)
    return source


def _may_be_json(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _refuse_special(path: Path) -> None:
    """Refuses what may never end, and cannot be read twice."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise TraceError(str(path), "is no regular file", "save its text to a file, and give that")


class Source(Protocol):
    """Text as it comes, whatever it was packed in."""

    def readinto(self, view: memoryview, /) -> int: ...


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the file system raises into one line."""
    try:
        yield
    except OSError as error:
        raise TraceError(str(path), f"cannot be read: {error.strerror or error}") from error
