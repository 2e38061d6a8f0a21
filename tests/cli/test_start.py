"""The begin of each program: before any of it can tell of Ctrl-C, that ends it in silence."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from make.commands import environment, take_interrupts
from make.paths import ROOT

from qwen3_profile.cli import start


def entry_points() -> Iterator[tuple[str, ...]]:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for line in settings["options.entry_points"]["console_scripts"].strip().split("\n"):
        module, _, function = line.partition(" = ")[2].partition(":")
        yield "-c", f"import sys\nfrom {module} import {function}\nsys.exit({function}())"


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "qwen3_profile"),
        ("-m", "qwen3_profile.export"),
        ("-m", "qwen3_profile.compare"),
        *entry_points(),
    ],
)
def test_ctrl_c_is_silent_before_it_can_be_told(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The first import of the program that takes a while sends it."""
    (tmp_path / "argparse.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    path = os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"]))
    found = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment(PYTHONPATH=path),
        capture_output=True, text=True, preexec_fn=take_interrupts,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (signal.default_int_handler, signal.SIG_DFL),
        pytest.param(signal.SIG_IGN, signal.SIG_IGN, id="under nohup"),
    ],
)
def test_what_is_ignored_stays_so(before: Any, after: Any) -> None:
    usual = signal.signal(signal.SIGINT, before)
    try:
        start._end_silently()
        assert signal.getsignal(signal.SIGINT) == after
    finally:
        signal.signal(signal.SIGINT, usual)
