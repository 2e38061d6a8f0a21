"""Files of other programs: each is named, in one line, with what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from make.paths import DATA

from qwen3_profile import export

CASES = DATA / "cases"

BINARY = {
    "zip archive": ("t.zip", b"PK\x03\x04rest", "unzip FILE"),
    "zip archive, called json": ("t.json", b"PK\x03\x04rest", "is a zip archive"),
    "7z": ("t.7z", b"7z\xbc\xaf\x27\x1cx", "is a 7z archive"),
    "lz4": ("t.json.lz4", b"\x04\x22\x4d\x18xx", "lz4 -d"),
    "tar": ("t.tar", b"x" * 257 + b"ustar", "tar -xf"),
    "tar in gzip": ("t.tgz", gzip.compress(b"x" * 257 + b"ustar" + b"\0" * 99), "tar -xf"),
    "Nsight Systems": ("t.nsys-rep", b"\x01\x02", "Nsight Systems"),
    "Nsight Systems of before": ("t.qdrep", b"\x01\x02", "Nsight Systems"),
    "SQLite": ("t.sqlite", b"SQLite format 3\0", "SQLite database"),
    "rocpd": ("t.db", b"SQLite format 3\0", "rocpd"),
    "event file": ("events.out.tfevents.1.host", b"\x18" + b"\0" * 20, "event file of TensorBoard"),
    "event file by its content": (
        "x", b"\x18" + b"\0" * 11 + b"\x09\0\x1a\x0dbrain.Event:2", "event file of TensorBoard",
    ),
    "XPlane": ("host.xplane.pb", b"\n\x8c\x01\x08\x01\x12\x0d/host:CPU", "JAX or TensorFlow"),
    "memory snapshot": ("snapshot.pickle", b"\x80\x04\x95\0", "pytorch.org/memory_viz"),
    "Perfetto": ("t.pftrace", b"\n\x14\x08\x01", "Perfetto trace in protobuf"),
    "Perfetto by its content": ("t", b"\n\x14\x08\x01\x50\x02xyz", "Perfetto trace in protobuf"),
    "Chakra": ("t.0.et", b"\x10\x0a\x05", "Chakra"),
    "Git LFS": ("t.json", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "web page": ("t.json", b"\n<!DOCTYPE html><html>", "is a web page"),
    "CSV": ("kernels.csv", b'"Kind","Agent_Id"\n', "is a CSV table"),
}  # fmt: skip

X = {"ph": "X", "pid": 1, "tid": 1, "ts": 1.0, "dur": 2.0}
JSON = {
    "speedscope": ({"$schema": "https://www.speedscope.app/file-format-schema.json"}, "py-spy"),
    "Chakra": ({"schema": "1.0.1", "pid": 1, "nodes": [{"id": 1}]}, "execution trace"),
    "rocprofv3": ({"rocprofiler-sdk-tool": [{"metadata": {}}]}, "rocprofv3"),
    "V8": ({"nodes": [{"id": 1, "callFrame": {"functionName": "f"}}]}, "V8"),
    "Firefox": ({"meta": {"preprocessedProfileVersion": 49}, "threads": []}, "Firefox"),
    "memory": ({"segments": [], "device_traces": [[]]}, "memory"),
    "DevTools": ({"traceEvents": [X | {"cat": "devtools.timeline", "name": "f"}]}, "Chrome"),
    "JAX": (
        {"metadata": {"highres-ticks": True}, "traceEvents": [X | {"name": "fusion.1"}]}, "JAX",
    ),
    "VizTracer": (
        {"traceEvents": [X | {"cat": "FEE", "name": "f"}], "viztracer_metadata": {}}, "VizTracer",
    ),
    "any": ({"traceEvents": [X | {"cat": "mine", "name": "f"}]}, "no event as Kineto writes them"),
    "any without categories": ([X | {"name": "f"}], "most without a category"),
    "nothing": ({"a": 1}, 'holds no "traceEvents"'),
}  # fmt: skip


def check(path: Path, told: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2, and no file."""
    for more in (["--ledger", str(folder / "l.json")], []):
        assert export.main([str(path), "--output-dir", str(folder / "out"), *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path}: ")
        assert told in line
    assert not (folder / "l.json").exists()
    assert not (folder / "out").exists()


@pytest.mark.parametrize("kind", BINARY)
def test_a_file_that_is_no_text(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, data, told = BINARY[kind]
    path = tmp_path / name
    path.write_bytes(data)
    check(path, told, tmp_path, capsys)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", JSON)
def test_json_of_other_programs(
    kind: str, packed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, told = JSON[kind]
    data, path = json.dumps(document).encode(), tmp_path / "t.json"
    path.write_bytes(gzip.compress(data) if packed else data)
    check(path, told, tmp_path, capsys)


@pytest.mark.parametrize(
    ("case", "told"),
    [
        pytest.param("ascend/trace_view.json", "Ascend's profiler", id="Ascend"),
        pytest.param("legacy_autograd/trace.json", "legacy autograd profiler", id="autograd"),
        pytest.param("rocprof/x_results.json", "rocprofv3", id="rocprofv3"),
    ],
)
def test_cases(case: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(CASES / case, told, tmp_path, capsys)


def test_a_list_of_kinetos_events_is_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    events = [X | {"cat": "user_annotation", "name": "A"}, X | {"cat": "mine", "name": "f"}]
    path.write_text(json.dumps(events))
    assert export.main([str(path), "--ledger", str(tmp_path / "l.json")]) == 0


def test_another_programs_file_in_a_folder_of_ranks_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rank0.json.gz", "rank1.json.gz"):
        (tmp_path / name).write_bytes((CASES / "folder_rank_text" / name).read_bytes())
    (tmp_path / "rank2.json").write_bytes(b"PK\x03\x04")
    assert export.main([str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "left out" in line
    assert "is a zip archive" in line
