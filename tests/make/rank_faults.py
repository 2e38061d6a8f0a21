"""A run under torchrun in which something goes wrong on rank 1."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Any

from qwen3_profile.__main__ import main
from qwen3_profile.measure import profiler
from qwen3_profile.system.files import output_error

# Far above what a loaded machine takes from a rank, so that what is said of it is said everywhere.
SLEEP_S = 0.25


def sleep_in_ffn() -> None:
    """In each pass, inside `layer.1.ffn`."""
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

    forward, layers = Qwen3MLP.forward, []

    def late(self: Any, hidden: Any) -> Any:
        if self not in layers:
            layers.append(self)
        if layers.index(self) == 1:
            time.sleep(SLEEP_S)
        return forward(self, hidden)

    Qwen3MLP.forward = late


def after_traces(count: int, act: Any) -> None:
    """Acts in place of writing the trace after so many."""
    export, written = profiler.export_trace, 0

    def counted(session: Any, path: Any) -> None:
        nonlocal written
        written += 1
        if written > count:
            act(path)
        export(session, path)

    profiler.export_trace = counted


def full_disk(path: Any) -> None:
    raise output_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


FAULTS = {
    "none": lambda: None,
    "sleep": sleep_in_ffn,
    "killed": lambda: after_traces(2, lambda _: os.kill(os.getpid(), signal.SIGKILL)),
    "hanging": lambda: after_traces(2, lambda _: time.sleep(600)),
    "stopped": lambda: after_traces(2, lambda _: os.kill(os.getpid(), signal.SIGSTOP)),
    "full": lambda: after_traces(2, full_disk),
}


def faulty(fault: str, argv: list[str]) -> int:
    """A run whose rank 1, or whose first one, has the fault."""
    if os.environ["RANK"] == ("0" if fault.startswith("first ") else "1"):
        FAULTS[fault.removeprefix("first ")]()
    return main(argv)
