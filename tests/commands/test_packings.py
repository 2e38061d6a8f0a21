"""Traces in other packings, alone and in folders: exported as any other."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from make.kineto import document, kernel, launch
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.records.ranks import trace_files
from qwen3_profile.trace import read_trace

CASES = DATA / "cases"


@pytest.mark.parametrize("case", ["packed_bz2/trace.json.bz2", "packed_xz/trace.json.xz"])
def test_cases(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = CASES / case
    own = {names[-1]: part.own.device_ns for names, part in make_ledger(read_trace(path)).rows}
    assert own == {"A": 30_000, "B": 20_000}
    monkeypatch.chdir(tmp_path)
    assert export.main([str(path), "--output-dir", str(tmp_path), "--report"]) == 0
    assert (tmp_path / "trace.report.html").exists()


def test_what_is_missing_for_zstandard_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    path = CASES / "packed_zst" / "trace.json.zst"
    assert export.main([str(path), "--ledger", str(tmp_path / "l.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("pip install backports.zstd, or unpack it: zstd -d FILE")
    assert list(tmp_path.iterdir()) == []


def _twice(data: bytes) -> bytes:
    return gzip.compress(gzip.compress(data))


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        pytest.param(".json.xz", lzma.compress, id="xz"),
        pytest.param(".pt.trace.json.bz2", bz2.compress, id="bzip2"),
        pytest.param(".json", gzip.compress, id="gzip called json"),
        pytest.param(".json.gz.gz", _twice, id="gzip in gzip"),
        pytest.param(".JSON.GZ", gzip.compress, id="capitals"),
    ],
)
def test_folders_of_ranks(
    suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        source = CASES / "folder_rank_text" / f"rank{rank}.json.gz"
        data = pack(gzip.decompress(source.read_bytes()))
        (tmp_path / f"rank{rank}{suffix}").write_bytes(data)
    out = tmp_path / "out"
    assert export.main([str(tmp_path), "--output-dir", str(out)]) == 0
    assert capsys.readouterr().err == ""
    records = json.loads((out / "timing_records.json").read_bytes())
    assert [record["rank"] for record in records] == [0, 1]


def test_which_files_of_a_folder_may_be_traces(tmp_path: Path) -> None:
    names = ["a.json", "a.json.gz", "a.json.zst", "a.json.xz", "a.json.bz2", "a.json.gz.gz"]
    for name in (*names, ".a.json", "a.txt", "a.json.zip", "a.json.gz.part", "json"):
        (tmp_path / name).write_bytes(b"")
    assert sorted(path.name for path in trace_files(tmp_path)) == sorted(names)


@pytest.mark.parametrize("pack", [lzma.compress, bz2.compress, gzip.compress])
def test_what_is_left_of_a_packed_file(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    calls = range(1, 6_001)
    events = [
        event
        for at in calls
        for event in (launch(at, at * 100, at * 100 + 5), kernel(at, at * 100 + 9, at * 100 + 29))
    ]
    # Random texts, so that the file has many of the blocks that are unpacked one by one.
    chance = random.Random(1)
    data = document(*(each[:-1] + f', "x": "{chance.getrandbits(99):x}"}}' for each in events))
    path = tmp_path / "t.json.packed"
    packed = pack(data)
    path.write_bytes(packed[: len(packed) * 2 // 3])
    more = ["--ledger", str(tmp_path / "l.json")]
    assert export.main([str(path), *more]) == 3
    assert export.main([str(path), *more, "--accept-damaged"]) == 0
    found = json.loads((tmp_path / "l.json").read_bytes())
    assert 300 < found["device_events"] < 5_700
