"""What is no trace ends soon and in little memory, however long it is."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen3_profile.errors import TraceError
from qwen3_profile.trace import read_trace, reader
from qwen3_profile.trace.text import CHUNK_BYTES, Text

EVENT = b'{"ph":"X","cat":"cpu_op","name":"a","pid":1,"tid":1,"ts":1,"dur":2'
HEAD = b'{"traceEvents": [' + EVENT + b"},\n"
LIMIT = 4 * CHUNK_BYTES


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, int]]:
    """The refusal of a text, and how many bytes of it were read."""
    texts: list[Text] = []
    before = Text.__init__

    def init(text: Text, path: Path) -> None:
        before(text, path)
        texts.append(text)

    def refuse(data: bytes, *, accept_damaged: bool = False) -> tuple[str, int]:
        path = tmp_path / "t.json"
        path.write_bytes(data)
        with pytest.raises(TraceError) as caught:
            read_trace(path, accept_damaged=accept_damaged)
        assert "\n" not in str(caught.value)
        return str(caught.value), sum(text.passed for text in texts)

    monkeypatch.setattr(Text, "__init__", init)
    monkeypatch.setattr(reader, "_LONGEST_EVENT", LIMIT)
    return refuse


def test_no_json_is_refused_at_its_begin(refused: Callable[..., tuple[str, int]]) -> None:
    told, count = refused(b"hello world\n" * CHUNK_BYTES)
    assert "is not a Kineto trace: it begins with b'hello world" in told
    assert count == CHUNK_BYTES


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("begin", "unit"),
    [
        pytest.param(b"", b" ", id="spaces alone"),
        pytest.param(HEAD, b" ", id="spaces behind an event"),
        pytest.param(HEAD + EVENT[:-9] + b"7", b"7", id="a number"),
        pytest.param(HEAD + EVENT + b',"x":"', b"a", id="a string"),
        pytest.param(HEAD + EVENT + b',"args":{"x":[', b"1,", id="args"),
        pytest.param(HEAD, b"{", id="braces"),
        pytest.param(b"{", b"any text ", id="no header"),
        pytest.param(b"[", b"any text ", id="no list of events"),
    ],
)
def test_what_never_ends_is_refused(
    begin: bytes, unit: bytes, packed: bool, accept: bool, refused: Callable[..., tuple[str, int]]
) -> None:
    data = begin + unit * (8 * LIMIT // len(unit))
    told, count = refused(gzip.compress(data, 1) if packed else data, accept_damaged=accept)
    assert "no event ends in" in told or "no event begins in" in told
    # Long files two processes try first.
    assert count <= 2 * (LIMIT + CHUNK_BYTES)


def test_an_event_that_waits_for_its_end_is_looked_at_seldom(
    refused: Callable[..., tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_LONGEST_EVENT", 16 * CHUNK_BYTES)
    seen: list[int] = []
    take = reader._Chunks._take

    def watched(chunks: reader._Chunks, text: Text) -> bool:
        seen.append(text.end - text.begin)
        return take(chunks, text)

    monkeypatch.setattr(reader._Chunks, "_take", watched)
    refused(HEAD + EVENT + b',"x":"' + b"a" * (20 * CHUNK_BYTES))
    assert sum(seen) <= 3 * 17 * CHUNK_BYTES


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(TraceError, match="is no regular file"):
            read_trace(path)
