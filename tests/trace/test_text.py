"""The text of a file, piece by piece, with the inflater that is fast and with the usual one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.trace import text as module
from qwen3_profile.trace import unpacking
from qwen3_profile.trace.text import Text, stands_in

ONE, TWO = bytes(range(32, 120)) * 100, b"second\n" * 500
PACKED = gzip.compress(ONE, mtime=0)


@pytest.fixture(
    params=[pytest.param(True, id="isal"), pytest.param(False, id="standard library")], autouse=True
)
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(unpacking, "igzip_lib", None)
    # Small pieces, so that these files have many.
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)


def whole(path: Path) -> bytes:
    """All text, with nothing taken off the front meanwhile: the room for it has to grow."""
    with Text(path) as text:
        while text.fill():
            pass
        return bytes(text)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", b"", id="empty"),
        pytest.param(b"x", b"x", id="one byte"),
        pytest.param(ONE, ONE, id="plain"),
        pytest.param(PACKED, ONE, id="packed"),
        pytest.param(gzip.compress(b""), b"", id="nothing, packed"),
        pytest.param(PACKED + gzip.compress(TWO), ONE + TWO, id="two members"),
        pytest.param(PACKED + b"\0" * 3000, ONE, id="padded with zeros"),
    ],
)
def test_the_text_of_a_file(data: bytes, expected: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    assert whole(path) == expected


def test_what_was_taken_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(ONE)
    found = b""
    with Text(path) as text:
        while text.fill():
            cut = text.begin + (text.end - text.begin) // 2
            found += bytes(text.data[text.begin : cut])
            text.begin = cut
        found += bytes(text)
        assert len(text.data) < 8 * (1000 + module.MARGIN_BYTES)
    assert found == ONE


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(PACKED[:-3], "is cut off", id="without its end"),
        pytest.param(PACKED[: len(PACKED) // 2], "is cut off", id="half"),
        pytest.param(PACKED[:-8] + b"\0" * 8, "is not whole gzip", id="a wrong checksum"),
        pytest.param(PACKED + b"more", "is not whole gzip", id="something behind it"),
        pytest.param(PACKED[:40] + b"\xff" * 9 + PACKED[49:], "gzip", id="broken inside"),
    ],
)
def test_broken_gzip_is_told(data: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(data)
    with pytest.raises(DamagedTraceError, match=told):
        whole(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        Text(tmp_path / "none.json")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("before", [0, 700, 995, 1000, 2998])
def test_a_word_is_found_wherever_it_stands(before: int, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    text = b"." * before + b"GraphLaunch" + b"." * 1500
    path.write_bytes(gzip.compress(text) if packed else text)
    assert stands_in(path, (b"Capture", b"GraphLaunch"))
    assert not stands_in(path, (b"graphLaunch", b"Capture"))


def test_no_word_stands_in_what_cannot_be_inflated(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(PACKED[:-20])
    assert not stands_in(path, (b"no such word",))
    with pytest.raises(TraceError):
        stands_in(tmp_path / "none.json", (b"x",))


def test_the_last_border_of_the_next_piece_is_gone_to(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b"a,b,cc" + b"." * 994 + b"d,e" + b"." * 997)
    with pytest.MonkeyPatch.context() as patch, Text(path) as text:
        patch.setattr(module, "_LAST_BYTES", 400)
        assert not text.pass_over(b",")  # it stands too far in front
        assert text.fill()
        text.begin = text.end
        patch.setattr(module, "_LAST_BYTES", 1000)
        assert text.pass_over(b",")
        assert bytes(text) == b"e" + b"." * 997
        assert not text.pass_over(b",")  # nor is there a whole piece more
