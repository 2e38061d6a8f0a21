"""Signals: noted, held while something is done, never lost, and nobody's handlers are changed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest
from make.commands import environment

from qwen3_profile.cli.console import run_command
from qwen3_profile.system import signals
from qwen3_profile.system.signals import Stopped, allowed, held, noted, obey, take, watched

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def stopped_by(number: int) -> Iterator[None]:
    with pytest.raises(Stopped) as caught:
        yield
    assert caught.value.number == number


@pytest.mark.parametrize(
    ("number", "line", "code"),
    [
        pytest.param(INT, "interrupted", 130, id="Ctrl-C"),
        pytest.param(TERM, "interrupted by SIGTERM", 143, id="kill"),
        pytest.param(HUP, "interrupted by SIGHUP", 129, id="hang up"),
    ],
)
def test_a_signal_ends_a_command_in_one_line(
    number: int, line: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number), sys.unraisablehook
    assert run_command(lambda: send(number) or 0) == code
    assert capsys.readouterr() == ("", f"{line}\n")
    assert (signal.getsignal(number), sys.unraisablehook) == before


def test_what_is_held_comes_to_its_end() -> None:
    done = []
    with watched(), stopped_by(TERM):
        with held():
            with held():
                send(TERM)
                send(HUP)
            done.append("inner")
            send(TERM)
            done.append("outer")
        done.append("never")
    assert done == ["inner", "outer"]


def test_what_is_noted_is_obeyed_where_something_is_held_again() -> None:
    done = []
    with watched(), stopped_by(TERM):
        with noted():
            send(TERM)
            done.append("noted")
        done.append("after it")
        with held():
            done.append("held")
        done.append("never")
    assert done == ["noted", "after it", "held"]


def test_what_is_allowed_within_ends_at_once() -> None:
    with watched(), noted():
        with stopped_by(TERM), allowed():
            send(TERM)
            pytest.fail("it was noted only")
        # It was not taken, and ends the next one before it begins.
        with stopped_by(TERM), allowed():
            pytest.fail("it was forgotten")
        assert take() is not None
        with allowed():
            obey()


def test_a_second_ctrl_c_is_not_held() -> None:
    with watched(), stopped_by(TERM), held():
        send(TERM)
        send(INT)
        pytest.fail("it was held")


def test_what_python_drops_in_a_callback_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    class Thing:
        pass

    with watched():
        thing = Thing()
        watch = weakref.ref(thing, lambda _: send(INT))
        del thing
        assert watch() is None
        with stopped_by(INT):
            obey()
    assert capsys.readouterr().err == ""


def test_an_error_that_a_signal_was_made_into_is_the_signal() -> None:
    with watched():
        with contextlib.suppress(Stopped):
            send(HUP)
        stopped = take(ValueError("of a library"))
        assert stopped is not None
        assert stopped.number == HUP
        # It has been obeyed: what comes later is an error of its own.
        assert take(ValueError("another")) is None
        obey()
        assert signals.exit_code() == 129


def test_an_import_that_a_signal_broke_is_the_signal(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        with contextlib.suppress(Stopped):
            send(TERM)
        raise ImportError("initialization failed")

    assert run_command(work) == 143
    assert capsys.readouterr().err == "interrupted by SIGTERM\n"
    with pytest.raises(ImportError, match="of its own"):
        run_command(lambda: exec("raise ImportError('of its own')"))


def test_what_another_process_tells_is_not_told_here(capsys: pytest.CaptureFixture[str]) -> None:
    def work(*codes: int) -> int:
        told = [signals.told_by(code) for code in codes]
        assert [each and each.number for each in told] == [TERM, None][: len(codes)]
        return send(INT) or 0

    assert run_command(lambda: work(143, 1)) == 130
    assert capsys.readouterr().err == ""
    assert run_command(work) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(("rank", "err"), [("0", "interrupted by SIGHUP\n"), ("1", "")])
def test_the_first_of_several_ranks_tells_of_a_signal(rank: str, err: str) -> None:
    code = (
        "import os, signal\n"
        "from qwen3_profile.cli import program\n"
        "program.main = lambda: os.kill(os.getpid(), signal.SIGHUP)\n"
        "program.run()\n"
    )
    ranks = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "MASTER_ADDR": "x",
             "MASTER_PORT": "1"}  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(**ranks), capture_output=True, text=True
    )
    assert (found.returncode, found.stderr) == (129, err)


def test_a_signal_after_the_end_is_not_told_and_changes_no_exit_code() -> None:
    """While Python takes down what torch has started."""
    code = (
        "import atexit, os, signal, sys\n"
        "from qwen3_profile.cli import program\n"
        "sys.modules['torch'] = None\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "program.main = lambda: 7\n"
        "program.run()\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert (found.returncode, found.stderr) == (7, "")


@pytest.mark.parametrize("held_then", [False, True])
def test_what_is_ignored_stays_ignored(held_then: bool) -> None:
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        with watched(), held() if held_then else contextlib.nullcontext():
            send(HUP)
        assert signal.getsignal(HUP) == signal.SIG_IGN
    finally:
        signal.signal(HUP, before)


def test_nobody_watches_in_another_thread_or_without_a_command() -> None:
    handler = signal.getsignal(INT)
    seen = []

    def work() -> None:
        with watched(), held():
            seen.append(signal.getsignal(INT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with held():
        seen.append(signal.getsignal(INT))
    obey()
    assert seen == [handler, handler]
    stopped = take(KeyboardInterrupt())
    assert stopped is not None
    assert stopped.exit_code == 130
