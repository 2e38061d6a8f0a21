"""How a packed file is unpacked: gzip, bzip2, xz and Zstandard, told by how the file begins."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from io import FileIO
from pathlib import Path
from typing import Any

from qwen3_profile.errors import COPY_AGAIN, DamagedTraceError, TraceError

GZIP_MAGIC = b"\x1f\x8b"
# What is read of the packed file at a time.
_PIECE_BYTES = 1 << 21
# Of a file packed with a larger dictionary nothing is read: xz allows for 4 GiB.
_MOST_XZ_BYTES = 1 << 30
# gzip in gzip is what a browser's download makes; more is nobody's trace.
_MOST_LAYERS = 4


@dataclass(frozen=True, slots=True)
class Packing:
    """One way of packing.

    magic: how a member of such a file begins.
    new: makes what unpacks one member, as those of the standard library do.
    errors: what that raises of a file that is not whole.
    """

    name: str
    magic: bytes
    new: Callable[[], Any]
    errors: Callable[[], tuple[type[Exception], ...]]


def unpacked(path: Path, file: FileIO, head: bytes, count: int) -> tuple[FileIO | Unpacked, bytes]:
    """The text of an open file, unpacked where it is packed, also twice; and how it begins.

    Args:
        path: names the file in errors.
        file: open at its begin.
        head: how it begins. count: so much of the begin of the text in it is asked for.

    Raises:
        TraceError: what unpacks it is not installed, or it is packed too often.
        DamagedTraceError: it is not whole.
    """
    source: FileIO | Unpacked = file
    for _ in range(_MOST_LAYERS):
        packing = packing_of(head)
        if packing is None:
            return source, head
        inside = Unpacked(path, source, packing)
        source, head = inside, inside.peek(count)
    raise TraceError(str(path), f"is packed {_MOST_LAYERS} times over", "unpack it first")


def packing_of(head: bytes) -> Packing | None:
    """The packing of a file that begins so; None of one that is not packed."""
    return next((each for each in _PACKINGS if head.startswith(each.magic)), None)


class Unpacked:
    """The text of a packed file, which may have several members."""

    def __init__(self, path: Path, source: Any, packing: Packing) -> None:
        self._path = path
        self._source = source
        self._packing = packing
        self._packed: bytes = source.read(_PIECE_BYTES)
        self._member: Any = None
        self._ahead = b""
        self._broken: DamagedTraceError | None = None
        self._new = _maker(path, packing)

    def peek(self, count: int) -> bytes:
        """How the text begins, which is given again."""
        while len(self._ahead) < count and (more := self._next(count)):
            self._ahead += more
        return self._ahead[:count]

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end alone."""
        if self._ahead:
            found, self._ahead = self._ahead[:count], self._ahead[count:]
            return found
        return self._next(count)

    def readinto(self, view: memoryview) -> int:
        """Fills all of it, but at the end of the text, or where that breaks."""
        done = 0
        if self._broken is not None:
            raise self._broken
        try:
            while done < len(view) and (text := self.read(len(view) - done)):
                view[done : done + len(text)] = text
                done += len(text)
        except DamagedTraceError as error:
            # What stands in front of it is given first.
            if not done:
                raise
            self._broken = error
        return done

    def _next(self, count: int) -> bytes:
        while self._member is not None or self._next_member():
            if self._member.needs_input and not self._packed:
                self._packed = self._source.read(_PIECE_BYTES)
                if not self._packed:
                    raise self._bad("cut off or not whole", "it ends before its end is marked")
            text = self._decompress(count)
            self._packed = b""
            if self._member.eof:
                # Zeros may follow the last member, as padding.
                self._packed = self._member.unused_data or self._source.read(_PIECE_BYTES)
                self._packed = self._packed.lstrip(b"\0")
                self._member = None
            if text:
                return text
        return b""

    def _decompress(self, count: int) -> bytes:
        try:
            text: bytes = self._member.decompress(self._packed, count)
        except self._packing.errors() as error:
            raise self._bad("not whole", str(error)) from error
        return text

    def _bad(self, how: str, error: str) -> DamagedTraceError:
        what = f"is {how} {self._packing.name}: {error}"
        return DamagedTraceError(str(self._path), what, COPY_AGAIN)

    def _next_member(self) -> bool:
        if not self._packed:
            return False
        begin = self._packed[: len(self._packing.magic)]
        if not self._packing.magic.startswith(begin):
            raise self._bad("not whole", f"behind its end stands {begin!r}")
        self._member = self._new()
        return True


def _maker(path: Path, packing: Packing) -> Callable[[], Any]:
    """Makes what unpacks a member.

    Raises:
        TraceError: it is not installed.
    """
    try:
        packing.new()
    except ImportError as error:
        raise TraceError(
            str(path), f"is packed with {packing.name}, which is not installed here", str(error)
        ) from error
    return packing.new


# --- gzip -----------------------------------------------------------------------------------------

# What inflates four times as fast as the standard library raises an error of its own.
try:
    from isal import igzip_lib
except ImportError:
    igzip_lib = None  # type: ignore[assignment]


class _Inflater:
    """The standard library's, which leaves it to the caller to keep what it did not take."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def decompress(self, packed: bytes, count: int) -> bytes:
        text = self._inflater.decompress(self._inflater.unconsumed_tail + packed, count)
        self.needs_input = not self._inflater.unconsumed_tail and len(text) < count
        return text


def _new_gzip() -> Any:
    fast: Any = igzip_lib
    return _Inflater() if fast is None else fast.IgzipDecompressor(flag=fast.DECOMP_GZIP)


def _gzip_errors() -> tuple[type[Exception], ...]:
    fast: Any = igzip_lib
    return (zlib.error,) if fast is None else (fast.error,)


# --- the others: their modules are imported for a file of theirs alone ----------------------------


def _new_bzip2() -> Any:
    import bz2

    return bz2.BZ2Decompressor()


def _new_xz() -> Any:
    import lzma

    return lzma.LZMADecompressor(memlimit=_MOST_XZ_BYTES)


def _xz_errors() -> tuple[type[Exception], ...]:
    import lzma

    return (lzma.LZMAError, MemoryError)


def _new_zstd() -> Any:
    """Of the standard library, from Python 3.14 on, or of what brings it to those before.

    Raises:
        ImportError: none is there; it says what to install.
    """
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name).ZstdDecompressor()
    with suppress(ImportError):
        return _ZstandardMember(import_module("zstandard"))
    raise ImportError("pip install backports.zstd, or unpack it: zstd -d FILE")


def _zstd_errors() -> tuple[type[Exception], ...]:
    names = ("compression.zstd", "backports.zstd", "zstandard")
    modules = (sys.modules.get(name) for name in names)
    return (*(module.ZstdError for module in modules if module is not None), MemoryError)


class _ZstandardMember:
    """The `zstandard` wheel's, which gives all text of what it is given: so it gets little."""

    _PIECE = 1 << 10

    def __init__(self, module: Any) -> None:
        self._member = module.ZstdDecompressor().decompressobj()
        self._packed, self._at = b"", 0
        self._text = b""

    @property
    def eof(self) -> bool:
        return self._member.eof and not self._text

    @property
    def needs_input(self) -> bool:
        return not self._text and self._at >= len(self._packed)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._member.unused_data) + self._packed[self._at :]

    def decompress(self, packed: bytes, count: int) -> bytes:
        if packed:
            self._packed, self._at = packed, 0
        while not self._text and self._at < len(self._packed) and not self._member.eof:
            piece = self._packed[self._at : self._at + self._PIECE]
            self._at += len(piece)
            self._text = self._member.decompress(piece)
        text: bytes = self._text[:count]
        self._text = self._text[count:]
        return text


_PACKINGS = (
    Packing("gzip", GZIP_MAGIC, _new_gzip, _gzip_errors),
    Packing("Zstandard", b"\x28\xb5\x2f\xfd", _new_zstd, _zstd_errors),
    Packing("xz", b"\xfd7zXZ\0", _new_xz, _xz_errors),
    Packing("bzip2", b"BZh", _new_bzip2, lambda: (OSError, ValueError)),
)
