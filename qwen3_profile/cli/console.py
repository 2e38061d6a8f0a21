"""What both command lines share: results to stdout, an error in one line, and the exit code."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from qwen3_profile.errors import EXIT_INTERRUPTED, ProfileError, report_error, tell
from qwen3_profile.system.files import output_error


def run_command(work: Callable[[], int]) -> int:
    """The exit code of `work`; whatever the user can act on is told in one line.

    Args:
        work: the command itself; returns its exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A model's folder may have a name that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return work()
    except ProfileError as error:
        return report_error(error)
    except KeyboardInterrupt:
        tell("interrupted")
        return EXIT_INTERRUPTED
    except OSError as error:
        where = str(error.filename or type(error).__name__)
        return report_error(ProfileError(where, error.strerror or str(error)))
    finally:
        with _reader_may_leave():
            if sys.stdout is not None:
                sys.stdout.flush()


def leave(code: int) -> NoReturn:
    """Ends the process; the system takes its memory back at once, where Python would free it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


@contextlib.contextmanager
def keep_all_objects() -> Iterator[None]:
    """Lets nobody look for garbage meanwhile: for work that makes many objects and keeps them.

    They are old at its end, so that the next collection of young objects does not go through them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if was_on:
            gc.enable()


def show(text: str) -> None:
    """Prints a result to stdout; that the reader has left, as `head` does, ends nothing.

    Raises:
        OutputError: stdout is a file on a disk that is full, or the like.
    """
    try:
        with _reader_may_leave():
            print(text, flush=True)
    except OSError as error:
        _silence_stdout()
        raise output_error(Path("stdout"), error) from error


@contextlib.contextmanager
def interrupt_held() -> Iterator[None]:
    """Lets the block end before Ctrl-C takes effect, so that it saves what it has; a second
    Ctrl-C is not held.
    """
    held: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _silence_stdout()


def _silence_stdout() -> None:
    """Python would complain at its end of what it could not write."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
