"""Sides run in turn, each in fresh processes; what goes wrong is told."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from qwen3_profile.cli import fresh_processes
from qwen3_profile.cli.compare_options import parse_arguments
from qwen3_profile.cli.console import run_command
from qwen3_profile.cli.fresh_processes import Side, new_folder, run_in_turn, side_of
from qwen3_profile.errors import ConfigError, RunError


def started(
    monkeypatch: pytest.MonkeyPatch, codes: dict[tuple[str, int], int] | None = None
) -> list[tuple[str, int]]:
    """The processes that are started, by side and number; each ends with its code, or 0."""
    found: list[tuple[str, int]] = []

    def run(side: Side, number: int) -> int:
        found.append((side.name, number))
        return (codes or {}).get((side.name, number), 0)

    monkeypatch.setattr(fresh_processes, "_run", run)
    return found


SIDES = [Side("A", (), Path("a")), Side("B", (), Path("b"))]


def test_sides_take_turns_at_being_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found, told = started(monkeypatch), []
    run_in_turn(SIDES, 3, told.append)
    assert found == [("A", 1), ("B", 1), ("B", 2), ("A", 2), ("A", 3), ("B", 3)]
    assert told[1].startswith("B process 1 of 3: ")


def test_a_process_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(monkeypatch, {("B", 2): 3})
    with pytest.raises(RunError, match=r"B process 2 of 3: ended with exit code 3; .* lies in b"):
        run_in_turn(SIDES, 3, lambda _: None)
    assert found[-1] == ("B", 2)


def test_an_interrupted_process_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, {("A", 1): 130})
    with pytest.raises(KeyboardInterrupt):
        run_in_turn(SIDES, 1, lambda _: None)


@pytest.fixture
def stubborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a process makes when it has begun; it ends only when it is asked to."""
    begun, python = tmp_path / "begun", tmp_path / "python"
    python.write_text(
        "#!/bin/sh\ntrap 'echo interrupted by SIGTERM >&2; exit 143' TERM\n"
        f"touch {begun}\nwhile :; do sleep 0.05; done\n"
    )
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    return begun


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_with_what_asks_for_it_and_tells_for_both(
    stubborn: Path, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A signal to this process alone, as `kill` and a scheduler send it."""

    def send_when_it_has_begun() -> None:
        while not stubborn.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send_when_it_has_begun)
    thread.start()
    assert run_command(lambda: run_in_turn(SIDES, 2, print) or 0) == 128 + number
    thread.join()
    assert capfd.readouterr().err == "interrupted by SIGTERM\n"


def test_a_process_that_was_asked_to_end_ends_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, {("B", 1): 143})
    assert run_command(lambda: run_in_turn(SIDES, 2, lambda _: None) or 0) == 143


def test_folders_are_numbered(tmp_path: Path) -> None:
    names = [new_folder(tmp_path / "traces", "compare").name for _ in range(2)]
    assert names == ["compare1", "compare2"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--run-name", "x"), "--run BASE: --run-name: is not for the sides to say"),
        (("--trace-dir=x",), "--run BASE: --trace-dir=x: is not for the sides to say"),
        (("--batch-size", "0"), "--run BASE: --batch-size: 0 is"),
        (("--bach-size", "1"), "--run BASE: --bach-size: is not a known argument"),
    ],
)
def test_arguments_of_a_side_are_checked_before_anything_runs(
    argv: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        side_of("BASE", argv, Path("here"))
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ((), "BASE NEW: are not both there"),
        (("a",), "BASE NEW: are not both there"),
        (("a", "b", "--num-processes", "3"), "--num-processes: goes with --run"),
        (("--run", "x"), "--run: is given 1 times"),
        (("a", "--run", "x", "--run", "y"), "--run: does not go with a"),
        (("--run", "x", "--run", "y", "--num-processes", "0"), "--num-processes: 0 is not from 1"),
    ],
)
def test_what_gives_no_two_sides_is_refused(argv: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(argv)
    assert str(caught.value).startswith(told)
