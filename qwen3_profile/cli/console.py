"""What both command lines share: results to stdout, an error in one line, and the exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from qwen3_profile.errors import COLOURED, VERBOSITY, ProfileError, report_error
from qwen3_profile.system import signals
from qwen3_profile.system.files import output_error
from qwen3_profile.views.terminal.screen import PAINT, SCREEN, on_screen, screen_of
from qwen3_profile.words import language_kept

# What a terminal obeys, be it in the name of a file, a device or a kernel; and what turns the text
# around it, or breaks its line.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_OBEYED_BUT_PAINT = re.compile(f"(?!{PAINT}){_OBEYED.pattern}")


def run_command(work: Callable[[], int]) -> int:
    """The exit code of `work`; whatever the user can act on is told in one line.

    Args:
        work: the command itself; returns its exit code.
    """
    _fill_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A model's folder may have a name that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    before = VERBOSITY.set(0)
    coloured = COLOURED.set(screen_of(sys.stderr).colour)
    try:
        with signals.watched(), language_kept(), on_screen(screen_of(sys.stdout)):
            return _told(work)
    finally:
        COLOURED.reset(coloured)
        VERBOSITY.reset(before)
        with _reader_may_leave():
            if sys.stdout is not None:
                sys.stdout.flush()


def _fill_closed_streams() -> None:
    """Else the next files to be opened are 0, 1 and 2, and what C++ prints goes into them."""
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _told(work: Callable[[], int]) -> int:
    try:
        code = work()
        signals.obey()
        return code
    except (Exception, KeyboardInterrupt) as error:
        # Where C++ imports a module, a signal comes out as an ImportError.
        stopped = signals.take(error)
        if stopped is not None:
            signals.tell_once(stopped)
            return stopped.exit_code
        if isinstance(error, OSError):
            where = str(error.filename or type(error).__name__)
            return report_error(ProfileError(where, error.strerror or str(error)))
        if isinstance(error, ProfileError):
            return report_error(error)
        # The reading half alone was installed, and this needs more.
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("qwen3_"):
            do = "pip install qwen3_profile with all that it needs"
            return report_error(ProfileError(str(error.name), "is not installed", do))
        raise


def leave(code: int) -> NoReturn:
    """Ends the process; the system takes its memory back at once, where Python would free it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


def show(text: str) -> None:
    """Prints a result to stdout; that the reader has left, as `head` does, ends nothing.

    Raises:
        OutputError: stdout is a file on a disk that is full, or the like.
    """
    try:
        with _reader_may_leave():
            obeyed = _OBEYED_BUT_PAINT if SCREEN.get().colour else _OBEYED
            print(obeyed.sub(_escaped, text), flush=True)
    except OSError as error:
        _silence_stdout()
        raise output_error(Path("stdout"), error) from error


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"  # as in JSON, which may be what is shown


@contextlib.contextmanager
def all_to_stderr() -> Iterator[None]:
    """Shows all on stderr meanwhile: stdout is kept for what a program reads."""
    with contextlib.redirect_stdout(sys.stderr), on_screen(screen_of(sys.stderr)):
        yield


def show_table(text: str) -> None:
    """As `show`, unless the user has asked for quiet."""
    if VERBOSITY.get() >= 0:
        show(text)


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # A terminal that has been closed gives EIO.
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        _silence_stdout()


def _silence_stdout() -> None:
    """Python would complain at its end of what it could not write."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
