"""Work on several files: in their order, on several cores where that pays, with the same errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from make.commands import environment
from make.paths import ROOT

from qwen3_profile.errors import TraceError
from qwen3_profile.system import processes
from qwen3_profile.system.processes import map_files


def process_of(item: int) -> tuple[int, int]:
    return item, os.getpid()


def refuse_odd(item: int) -> int:
    if item % 2:
        raise TraceError(f"file {item}", "is odd", "take another")
    return item


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "core_count", lambda: 2)
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    monkeypatch.setattr(processes, "_LEAST_BYTES", 10)


def files(tmp_path: Path, count: int) -> list[Path]:
    made = [tmp_path / f"{number}.json" for number in range(count)]
    for path in made:
        path.write_bytes(b" " * 100)
    return made


@pytest.mark.usefixtures("two_cores")
def test_results_come_in_order_from_other_processes(tmp_path: Path) -> None:
    found = map_files(process_of, range(5), files(tmp_path, 5))
    assert [item for item, _ in found] == list(range(5))
    assert os.getpid() not in {process for _, process in found}


@pytest.mark.usefixtures("two_cores")
def test_the_error_is_that_of_the_first_item(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="file 1: is odd; take another"):
        map_files(refuse_odd, [0, 1, 2, 3], files(tmp_path, 4))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        pytest.param("core_count", lambda: 1, id="one core"),
        pytest.param("may_fork", lambda: False, id="torch is loaded"),
        pytest.param("_LEAST_BYTES", 10**6, id="little work"),
    ],
)
@pytest.mark.usefixtures("two_cores")
def test_one_process_does_what_several_would_not_do_sooner(
    setting: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, setting, value)
    assert map_files(process_of, [1, 2], files(tmp_path, 2)) == [(1, os.getpid()), (2, os.getpid())]


def test_a_packed_file_counts_as_its_text(tmp_path: Path) -> None:
    packed = tmp_path / "t.json.gz"
    packed.write_bytes(b" " * 100)
    assert processes.text_bytes(packed) > 1000
    assert processes.text_bytes(tmp_path / "missing") == 0


@pytest.mark.parametrize(
    ("parent", "may"), [pytest.param(None, True, id="alone"), pytest.param(1, False, id="a worker")]
)
def test_a_worker_of_a_pool_forks_no_further(
    parent: object, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(processes.sys, "platform", "linux")
    monkeypatch.setattr(processes.threading, "active_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "multiprocessing", Mock(parent_process=lambda: parent))
    assert processes.may_fork() is may


def wait_for_ever(item: int) -> int:
    os.write(1, b"begun\n")
    time.sleep(600)
    return item


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("way", ["files", "turns"])
def test_workers_end_with_their_parent_however_it_dies(
    tmp_path: Path, way: str, number: int
) -> None:
    files(tmp_path, 2)
    process = start_waiting(way, tmp_path)
    process.send_signal(number)
    # All of them have its pipes, which end when the last one does.
    process.communicate(timeout=60)
    assert process.returncode != 0


def start_waiting(way: str, tmp_path: Path) -> subprocess.Popen[str]:
    """A process whose two workers, or whose fork and itself, are at work."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from test_map_files import processes, wait_for_ever
processes.core_count, processes._LEAST_BYTES = lambda: 2, 10
if {way!r} == "files":
    processes.map_files(wait_for_ever, [1, 2], list(Path({str(tmp_path)!r}).glob("*.json")))
else:
    processes.map_in_turns(wait_for_ever, [1, 2, 3, 4])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
    return process


def test_what_a_command_starts_saves_and_ends_when_it_is_killed(tmp_path: Path) -> None:
    saves = f"trap 'echo saved; exit' TERM; touch {tmp_path}/begun; while :; do sleep 0.05; done"
    code = f"""
import os, signal, subprocess
from functools import partial
from qwen3_profile.system.processes import end_with_parent
ends = partial(end_with_parent, os.getpid(), signal.SIGTERM)
subprocess.Popen(["sh", "-c", {saves!r}], preexec_fn=ends).wait()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.communicate(timeout=60)[0] == "saved\n"
