"""Traces of many ranks on engines and at URLs: the same bytes as from files, read here."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from make.kineto import cpu_op, document, kernel, label, launch, step, write
from make.paths import DATA

from qwen3_profile import to_records
from qwen3_profile.errors import ConfigError
from qwen3_profile.export import main
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.system import engines, remote

RANKS = 64
NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def trace_of(rank: int) -> bytes:
    """A layer with an all-reduce, to which each rank comes a little later than the one before."""
    came, left = 10_000 + 100 * rank, 40_000
    said = {"Collective name": "allreduce", "In msg nelems": 512, "dtype": "BFloat16",
            "Process Group Ranks": "[0, ..., 63]", "Group size": RANKS}  # fmt: skip
    data = document(
        step(0, 0, 100_000),
        label("prefill", 0, 99_000),
        label("layer.0", 0, 99_000),
        label("layer.0.attn", 10, 900),
        cpu_op("layer.0.attn.o_proj", 20, 100),
        launch(1, 30, 40),
        kernel(1, 50, came),
        launch(2, 45, 50),
        kernel(2, came, left, name=NCCL, **said),
        launch(3, 60, 70),
        kernel(3, left, left + 20_000),
    )
    info = json.dumps({"backend": "nccl", "rank": rank, "world_size": RANKS}).encode()
    return data.replace(b'"schemaVersion"', b'"distributedInfo": %s, "schemaVersion"' % info, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("ranks")
    for rank in range(RANKS):
        write(found / f"rank{rank}.json.gz", trace_of(rank))
    return found


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """The records' file and the tables of an export without an engine."""
    return exported(tmp_path_factory.mktemp("plain"), str(folder))


def as_json(records: Sequence[TimingRecord]) -> object:
    return json.loads(json.dumps([record.to_json() for record in records]))


def exported(out: Path, *argv: str) -> tuple[bytes, str]:
    with pytest.MonkeyPatch.context() as patch:
        shown: list[str] = []
        patch.setattr("qwen3_profile.export.show_table", shown.append)
        assert main([*argv, "--output-dir", str(out)]) == 0
    return (out / "timing_records.json").read_bytes(), "".join(shown)


def test_sixty_four_ranks_are_told_apart(plain: tuple[bytes, str]) -> None:
    records = json.loads(plain[0])
    assert [record["rank"] for record in records] == list(range(RANKS))
    # The last one comes 100 ns later than the one before, and 6300 than the first.
    assert [round(r["collectives"][0]["waiting"] * 1e9) for r in records] == [
        100 * (RANKS - 1 - rank) for rank in range(RANKS)
    ]
    assert "straggler: rank 63, last to 1 of 1" in plain[1]


def test_a_page_of_many_ranks_says_what_it_shows(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    _, shown = exported(tmp_path, str(folder), "--report", str(page))
    assert shown.startswith("64 ranks: 0 to 63; ")
    text = page.read_text()
    assert "this page shows 8 of 64 traces of ranks" in text
    # The first and the last to come are among them.
    assert '"rank0.json.gz"' in text
    assert '"rank63.json.gz"' in text
    assert '"rank1.json.gz"' not in text


@pytest.fixture(scope="module")
def dask() -> Iterator[str]:
    """The address of a cluster of two worker processes on this machine."""
    distributed: ModuleType = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_dask_gives_the_same_bytes(
    dask: str, folder: Path, plain: tuple[bytes, str], tmp_path: Path
) -> None:
    argv = ("--engine", "dask", "--engine-address", dask)
    assert exported(tmp_path, str(folder), *argv) == plain


def test_ray_gives_the_same_bytes(folder: Path, plain: tuple[bytes, str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert exported(tmp_path, str(folder), "--engine", "ray") == plain


def test_any_executor_goes(folder: Path, plain: tuple[bytes, str]) -> None:
    with ThreadPoolExecutor(2) as executor:
        found = to_records(folder, executor=executor)
    assert as_json(found) == json.loads(plain[0])


# --- remote files ---------------------------------------------------------------------------------


@pytest.fixture
def memory(folder: Path) -> Iterator[str]:
    """The same files in fsspec's file system of this process's memory."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.put(str(folder), "/bucket/ranks", recursive=True)
    yield "memory://bucket/ranks"
    files.rm("/bucket", recursive=True)


def test_a_url_gives_the_same_bytes(memory: str, plain: tuple[bytes, str], tmp_path: Path) -> None:
    assert exported(tmp_path, memory) == plain
    with ThreadPoolExecutor(2) as executor:
        found = to_records(memory, executor=executor)
    assert as_json(found) == json.loads(plain[0])


def test_one_file_at_a_url(memory: str, tmp_path: Path) -> None:
    records, _ = exported(tmp_path, f"{memory}/rank7.json.gz")
    assert [record["rank"] for record in json.loads(records)] == [7]


def test_a_run_at_a_url(tmp_path: Path) -> None:
    import fsspec

    run = next((DATA / "runs").iterdir())
    here, _ = exported(tmp_path / "here", str(shutil.copytree(run, tmp_path / run.name)))
    fsspec.filesystem("memory").put(str(run), f"/runs/{run.name}", recursive=True)
    assert exported(tmp_path / "there", f"memory://runs/{run.name}")[0] == here


def test_s3_gives_the_same_bytes(
    folder: Path, plain: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: ModuleType = pytest.importorskip("moto.server")
    s3fs: ModuleType = pytest.importorskip("s3fs")
    serving = server.ThreadedMotoServer(port=0)
    serving.start()
    try:
        host, port = serving.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        files = s3fs.S3FileSystem()
        files.mkdir("traces")
        files.put(str(folder), "traces/ranks", recursive=True)
        assert exported(tmp_path, "s3://traces/ranks") == plain
    finally:
        serving.stop()


def test_http_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    pytest.importorskip("requests")
    few = tmp_path / "few"
    few.mkdir()
    for rank in range(2):
        shutil.copy(folder / f"rank{rank}.json.gz", few)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        try:
            place = f"http://127.0.0.1:{serving.server_port}/few"
            here = exported(tmp_path / "here", str(few))
            assert exported(tmp_path / "there", place) == here
            one, _ = exported(tmp_path / "one", f"{place}/rank1.json.gz")
        finally:
            serving.shutdown()
    assert [record["rank"] for record in json.loads(one)] == [1]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["memory://nothing/there"], "memory://nothing/there: is not there"),
        (["novel://bucket/x"], "novel://bucket/x: cannot be read"),
        (["t.json", "--engine-address", "tcp://a:1"], "--engine-address: goes with --engine"),
        (["tests", "--engine", "mpi"], "--engine mpi: is not installed; pip install"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engines._PACKAGES, "mpi", "no_such_package")
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_engines_read_ranks_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(ConfigError, match="no trace of a rank"):
        to_records(tmp_path, executor=executor)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b/k", True),
        ("gs://b", True),
        ("C:/traces", False),
        ("a/b.json", False),
        ("//x", False),
    ],
)
def test_what_is_a_url(text: str, expected: bool) -> None:
    assert remote.is_remote(text) == expected
