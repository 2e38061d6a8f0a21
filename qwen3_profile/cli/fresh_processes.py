"""Measures several times, in a fresh process each; the sides of a comparison in turn.

All passes of one process are fast or slow together, so that one process says little of the next;
and a machine drifts, so that sides which ran one after the other differ without a cause.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from qwen3_profile.cli.run_options import parse_arguments
from qwen3_profile.errors import ConfigError, ProfileError, RunError
from qwen3_profile.system import signals
from qwen3_profile.system.files import make_folder, output_error
from qwen3_profile.system.processes import end_with_parent

_MOMENT_S = 3.0
# Where each process writes is ours to say.
_OURS = ("--trace-dir", "--run-name", "--output-dir", "--force", "--num-processes")


@dataclass(frozen=True, slots=True)
class Side:
    """What is measured, as arguments of the command, and the folder of its runs.

    name: in what is told; empty where there is only one side.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path


def side_of(name: str, argv: Sequence[str], folder: Path) -> Side:
    """A side, if its arguments are right.

    Raises:
        ConfigError: an argument is wrong, or says where the runs go.
    """
    for word in argv:
        if word.partition("=")[0] in _OURS:
            do = f"leave it out; the runs of {name} go to {folder}"
            raise ConfigError(f"--run {name}: {word}", "is not for the sides to say", do)
    try:
        parse_arguments(argv)
    except ProfileError as error:
        raise ConfigError(f"--run {name}: {error.where}", error.what, error.do) from error
    return Side(name, (*argv, "--output-dir", str(folder)), folder)


def new_folder(trace_dir: Path, name: str) -> Path:
    """name1, name2, ...: the first that is free, made.

    Raises:
        OutputError: it cannot be made.
    """
    make_folder(trace_dir)
    for number in count(1):
        folder = trace_dir / f"{name}{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise output_error(folder, error) from error
    raise AssertionError


def run_in_turn(sides: Sequence[Side], processes: int, tell: Callable[[str], None]) -> None:
    """Runs A B, B A, A B, ...: so that no side is always the first, and drift meets both.

    Args:
        processes: of each side.
        tell: is told of each process that has ended.

    Raises:
        RunError: one failed; those before it stay.
    """
    for turn in range(processes):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            begin = time.monotonic()
            name = f"{side.name} process {turn + 1} of {processes}".lstrip()
            code = _run(side, turn + 1)
            stopped = signals.told_by(code)
            if stopped is not None:  # it alone was asked to end
                raise stopped
            if code:
                what = f"ended with exit code {code}"
                raise RunError(name, what, f"what ran before it lies in {side.folder}")
            tell(f"{name}: {time.monotonic() - begin:.1f} s")


def _run(side: Side, number: int) -> int:
    place = ("--trace-dir", str(side.folder), "--run-name", f"process{number}")
    command = [sys.executable, "-m", "qwen3_profile", *side.argv, *place, "--num-processes", "1"]
    # It ends with this process, however that ends, and saves what it has.
    ends = partial(end_with_parent, os.getpid(), signal.SIGTERM)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=ends
    )
    try:
        return process.wait()
    except BaseException:
        # A terminal's Ctrl-C has reached it too, and this one changes nothing then.
        process.terminate()
        signals.told_by(_waited(process))
        raise


def _waited(process: subprocess.Popen[bytes]) -> int:
    """The exit code, when it has saved what it has; a second Ctrl-C hardly waits for that."""
    try:
        return process.wait()
    except BaseException:
        try:
            return process.wait(_MOMENT_S)  # a terminal's second one has reached it too
        except BaseException:
            process.kill()
            raise
