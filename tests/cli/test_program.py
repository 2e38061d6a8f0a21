"""`qwen3-profile COMMAND`: which command runs, with what, and what is told of a wrong word."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from make.commands import environment
from make.paths import ROOT

from qwen3_profile.cli import program, runs
from qwen3_profile.cli.program import COMMANDS, main


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The functions that the program calls, each with its arguments, in place of doing it."""
    found: list[tuple[str, list[str]]] = []

    class Module:
        def __init__(self, name: str) -> None:
            self.name = name.removeprefix("qwen3_profile.")

        def __getattr__(self, function: str) -> object:
            def call(argv: Sequence[str]) -> int:
                found.append((f"{self.name}.{function}", list(argv)))
                return 7

            return call

    monkeypatch.setattr(program, "import_module", Module)
    return found


@pytest.mark.parametrize(
    ("argv", "function", "given"),
    [
        ("", "__main__.main", ""),
        ("--batch-size 2", "__main__.main", "--batch-size 2"),
        ("run --batch-size 2", "__main__.main", "--batch-size 2"),
        ("export traces/run1 --report", "export.main", "traces/run1 --report"),
        ("view traces/run1", "export.view", "traces/run1"),
        ("list", "cli.runs.list_runs", ""),
        ("rm run1 run2", "cli.runs.remove_runs", "run1 run2"),
    ],
)
def test_the_first_word_chooses(
    called: list[tuple[str, list[str]]], argv: str, function: str, given: str
) -> None:
    assert main(argv.split()) == 7
    assert called == [(function, given.split())]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("lst", "did you mean list?"),
        ("exprot", "did you mean export?"),
        ("frobnicate", f"the commands are {', '.join(COMMANDS)}"),
        ("traces/run1", "did you mean qwen3-profile export traces/run1?"),
    ],
)
def test_a_word_that_is_no_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    told: str,
) -> None:
    (tmp_path / "traces/run1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main([word]) == 2
    assert capsys.readouterr().err == f"error: {word}: is not a command; {told}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_view_has_its_own_few_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["view", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("usage: qwen3-profile view ")
    assert "--port N" in told
    assert "--ledger" not in told
    assert main(["view", "nowhere", "--port", "1"]) == 2
    assert main(["view", "nowhere", "--ledger", "x"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: nowhere: holds no run.json; give the folder of one run",
        "error: --ledger: is not a known argument; it is a flag of qwen3-profile export",
    ]


@pytest.mark.parametrize("argv", [["list"], ["export", "--help"]])
def test_other_commands_start_without_torch(tmp_path: Path, argv: list[str]) -> None:
    code = "import sys; from qwen3_profile.cli.program import main\n"
    code += "try: main(sys.argv[1:])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    (tmp_path / "traces").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("False\n")


def test_runs_are_listed_with_their_bare_times(capsys: pytest.CaptureFixture[str]) -> None:
    """What stands in the run.json of a run of the tests, row by row."""
    assert runs.list_runs([str(ROOT / "tests/data/runs/h100-2layers")]) == 0
    head, prefill, decode, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "started", "model", "device", "config", "bare", "ms"]
    for part in ("h100-2layers", "2026-11-25 16:22", "Qwen/Qwen3-0.6B", "prefill 1 x 128"):
        assert part in prefill
    # the medians of its three bare passes, and of all steps of all runs
    assert (prefill.split()[-1], decode.split()[-1]) == ("4.199", "3.316")


def test_runs_are_listed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    folder = ROOT / "tests/data/runs/h100-2layers"
    assert runs.list_runs([str(folder), "--format", "json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["run"], run["model"], run["device"]) == (
        "h100-2layers",
        "Qwen/Qwen3-0.6B",
        "NVIDIA H100 80GB HBM3",
    )
    assert [(each["phase"], each["batch_size"], each["input_len"]) for each in run["configs"]] == [
        ("prefill", 1, 128),
        ("decode", 1, 128),
    ]
    # The same as in the table, in seconds.
    times = [f"{1e3 * each['bare_time']:.3f}" for each in run["configs"]]
    assert times == ["4.199", "3.316"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_can_complete(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", shell]) == 0
    shown = capsys.readouterr().out
    missing = [word for word in (*COMMANDS, "batch-size", "ledger") if word not in shown]
    # tcsh completes the words of the first place alone.
    assert missing in ([], ["ledger"] if shell == "tcsh" else [])


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_what_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, the flags of the one that runs without a word, their values, and files."""
    found = {
        "": " ".join(COMMANDS), "--bat": "--batch-size", "--cache ": "dynamic static",
        "export --form": "--format", "export tra": "traces", "rm tra": "traces",
    }  # fmt: skip
    (tmp_path / "traces").mkdir()
    assert main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    for line in found:
        words = " ".join(f"'{word}'" for word in line.split(" "))
        script += f"COMPREPLY=(); COMP_WORDS=(qwen3-profile {words}); "
        script += "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _shtab_qwen3_profile; "
        script += 'echo "${COMPREPLY[@]}"\n'
    shown = subprocess.run(
        ["bash"], input=script, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert dict(zip(found, shown, strict=True)) == found


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "nosh"]) == 2
    assert capsys.readouterr().err.startswith("error: --print-completion: nosh is not a known")


@pytest.mark.parametrize(("flag", "tables"), [("", True), ("-q", False), ("-v", True)])
def test_quiet_leaves_out_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, tables: bool
) -> None:
    run = str(ROOT / "tests/data/runs/h100-2layers")
    assert main(["export", run, "--output-dir", str(tmp_path), *flag.split()]) == 0
    shown = capsys.readouterr().out
    assert ("cuda_busy" in shown) == tables
    assert f"records  {tmp_path}" in shown


@pytest.mark.parametrize(("flag", "traced"), [("", False), ("-v", True)])
def test_verbose_says_where_an_error_comes_from(
    capsys: pytest.CaptureFixture[str], flag: str, traced: bool
) -> None:
    assert main(["export", "nowhere.json", *flag.split()]) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("error: nowhere.json: is not there")
    assert ("Traceback" in told) == traced
