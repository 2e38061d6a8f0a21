"""What a command prints: results that a terminal cannot obey, and nothing lost with its streams."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from make.commands import Commands, environment
from make.paths import DATA

from qwen3_profile.cli.console import show

HOSTILE = {
    "deviceProperties": [{"id": 0, "name": "\x1b]0;pwned\x07\x1b[31m"}],
    "WARNING": ["\x1b[2J"],
    "traceEvents": [
        {"ph": "X", "cat": "kernel", "name": "\x1b[5m\u202ek", "pid": "\x1b[31m", "tid": 7, "ts": 1,
         "dur": 2, "args": {}},
        {"ph": "X", "cat": "user_annotation", "name": "prefill\x9b31m", "pid": 1, "tid": 1, "ts": 0,
         "dur": 9},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("a\n\tb", "a\n\tb", id="lines and tabs"),
        pytest.param("\x1b[31m", "\\u001b[31m", id="escape"),
        pytest.param("a\rb\x00\x7f\x9b", "a\\u000db\\u0000\\u007f\\u009b", id="control"),
        pytest.param("\u202eabc\u2066", "\\u202eabc\\u2066", id="turned round"),
        pytest.param("é 层 \u00a0", "é 层 \u00a0", id="letters"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(text)
    assert capsys.readouterr().out == f"{shown}\n"


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["--ledger", "ledger.json", "--kernels"], id="ledger"),
        pytest.param(["--report", "--output-dir", "."], id="records"),
        pytest.param(["--accept-damaged", "--output-dir", "."], id="damaged"),
    ],
)
def test_names_of_a_hostile_trace(commands: Commands, tmp_path: Path, argv: list[str]) -> None:
    place = tmp_path / "a\x1b[32m.json"
    place.write_text(json.dumps(HOSTILE))
    done = commands.export(tmp_path, place.name, *argv)
    printed = (done.out + done.err).replace("\n", "").replace("\t", "")
    assert all(c.isprintable() for c in printed), ascii(printed)
    assert "u001b" in printed or "x1b" in printed


@pytest.mark.parametrize("flag", ["--ledger", "--report"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("x" * 300, "is too long a name", id="long"),
        pytest.param(".", "'.' is a folder", id="folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_trace_is_read(
    commands: Commands, tmp_path: Path, flag: str, name: str, told: str
) -> None:
    done = commands.export(tmp_path, "no such trace", flag, name)
    assert done.code == 2
    assert f"{flag}: {told}" in done.err


def test_all_streams_closed(tmp_path: Path) -> None:
    """The next files to be opened would be 0, 1 and 2; the ledger is whole all the same."""
    trace = DATA / "cases/contradictions/0_good.json"
    command = f"{sys.executable} -m qwen3_profile.export {trace} --ledger l.json <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "l.json").read_text())["schema_version"]


def test_a_path_that_the_locale_lacks(tmp_path: Path) -> None:
    trace = tmp_path / "é层.json"
    trace.write_bytes((DATA / "cases/contradictions/0_good.json").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_profile.export", trace, "--ledger", "l.json"],
        cwd=tmp_path, env=environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Traceback" not in done.stdout
