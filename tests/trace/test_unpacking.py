"""Files in other packings than gzip, several of them, and what unpacks them missing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwen3_profile.errors import DamagedTraceError, OtherFormatError, TraceError
from qwen3_profile.trace import text as module
from qwen3_profile.trace import unpacking
from qwen3_profile.trace.text import Text

TEXT = b"[" + bytes(range(32, 120)) * 3000 + b"]"
ZSTD = b"\x28\xb5\x2f\xfd"


def whole(path: Path) -> bytes:
    with Text(path) as text:
        while text.fill():
            pass
        return bytes(text)


def written(folder: Path, data: bytes, name: str = "t.json") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pieces", [1000, 1 << 21])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bz2.compress(TEXT), id="bzip2"),
        pytest.param(bz2.compress(TEXT[:99]) + bz2.compress(TEXT[99:]), id="two of bzip2"),
        pytest.param(lzma.compress(TEXT), id="xz"),
        pytest.param(lzma.compress(TEXT[:99]) + lzma.compress(TEXT[99:]), id="two of xz"),
        pytest.param(gzip.compress(gzip.compress(TEXT)), id="gzip in gzip"),
        pytest.param(gzip.compress(lzma.compress(TEXT)), id="xz in gzip"),
        pytest.param(lzma.compress(gzip.compress(TEXT)) + b"\0" * 4, id="gzip in padded xz"),
    ],
)
def test_text_comes_out_whole(
    data: bytes, pieces: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", pieces)
    monkeypatch.setattr(unpacking, "_PIECE_BYTES", pieces)
    assert whole(written(tmp_path, data)) == TEXT


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(bz2.compress(TEXT)[:-20], "cut off or not whole bzip2", id="bzip2 cut off"),
        pytest.param(lzma.compress(TEXT)[:-20], "cut off or not whole xz", id="xz cut off"),
        pytest.param(bz2.compress(TEXT)[:30] + b"\xff" * 99, "not whole bzip2", id="bzip2 broken"),
        pytest.param(lzma.compress(TEXT)[:30] + b"\xff" * 99, "not whole xz", id="xz broken"),
        pytest.param(lzma.compress(TEXT) + b"more", "not whole xz: behind", id="more behind it"),
        pytest.param(
            gzip.compress(gzip.compress(TEXT)[:-9]), "not whole gzip", id="inside not whole"
        ),
    ],
)
def test_what_is_not_whole_is_told(data: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedTraceError, match=told):
        whole(written(tmp_path, data))


def test_a_file_packed_without_end(tmp_path: Path) -> None:
    data = TEXT
    for _ in range(9):
        data = gzip.compress(data)
    with pytest.raises(TraceError, match="is packed 4 times over; unpack it first"):
        whole(written(tmp_path, data))


# --- Zstandard: no release of Python that has it is needed for these ------------------------------


class _Member:
    """Unpacks what is not packed: the bytes behind the magic, up to a full stop."""

    def __init__(self) -> None:
        self.eof, self.unused_data, self._held = False, b"", b""

    @property
    def needs_input(self) -> bool:
        return not self._held

    def decompress(self, packed: bytes, count: int = -1) -> bytes:
        self._held += packed
        if self._held == ZSTD + b"!":
            raise _BadError("it is broken")
        body, dot, rest = self._held.partition(b".")
        count = len(body) if count < 0 else count
        text, left = body[:count], body[count:]
        self.eof = bool(dot) and not left
        self.unused_data = rest if self.eof else b""
        self._held = b"" if self.eof else left + dot + rest
        return text.removeprefix(ZSTD)


class _BadError(Exception):
    pass


MODULE = SimpleNamespace(ZstdDecompressor=_Member, ZstdError=_BadError)
WHEEL = SimpleNamespace(
    ZstdDecompressor=lambda: SimpleNamespace(decompressobj=_Member), ZstdError=_BadError
)


@pytest.fixture(params=["compression.zstd", "backports.zstd", "zstandard"])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, {request.param: WHEEL if request.param == "zstandard" else MODULE})


def _only(monkeypatch: pytest.MonkeyPatch, modules: dict[str, Any]) -> None:
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        # A name without a module cannot be imported.
        monkeypatch.setitem(sys.modules, name, modules.get(name))


@pytest.mark.usefixtures("installed")
def test_zstandard_by_what_is_there(tmp_path: Path) -> None:
    assert whole(written(tmp_path, ZSTD + TEXT.replace(b".", b",") + b".")) == TEXT.replace(
        b".", b","
    )
    with pytest.raises(DamagedTraceError, match="is not whole Zstandard: it is broken"):
        whole(written(tmp_path, ZSTD + b"!"))


def test_without_zstandard_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, {})
    with pytest.raises(TraceError, match=r"is packed with Zstandard.*pip install backports.zstd"):
        whole(written(tmp_path, ZSTD + TEXT))


@pytest.mark.parametrize("name", ["backports.zstd", "zstandard"])
def test_the_wheels_unpack_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = pytest.importorskip(name)
    _only(monkeypatch, {name: wheel})
    compress: Callable[[bytes], bytes] = getattr(wheel, "compress")  # noqa: B009
    assert whole(written(tmp_path, compress(TEXT) + compress(TEXT))) == 2 * TEXT
    with pytest.raises(DamagedTraceError, match="cut off or not whole Zstandard"):
        whole(written(tmp_path, compress(TEXT)[:-9]))


def test_an_archive_is_none_of_them(tmp_path: Path) -> None:
    with pytest.raises(OtherFormatError, match=r"is a zip archive; unpack it .*: unzip FILE"):
        Text(written(tmp_path, b"PK\x03\x04" + b"\0" * 40))
