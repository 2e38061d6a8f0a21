"""A file that two processes read, against the same file read by one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from make.kineto import write
from make.kineto_texts import LAYOUTS, TRAINED, document_of, letters, text_of
from make.paths import DATA, SHARED

from qwen3_profile.errors import ProfileError
from qwen3_profile.system import processes
from qwen3_profile.trace import Trace, read_trace, reader
from qwen3_profile.trace import text as text_module


def outcome(
    path: Path, *, forked: bool, whole: bool = True, chunk: int = 1 << 15
) -> tuple[Trace | str, bool]:
    """The trace or why there is none; and whether two processes read it."""
    used, by_two = False, reader.read_by_two

    def read(*args: Any) -> Any:
        nonlocal used
        found = by_two(*args) if forked else None
        used = found is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "read_by_two", read)
        patch.setattr(processes, "may_fork", lambda: True)
        patch.setattr(processes, "core_count", lambda: 2)
        patch.setattr(reader, "SHORTEST_BYTES", 1)
        patch.setattr(text_module, "CHUNK_BYTES", chunk)
        try:
            return read_trace(path, accept_damaged=not whole, launch_columns=True), used
        except ProfileError as error:
            return str(error), used


def assert_alike(path: Path, chunk: int = 1 << 15) -> bool:
    two, used = outcome(path, forked=True, chunk=chunk)
    one, _ = outcome(path, forked=False, chunk=chunk)
    if isinstance(two, Trace) and isinstance(one, Trace):
        assert letters(two) == letters(one)
    else:
        assert two == one
    return used


@pytest.mark.parametrize("gpu", [True, False], ids=["GPU", "CPU"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_read_what_one_reads(layout: str, gpu: bool, tmp_path: Path) -> None:
    text = text_of(layout, gpu=gpu, steps=2, layers=8)
    assert assert_alike(write(tmp_path / "t.json", text.encode()))
    assert assert_alike(write(tmp_path / "t.json.gz", text.encode()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_events_of_every_kind_in_both_processes(layout: str, tmp_path: Path) -> None:
    unknown = {"ph": "X", "cat": "novel", "name": "n", "pid": 1, "tid": 1, "ts": 5, "dur": 1}
    text = document_of([*TRAINED, unknown, *TRAINED, unknown] * 20, layout)
    assert assert_alike(write(tmp_path / "t.json", text))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name)
        for path in sorted([*DATA.glob("*.json.gz"), *SHARED.glob("*.gz")])
    ],
)
def test_every_trace_is_read_alike(path: Path) -> None:
    assert_alike(path, chunk=1 << 20)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.49, 0.51, 0.8, 0.999])
@pytest.mark.parametrize("damage", [b"", b'"', b"\0" * 64, b"\n  },\n  {\n"])
def test_what_is_broken_is_refused_in_the_same_words(
    share: float, damage: bytes, tmp_path: Path
) -> None:
    text = text_of("new", steps=2, layers=4).encode()
    at = int(share * len(text))
    cut = text[:at] if not damage else text[:at] + damage + text[at + len(damage) :]
    path = write(tmp_path / "t.json", cut)
    assert_alike(path)
    both = [outcome(path, forked=forked, whole=False)[0] for forked in (True, False)]
    assert isinstance(both[0], Trace) == isinstance(both[1], Trace)
    if isinstance(both[0], Trace) and isinstance(both[1], Trace):
        assert letters(both[0]) == letters(both[1])


def test_a_second_process_that_dies_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.json", text_of("new", layers=4).encode())
    monkeypatch.setattr(processes, "_send", lambda *_: os._exit(1))
    assert not assert_alike(path)


def test_where_no_process_can_be_made_one_reads_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.json", text_of("new", layers=4).encode())
    monkeypatch.setattr(os, "fork", Mock(side_effect=BlockingIOError))
    assert not assert_alike(path)


def test_a_short_file_is_read_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    monkeypatch.setattr(processes, "core_count", lambda: 2)
    read_trace(write(tmp_path / "t.json", text_of("new").encode()))


def test_what_must_not_be_forked_reads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr(reader, "SHORTEST_BYTES", 1)
    monkeypatch.setattr(processes, "may_fork", lambda: False)
    read_trace(write(tmp_path / "t.json", text_of("new").encode()))
