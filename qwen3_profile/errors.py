"""What can go wrong, and how it is told: one line on stderr and an exit code.

ProfileError              exit code 2: bad input; nothing was started
|- ConfigError            a flag, an option or a config file
|- ModelError             a model that is not known, not there, or not loadable
|- OutputError            a place that cannot be written, or holds something else
|- TraceError             a file that is not a trace, or a folder that holds none
|  |- OtherFormatError    what another program wrote
|  |- NoRangesError       a trace that no range splits
|  `- DamagedTraceError   exit code 3: a trace whose figures would be wrong
|     `- BrokenTextError  exit code 2: an event of it is not JSON
`- RunError               exit code 1: a config that failed while it ran
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from qwen3_profile.words import said

# How much is printed: -1 with --quiet, 1 with --verbose; set for each command.
VERBOSITY = ContextVar("VERBOSITY", default=0)
# Whether stderr shows colour; set for each command.
COLOURED = ContextVar("COLOURED", default=False)
_RED, _YELLOW = 31, 33
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_DAMAGED = 3
# 128 and the number of the signal that ended the process, as shells have it.
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_HUNG_UP = 129
# What to do about a trace whose text is not what was written.
COPY_AGAIN = "export the trace again, or copy the file again"
_LONGEST_MESSAGE = 300


class ProfileError(Exception):
    """A failure that the user can act on.

    Args:
        where: the file, flag or key concerned, as the user wrote it.
        what: what is wrong with it.
        do: what to do about it; empty where `what` already says it.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(self, where: str, what: str, do: str = "") -> None:
        super().__init__(where, what, do)
        self.where = where
        self.what = what
        self.do = do

    def __str__(self) -> str:
        """For a person, in the language in effect."""
        return self._line(said)

    @property
    def english(self) -> str:
        """The same line as files keep it."""
        return self._line(str)

    def _line(self, say: Callable[[str], str]) -> str:
        line = f"{say(self.where)}{say(': ')}{say(self.what)}"
        return one_line(f"{line}{say('; ')}{say(self.do)}" if self.do else line)


class ConfigError(ProfileError):
    """A flag, an option or a config file that cannot be used."""


class ModelError(ProfileError):
    """A model that is not known, not there, or not loadable."""


class OutputError(ProfileError):
    """A place that cannot be written, or that holds something that is not ours."""


class TraceError(ProfileError):
    """A file that is not a trace, or a folder that holds none."""


class OtherFormatError(TraceError):
    """A file that another program wrote, or a whole archive of files."""


class NoRangesError(TraceError):
    """A trace that no range splits; its device time can be accounted for all the same."""


class DamagedTraceError(TraceError):
    """A trace whose figures would be wrong, so that none are given."""

    exit_code = EXIT_DAMAGED


class BrokenTextError(DamagedTraceError):
    """A trace of which an event is not JSON."""

    exit_code = EXIT_BAD_INPUT


class RunError(ProfileError):
    """A config that failed while it ran; the others go on."""

    exit_code = EXIT_FAILED


def one_line(text: str) -> str:
    """`text` with control characters escaped, so that it cannot break or forge a line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def in_words(error: BaseException) -> str:
    """An error of other people's code as part of a line: its class, and how its message begins."""
    return f"{type(error).__name__}: {one_line(str(error))[:_LONGEST_MESSAGE]}"


def report_error(error: ProfileError) -> int:
    """Prints the one line of `error` to stderr and returns its exit code."""
    if VERBOSITY.get() > 0:
        import traceback  # only for who asks

        traceback.print_exception(error)
    _print(f"{said('error: ')}{error}", _RED)
    return error.exit_code


def warn(message: str) -> None:
    """Prints one warning line to stderr."""
    _print(f"{said('warning: ')}{said(message)}", _YELLOW)


def tell(line: str) -> None:
    """Prints one line to stderr, in the language in effect."""
    _print(said(line))


def _print(line: str, colour: int = 0) -> None:
    """To stderr, if anybody reads it; `colour` is a number of the terminal's codes, 0 for none."""
    text = one_line(line)
    if colour and COLOURED.get():
        text = f"\x1b[{colour}m{text}\x1b[0m"
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def closest(word: str, choices: Iterable[str]) -> str:
    """`did you mean X?` for the nearest of `choices`, or an empty string."""
    import difflib  # only for a word that was mistyped

    near = difflib.get_close_matches(word, list(choices), n=1)
    return f"did you mean {near[0]}?" if near else ""
