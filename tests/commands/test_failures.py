"""What goes wrong, provoked for real: full disks, killed processes, too little memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands, Done, environment, wait
from make.forking import Forked

from qwen3_profile.config import RunConfig
from qwen3_profile.measure.model.memory import least_needed
from qwen3_profile.run_folder.model_shape import Experts, Shape

GIB = 1 << 30
# A config that its run cannot end before a test has done what it wants to do.
ENDLESS = {"batch_size": 8, "input_len": 64, "num_runs": 5000}


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with the given options."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting is not permitted here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def write_configs(folder: Path, *entries: dict[str, Any]) -> str:
    (folder / "configs.json").write_text(json.dumps({"configs": entries}))
    return "configs.json"


def assert_one_line(done: Done, code: int, *words: str) -> None:
    """`done` failed as it should: one line on stderr with these words, and the exit code."""
    assert done.code == code, done.err
    assert len(done.errors) == 1, done.err
    for word in words:
        assert word in done.errors[0]


def wait_for(path: Path, pattern: str, process: Forked, count: int = 1) -> None:
    """Until so many files are there, as long as the process runs."""
    deadline = time.monotonic() + 120
    while len(list(path.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- places that cannot be written, found before torch is imported


def a_file(folder: Path) -> None:
    (folder / "place").write_text("not a folder")


def other_json(folder: Path) -> None:
    (folder / "place").mkdir()
    (folder / "place/timing_records.json").write_text('{"name": "somebody else"}')


def other_text(folder: Path) -> None:
    (folder / "place").mkdir()
    (folder / "place/timing_records.json").write_text("dear diary")


def other_summary(folder: Path) -> None:
    (folder / "place").mkdir()
    (folder / "place/timing_summary.json").write_text('["mine"]')


def newer_records(folder: Path) -> None:
    (folder / "place").mkdir()
    (folder / "place/timing_records.json").write_text('[{"id": "x", "schema_version": 99}]')


def a_folder_as_file(folder: Path) -> None:
    (folder / "place/timing_records.json").mkdir(parents=True)


def a_run(folder: Path) -> None:
    (folder / "place/mine").mkdir(parents=True)
    (folder / "place/mine/theirs").touch()


PLACES = {
    "file": (a_file, "--output-dir place", "place: cannot be written"),
    "below a file": (a_file, "--output-dir place/below", "a file is in the way"),
    "traces": (a_file, "--trace-dir place", "place: cannot be written"),
    "other JSON": (other_json, "--output-dir place", "left as it is"),
    "no JSON": (other_text, "--output-dir place", "is not JSON"),
    "summary": (other_summary, "--output-dir place", "timing_summary.json"),
    "newer records": (newer_records, "--output-dir place", "schema 99"),
    "a folder": (a_folder_as_file, "--output-dir place", "cannot be read"),
    "taken name": (a_run, "--trace-dir place --run-name mine", "--force"),
    "not a run": (a_run, "--trace-dir place --run-name mine --force", "not a run"),
    "a path as name": (a_run, "--run-name ../mine", "not a folder's name"),
    "a path as file": (a_run, "--output-file a/b.json", "not a file's name"),
}
# Each asked of the main job in turn, in its folder; told what came of it, as JSON.
_IN_TURN = """
import contextlib, io, json, os, sys
from qwen3_profile.__main__ import main
for folder, argv in json.load(sys.stdin):
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = main(argv)
    print(json.dumps([code, out.getvalue(), err.getvalue(), 'torch' in sys.modules]))
"""


def test_a_place_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    asked = []
    for name, (prepare, argv, _) in PLACES.items():
        folder = tmp_path / name
        folder.mkdir()
        prepare(folder)
        asked.append((str(folder), argv.split()))
    before = contents(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", _IN_TURN], input=json.dumps(asked),
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    told = [json.loads(line) for line in found.stdout.splitlines()]
    for (folder, argv), (code, out, err, has_torch) in zip(asked, told, strict=True):
        word = PLACES[Path(folder).name][2]
        assert_one_line(Done(code, out, err, tmp_path), 2, word)
        assert not has_torch, argv
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, str]:
    """All files but those of the default folders, which may have been made."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.parametrize(
    ("options", "flag", "words"),
    [
        pytest.param("ro", "--output-dir", ["Read-only", "write elsewhere"], id="read-only"),
        pytest.param("ro", "--trace-dir", ["Read-only", "write elsewhere"], id="read-only traces"),
        pytest.param("size=4k", "--output-dir", ["No space", "free some space"], id="full"),
        pytest.param("size=4k", "--trace-dir", ["No space", "free some space"], id="full traces"),
    ],
)
def test_a_disk_is_refused_before_the_model_is_loaded(
    commands: Commands, tmp_path: Path, mount: Callable[[str], Path], options: str, flag: str,
    words: list[str],
) -> None:  # fmt: skip
    folder = mount(options)
    if options != "ro":
        (folder / "big").write_bytes(b"\0" * 4096)
    done = commands.profile(tmp_path, flag, folder / "new", "--model-name", "/no/such/model")
    assert_one_line(done, 2, *words)


# --- disks that fill up


def test_the_disk_of_the_traces_fills_up(
    commands: Commands, tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=200k")
    done = commands.profile(tmp_path, "--trace-dir", disk, "--num-runs", 3)
    config, report = done.errors
    assert_one_line(replace(done, err=config), 1, "config bs1_len8_bfloat16: ", "No space left",
                    "free some space")  # fmt: skip
    assert_one_line(replace(done, err=report), 1, "report.html", "No space left")
    assert not (disk / "run1/report.html").exists()
    # What was whole before is kept, and can be read again.
    saved = done.records()
    assert 1 <= len(saved) < 3
    assert not list((disk / "run1").rglob(".*"))
    assert commands.export(tmp_path, disk, "--output-dir", "again").code == 0


def test_the_disk_of_the_records_fills_up(
    commands: Commands, tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=128k")
    first = commands.profile(tmp_path, "--output-dir", disk)
    before = (disk / "timing_records.json").read_bytes()
    room = os.statvfs(disk)
    # Enough for the first look at the folder, too little for three more records.
    (disk / "big").write_bytes(b"\0" * (room.f_bavail * room.f_frsize - 8192))
    second = commands.profile(tmp_path, "--output-dir", disk, "--num-runs", 3)
    assert first.code == 0
    assert_one_line(second, 1, "timing_records.json", "No space left")
    assert (disk / "timing_records.json").read_bytes() == before
    # The tables are shown all the same, and the traces give the records again.
    assert "lm_head" in second.out
    again = commands.export(tmp_path, "traces/run2", "--output-dir", "again")
    assert len(again.records("again/timing_records.json")) == 3


def test_stdout_is_a_full_disk(commands: Commands, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = wait(commands.start(tmp_path, stdout=full.fileno()), tmp_path)
    assert_one_line(Done(done.code, "", done.err, tmp_path), 1, "stdout", "No space left")
    assert len(done.records()) == 1


# --- memory


def test_a_config_that_cannot_fit_is_refused_and_the_others_run(
    commands: Commands, tmp_path: Path
) -> None:
    configs = write_configs(
        tmp_path,
        {"batch_size": 1},
        {"batch_size": 1000000, "input_len": 1000000},
        {"batch_size": 64, "input_len": 100000, "attn_implementation": "eager"},
        {"batch_size": 2, "attn_implementation": "flash_attention_2"},
        {"batch_size": 2},
    )
    done = commands.profile(tmp_path, "--configs", configs)
    assert done.code == 1
    assert [record["batch_size"] for record in done.records()] == [1, 2]
    too_big, eager, missing, *last = done.errors
    # Said once more at the end, below the tables.
    told = (too_big, eager, missing)
    assert last == [line.replace("error: ", "failed: ", 1) for line in told]
    assert re.search(r"needs at least [\d.]+ GB .* cpu has [\d.]+ GB free", too_big)
    assert "lower batch_size (1000000) or input_len (1000000)" in too_big
    assert "another attn_implementation than eager" in eager
    assert "flash_attention_2" in missing
    # run.json keeps what became of each, and the viewers' traces of the good ones.
    saved = json.loads((tmp_path / "traces/run1/run.json").read_text())["configs"]
    expected = ["done", "failed", "failed", "failed", "done"]
    assert [config["status"] for config in saved] == expected
    assert [bool(config["trace"]) for config in saved] == [s == "done" for s in expected]


def test_out_of_memory_in_earnest(commands: Commands, tmp_path: Path) -> None:
    """The estimate would refuse it before: without it, the allocator has to."""
    configs = write_configs(
        tmp_path, {"batch_size": 1}, {"batch_size": 64, "input_len": 40000}, {"batch_size": 2}
    )
    code = (
        "import resource, sys, torch\n"
        "from qwen3_profile.measure import run_config as capture\n"
        "from qwen3_profile.__main__ import main\n"
        "capture.check_room = lambda *args: None\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {GIB}, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = wait(commands.start(tmp_path, "--configs", configs, script=["-c", code]), tmp_path)
    error, again = done.errors
    assert again.startswith("failed: ")
    words = ("config bs64_len40000", "out of memory on cpu in ", "lower batch_size (64)")
    assert_one_line(replace(done, err=error), 1, *words)
    assert re.search(r"asked for [\d.]+ GB more, [\d.]+ GB were left", done.errors[0])
    assert [record["batch_size"] for record in done.records()] == [1, 2]


def test_free_memory_knows_the_limit_of_the_process(tmp_path: Path) -> None:
    code = (
        "import resource, torch\n"
        "from qwen3_profile.measure.devices import free_memory_bytes\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {GIB}, resource.RLIM_INFINITY))\n"
        "print(free_memory_bytes(torch.device('cpu')))\n"
    )
    done = wait(Forked(["-c", code], tmp_path, environment()), tmp_path)
    assert GIB * 0.9 < int(done.out) <= GIB


DENSE = Shape(64, 128, 2, 4, 2, True, head_dim=32, vocab_size=256)
SPARSE = Shape(64, 128, 2, 4, 2, True, head_dim=32, experts=Experts(8, 2, 32))


@pytest.mark.parametrize(
    ("shape", "attention", "kv_bytes", "activation_bytes"),
    [
        # 20 tokens; kept: 20 x (2 x 64 x 2 + 8) = 5280
        pytest.param(DENSE, "sdpa", 10240, 5280 + 20 * 3 * 128 * 2, id="the ffn is largest"),
        pytest.param(SPARSE, "sdpa", 10240, 5280 + 2 * 20 * 128 * 2, id="the heads are largest"),
        pytest.param(
            DENSE, "eager", 10240, 5280 + 2 * 20 * 128 * 2 + 4 * 400 * 6, id="eager: scores"
        ),
    ],
)
def test_least_needed_by_hand(
    shape: Shape, attention: str, kv_bytes: int, activation_bytes: int
) -> None:
    needed = least_needed(shape, RunConfig(batch_size=1, input_len=20), 2, attention)
    assert (needed.kv_bytes, needed.activation_bytes) == (kv_bytes, activation_bytes)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_the_estimate_is_less_than_what_a_pass_takes(commands: Commands) -> None:
    code = (
        "import sys, torch\n"
        "from qwen3_profile.measure.model import load as models, memory\n"
        "from qwen3_profile.config import ModelRequest, RunConfig\n"
        "def peak():\n"
        "    status = open('/proc/self/status').read()\n"
        "    return int(status.partition('VmHWM:')[2].split()[0]) * 1024\n"
        "cpu = torch.device('cpu')\n"
        "request = ModelRequest(sys.argv[1], 'random')\n"
        "loaded = models.load_model(request, 'float32', 'eager', cpu)\n"
        "models.prefill(loaded.model, models.make_inputs(256, 1, 8, 0, cpu))\n"
        "open('/proc/self/clear_refs', 'w').write('5')  # the peak starts anew\n"
        "before = peak()\n"
        "models.prefill(loaded.model, models.make_inputs(256, 1, 2048, 0, cpu))\n"
        "config = RunConfig(input_len=2048)\n"
        "needed = memory.least_needed(loaded.facts.shape, config, 4, 'eager')\n"
        "print(peak() - before, needed.total_bytes)\n"
    )
    argv = ["-c", code, str(commands.model)]
    done = wait(Forked(argv, commands.model, environment()), commands.model)
    taken, estimated = map(int, done.out.split())
    assert 0.5 * taken <= estimated <= taken


# --- interrupted and killed


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        pytest.param(signal.SIGINT, 130, "interrupted after", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, "interrupted by SIGTERM after", id="SIGTERM"),
    ],
)
def test_a_signal_keeps_what_is_done(
    commands: Commands, tmp_path: Path, number: int, code: int, words: str
) -> None:
    configs = write_configs(tmp_path, {"batch_size": 1, "num_runs": 2}, ENDLESS, {"batch_size": 2})
    process = commands.start(tmp_path, "--configs", configs)
    wait_for(tmp_path / "traces/run1/raw", "bs8_*.kineto.json.gz", process, count=2)
    process.send_signal(number)
    done = wait(process, tmp_path)
    assert_one_line(done, code, f"config bs8_len64_float32: {words}")
    records = done.records()
    assert [record["batch_size"] for record in records[:3]] == [1, 1, 8]
    assert {record["batch_size"] for record in records} == {1, 8}
    again = commands.export(tmp_path, "traces/run1", "--output-dir", "again")
    assert again.records("again/timing_records.json") == records


@pytest.mark.parametrize(
    ("planted", "code", "words"),
    [
        pytest.param(
            "from qwen3_profile.measure import session\n"
            "session.load_model = lambda *args: os.kill(os.getpid(), signal.SIGINT)\n",
            130,
            "interrupted",
            id="the model is loaded",
        ),
        pytest.param(
            "from qwen3_profile.run_folder import claim\n"
            "locked = claim._locked\n"
            "claim._locked = lambda path: os.kill(os.getpid(), signal.SIGTERM) or locked(path)\n",
            143,
            "interrupted by SIGTERM",
            id="the folder is taken",
        ),
    ],
)
def test_a_signal_before_there_is_anything_leaves_no_folder(
    commands: Commands, tmp_path: Path, planted: str, code: int, words: str
) -> None:
    """While each of these is done."""
    script = (
        "import os, signal, sys\n"
        "from qwen3_profile.__main__ import main\n"
        f"{planted}"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = wait(commands.start(tmp_path, script=["-c", script]), tmp_path)
    assert_one_line(done, code, words)
    assert not list((tmp_path / "traces").iterdir())


def test_ctrl_c_while_records_are_saved(commands: Commands, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from qwen3_profile import __main__ as program\n"
        "collect = program.collect_config\n"
        "def interrupted(*args):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return collect(*args)\n"
        "program.collect_config = interrupted\n"
        "sys.exit(program.main(sys.argv[1:]))\n"
    )
    done = wait(commands.start(tmp_path, script=["-c", code]), tmp_path)
    assert_one_line(done, 130, "interrupted")
    assert len(done.records()) == 1
    assert list((tmp_path / "traces/run1").glob("*.pt.trace.json.gz"))


def test_ctrl_c_that_python_drops_in_a_callback_ends_the_run(
    commands: Commands, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys, weakref\n"
        "from qwen3_profile.measure.executions.eager import Generation\n"
        "from qwen3_profile.__main__ import main\n"
        "prefill, passes = Generation.prefill, []\n"
        "def interrupted(self):\n"
        "    passes.append(0)\n"
        "    if len(passes) == 20:\n"
        "        thing = set()\n"
        "        watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        "        del thing\n"
        "    return prefill(self)\n"
        "Generation.prefill = interrupted\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    configs = write_configs(tmp_path, {"batch_size": 1}, ENDLESS, {"batch_size": 2})
    process = commands.start(tmp_path, "--configs", configs, script=["-c", code])
    done = wait(process, tmp_path)
    assert_one_line(done, 130, "config bs8_len64_float32: interrupted after")
    assert {record["batch_size"] for record in done.records()} == {1, 8}


def test_a_signal_during_the_imports_is_one_line(tmp_path: Path) -> None:
    """What is imported first sends it, so that there is no moment to be missed."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy/__init__.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(1)\n"
    )
    path = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    for words in ("qwen3_profile", "qwen3_profile export x", "qwen3_profile.export x"):
        found = subprocess.run(
            [sys.executable, "-m", *words.split()],
            cwd=tmp_path, env=environment(PYTHONPATH=path), capture_output=True, text=True,
        )  # fmt: skip
        assert (found.returncode, found.stderr) == (143, "interrupted by SIGTERM\n")


def test_a_forced_run_without_results_replaces_nothing(commands: Commands, tmp_path: Path) -> None:
    """It is interrupted when it has raw traces, and no run of which there could be a record."""
    before = commands.profile(tmp_path, "--run-name", "mine").records()
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from qwen3_profile.measure.executions.eager import Generation\n"
        "from qwen3_profile.__main__ import main\n"
        "decode = Generation.decode\n"
        "def interrupted(self):\n"
        "    if any(Path('traces').glob('.mine.new.*/raw/bs8_*.kineto.json.gz')):\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return decode(self)\n"
        "Generation.decode = interrupted\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    argv = ("--run-name", "mine", "--force", "--batch-size", 8, "--decode-steps", 4)
    done = wait(commands.start(tmp_path, *argv, script=["-c", code]), tmp_path)
    assert_one_line(done, 129, "interrupted by SIGHUP after 0 of 1 runs")
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["mine"]
    again = commands.export(tmp_path, "traces/mine", "--output-dir", "again")
    assert again.records("again/timing_records.json") == before == done.records()


def test_a_killed_process_leaves_whole_files(commands: Commands, tmp_path: Path) -> None:
    before = commands.profile(tmp_path, "--run-name", "before").records()
    configs = write_configs(tmp_path, {"batch_size": 1}, ENDLESS)
    process = commands.start(tmp_path, "--configs", configs)
    raw = tmp_path / "traces/run1/raw"
    # In the middle of an export: Kineto's own file is there.
    wait_for(raw, "bs8_*.run1.kineto.json.gz", process)
    wait_for(raw, ".bs8_*", process)
    process.kill()
    wait(process, tmp_path)
    records = json.loads((tmp_path / "timing_results/timing_records.json").read_text())
    assert records[:1] == before
    assert [record["batch_size"] for record in records] == [1, 1]
    for trace in [*raw.glob("*.kineto.json.gz"), *raw.parent.glob("*.pt.trace.json.gz")]:
        assert commands.export(tmp_path, trace, "--output-dir", f"of-{trace.name}").code == 0
    # A later run is not hindered.
    assert [record["run"] for record in commands.profile(tmp_path).records()][-1] == "run2"


@pytest.mark.slow
def test_runs_at_once_lose_nothing(commands: Commands, tmp_path: Path) -> None:
    processes = [commands.start(tmp_path, "--batch-size", size) for size in (1, 2, 3)]
    results = [wait(process, tmp_path, seconds=300) for process in processes]
    assert [(done.code, done.err) for done in results] == [(0, "")] * 3
    records = results[0].records()
    assert sorted(record["batch_size"] for record in records) == [1, 2, 3]
    assert sorted(record["run"] for record in records) == ["run1", "run2", "run3"]
    assert len(json.loads((tmp_path / "timing_results/timing_summary.json").read_text())) == 3


def test_arguments_that_are_no_text(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(tmp_path, "--output-dir", "caf\udce9")
    assert (done.code, done.err) == (0, "")
    saved = json.loads((tmp_path / "traces/run1/run.json").read_text())
    assert "caf\\udce9" in saved["argv"]


# --- a model that fails, a reader that leaves


@pytest.mark.parametrize("error", [TypeError, KeyError, AssertionError, NotImplementedError])
def test_a_model_that_raises(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    from qwen3_profile.measure.executions.eager import Generation

    def fail(*_: object) -> None:
        raise error("line one\nline two")

    monkeypatch.setattr(Generation, "prefill", fail)
    done = commands.profile(tmp_path)
    assert_one_line(done, 1, "config bs1_len8_bfloat16: ", error.__name__, "line two")
    assert not list((tmp_path / "traces").iterdir())


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("-m qwen3_profile", id="run"),
        pytest.param("-m qwen3_profile.export {run} --output-dir timing_results", id="export"),
        pytest.param("-m qwen3_profile --help", id="help"),
    ],
)
def test_a_reader_that_leaves_ends_nothing(
    commands: Commands, finished: Done, tmp_path: Path, script: str
) -> None:
    words = script.format(run=finished.cwd / "traces/run1").split()
    measured = ["--dtype", "float32"]
    argv = commands.arguments(measured) if script.endswith("qwen3_profile") else []
    reader, writer = os.pipe()
    os.close(reader)
    process = Forked([*words, *argv], tmp_path, environment(), stdout=writer)
    os.close(writer)
    done = wait(process, tmp_path)
    assert (done.code, done.err) == (0, "")
    if "--help" not in words:
        assert done.records()


# --- traces that cannot be exported


def no_trace(run: Path) -> None:
    for path in run.rglob("*"):
        path.is_file() and path.unlink()


def no_raw(run: Path) -> None:
    next((run / "raw").glob("*.kineto.json.gz")).unlink()


def no_clock(run: Path) -> None:
    next((run / "raw").glob("*.clock.json.gz")).unlink()


def newer_run(run: Path) -> None:
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))


def odd_run(run: Path) -> None:
    (run / "run.json").write_text('{"schema_version": 1, "name": 3}')


def cut_run(run: Path) -> None:
    path = run / "run.json"
    path.write_text(path.read_text()[:200])


def cut_raw(run: Path) -> None:
    path = next((run / "raw").glob("*.kineto.json.gz"))
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("damage", "path", "code", "words"),
    [
        pytest.param(cut_raw, "traces/run1", 3, ["kineto.json.gz: is cut off"], id="cut raw"),
        pytest.param(no_trace, "traces/run1", 2, ["holds no run.json"], id="empty folder"),
        pytest.param(no_trace, "traces", 2, ["holds no run.json"], id="folder without runs"),
        pytest.param(no_raw, "traces/run1", 2, ["cannot be read"], id="raw trace is gone"),
        pytest.param(
            no_clock,
            "traces/run1",
            2,
            ["clock.json.gz: cannot be read", "record the run again"],
            id="what the clock read is gone",
        ),
        pytest.param(newer_run, "traces/run1", 2, ["newer", "schema 99", "upgrade"], id="newer"),
        pytest.param(odd_run, "traces/run1", 2, ["not a run.json of ours"], id="odd run.json"),
        pytest.param(cut_run, "traces/run1", 2, ["not a run.json of ours"], id="cut run.json"),
        pytest.param(no_raw, "traces/run1/run.json", 2, ["traceEvents"], id="not a trace"),
        pytest.param(no_raw, "nowhere", 2, ["nowhere: is not there"], id="nothing there"),
    ],
)
def test_export_refuses(
    commands: Commands, finished: Done, tmp_path: Path, damage: Callable[[Path], None], path: str,
    code: int, words: list[str],
) -> None:  # fmt: skip
    shutil.copytree(finished.cwd / "traces", tmp_path / "traces")
    damage(tmp_path / "traces/run1")
    done = commands.export(tmp_path, path, "--output-dir", "again")
    assert_one_line(done, code, *words)
    assert not (tmp_path / "again/timing_records.json").exists()


def test_export_of_a_config_that_is_not_there(
    commands: Commands, finished: Done, tmp_path: Path
) -> None:
    done = commands.export(tmp_path, finished.cwd / "traces/run1", "--config", 2)
    assert_one_line(done, 2, "no finished config of index 2")
