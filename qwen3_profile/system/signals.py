"""Ctrl-C, SIGTERM and SIGHUP: noted when they come, and obeyed where nothing is lost by it.

Only the command lines watch for them; for everybody else the functions here do nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from qwen3_profile.errors import EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED, tell
from qwen3_profile.words import said

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_EXIT_CODES = {
    "SIGINT": EXIT_INTERRUPTED,
    "SIGTERM": EXIT_TERMINATED,
    "SIGHUP": EXIT_HUNG_UP,
}


class Stopped(KeyboardInterrupt):
    """A signal has asked this process to end; raised where that loses nothing.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self._name]

    @property
    def _name(self) -> str:
        return signal.Signals(self.number).name

    def __str__(self) -> str:
        if self.number == signal.SIGINT:
            return "interrupted"
        return f"interrupted by {self._name}"


@dataclass
class _Watch:
    """What has come.

    first: the first signal. due: one that nobody has obeyed. held: how deep.
    is_told: the user knows.
    """

    first: int | None = None
    due: int | None = None
    held: int = 0
    is_told: bool = False

    def note(self, number: int, _: FrameType | None) -> None:
        """The handler. Whoever presses Ctrl-C twice does not want to wait."""
        insists = self.first is not None and number == signal.SIGINT
        if self.first is None:
            self.first = self.due = number
        elif not insists:
            return
        if insists or not self.held:
            raise Stopped(self.first)


_watch: _Watch | None = None


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Notes signals in the block: each is raised as `Stopped` at once, or where `held` ends.

    Where Python drops what a handler raises, as in a callback, the next `obey` raises it again.
    What is ignored, as under nohup, stays so.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outer, _watch = _watch, _Watch()
    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: _is_stop(dropped) or hook(dropped)
    try:
        with _handled(_watch):
            yield
    finally:
        sys.unraisablehook = hook
        _watch = outer


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Lets the block end before a signal takes effect; a second Ctrl-C is not held."""
    with noted():
        yield
    if _watch is not None and not _watch.held:
        obey()


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Lets the block end, and what comes after it: a signal takes effect at the next `obey`."""
    watch = _watch
    if watch is None:
        yield
        return
    watch.held += 1
    try:
        yield
    finally:
        watch.held -= 1


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Within `held` or `noted`, a block that a signal may end."""
    watch = _watch
    if watch is None:
        yield
        return
    depth, watch.held = watch.held, 0
    try:
        obey()
        yield
    finally:
        watch.held = depth


def obey() -> None:
    """Raises `Stopped` if a signal has come that nobody has obeyed."""
    if _watch is not None and _watch.due is not None:
        raise Stopped(_watch.due)


def take(error: BaseException | None = None) -> Stopped | None:
    """The signal that `error` comes of, which its caller obeys now; None if it comes of none.

    Code of others may turn what a handler raises into an error of its own.
    """
    number = _watch.due if _watch is not None else None
    if _watch is not None:
        _watch.due = None
    if number is None and isinstance(error, KeyboardInterrupt):
        return error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
    return Stopped(number) if number is not None else None


def told() -> None:
    """That a signal has come was told; it is not told twice."""
    if _watch is not None:
        _watch.is_told = _watch.first is not None


def told_elsewhere() -> None:
    """Another process tells it: one line is enough for all that a terminal or torchrun ends."""
    if _watch is not None:
        _watch.is_told = True


def told_by(code: int) -> Stopped | None:
    """The signal that a command of ours has ended by with this exit code, in a line of its own."""
    names = [name for name, known in _EXIT_CODES.items() if known == code]
    if not names:
        return None
    told_elsewhere()
    return Stopped(getattr(signal, names[0]))


def tell_once(stopped: Stopped) -> None:
    """Tells it in one line, unless the user knows."""
    if _watch is None or not _watch.is_told:
        tell(str(stopped))


def exit_code() -> int:
    """That of a command whose work a signal has cut short."""
    first = _watch.first if _watch is not None else None
    return Stopped(first or signal.SIGINT).exit_code


def end_at_once(*, tells: bool = True) -> None:
    """For a command whose imports take a while: until `watched` a signal ends it in one line.

    Args:
        tells: else another process does.
    """
    for number in _watched_signals():
        signal.signal(number, partial(_end, tells))


def end_with(code: int) -> None:
    """For a command that is done: a signal while Python takes it down changes nothing."""
    for number in _watched_signals():
        signal.signal(number, lambda *_: os._exit(code))


def _end(tells: bool, number: int, _: FrameType | None) -> None:
    stopped = Stopped(number)
    if tells and sys.stderr is not None:
        with contextlib.suppress(OSError):  # print fails where it has interrupted a print
            os.write(2, f"{_said(stopped)}\n".encode())
    os._exit(stopped.exit_code)


def _said(stopped: Stopped) -> str:
    with contextlib.suppress(Exception):  # it may interrupt the import that this needs
        return said(str(stopped))
    return str(stopped)


@contextlib.contextmanager
def _handled(watch: _Watch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _watched_signals()}
    try:
        for number in before:
            signal.signal(number, watch.note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watched_signals() -> list[signal.Signals]:
    """Those that the system has, and that are not ignored or another language's."""
    numbers = [getattr(signal, name) for name in _EXIT_CODES if hasattr(signal, name)]
    return [each for each in numbers if signal.getsignal(each) not in (signal.SIG_IGN, None)]


def _is_stop(dropped: UnraisableHookArgs) -> bool:
    return issubclass(dropped.exc_type, Stopped)
