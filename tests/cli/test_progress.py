"""What a run tells of its progress: a line now and then, each step with -v, and an estimate."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Iterator

import pytest

from qwen3_profile.cli import progress
from qwen3_profile.cli.progress import Progress
from qwen3_profile.errors import VERBOSITY


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


@pytest.fixture(params=[0], ids=["usual"])
def verbosity(request: pytest.FixtureRequest) -> Iterator[int]:
    before = VERBOSITY.set(request.param)
    yield request.param
    VERBOSITY.reset(before)


def run(clock: Clock, seconds: list[float], total: int = 0) -> None:
    """Steps that take so many seconds each; the first is a warm-up."""
    shown = Progress()
    shown.total = total
    for at, each in enumerate(seconds):
        shown.step("c: warm-up" if not at else f"c: step {at}")
        clock.now_s += each
    shown.step("end")
    shown.close()


@pytest.mark.usefixtures("verbosity")
def test_a_short_run_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run(clock, [3.0, 3.0, 3.0])
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("verbosity")
def test_a_long_one_tells_a_line_now_and_then(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, [1.0, 21.0, 3.0, 3.0, 30.0], total=6)
    assert capsys.readouterr().err.splitlines() == [
        "[  22.0 s] step 3 of 6: c: step 2", "[  58.0 s] step 6 of 6: end",
    ]  # fmt: skip


@pytest.mark.parametrize("verbosity", [1], indirect=True)
def test_verbose_tells_every_step(
    clock: Clock, capsys: pytest.CaptureFixture[str], verbosity: int
) -> None:
    run(clock, [1.0, 2.0])
    assert capsys.readouterr().err.splitlines() == [
        "[   0.0 s] c: warm-up", "[   1.0 s] c: step 1", "[   3.0 s] end", "[   3.0 s] done",
    ]  # fmt: skip


@pytest.mark.parametrize("verbosity", [-1], indirect=True)
def test_quiet_tells_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str], verbosity: int
) -> None:
    run(clock, [60.0, 60.0, 60.0], total=20)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("verbosity")
def test_the_first_warm_up_gives_an_estimate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of 15 s and 10 more steps: 150 s in all, which is 2 minutes and a half."""
    run(clock, [15.0], total=11)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("a warm-up pass took 15.0 s: at this pace 2 min to go; ")


@pytest.mark.usefixtures("verbosity")
def test_one_bar_over_all_the_work(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    run(clock, [1.0, 1.0, 1.0], total=4)
    assert "c: step 2" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


@pytest.mark.usefixtures("verbosity")
def test_the_bar_is_drawn_on_a_terminal_that_does_not_know_its_size(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()  # of 0 rows and columns
    os.set_blocking(ours, False)
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        run(clock, [1.0, 1.0, 1.0], total=4)
        terminal.flush()
        shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "c: step 2" in shown
