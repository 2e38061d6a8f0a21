"""Waits with torch and transformers imported; each process that is asked for is a fork of it.

Most of what a run of a tiny model takes is imports. A fork starts with them done, and is a process
like any other else: with signals, descriptors, limits and an exit of its own.

Run by `make.forking`, which passes the number of a socket. Each message asks for one process, with
three descriptors: its stdout, its stderr, and a socket on which its number and its status come.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
from typing import Any

from make.frozen import freeze_all

_MODULES = (
    "qwen3_profile.measure.session",
    "qwen3_profile.records.from_run",
    "qwen3_profile.views.report.build",
    "torch.profiler",
    "transformers.models.qwen3.configuration_qwen3",
    "transformers.models.qwen3.modeling_qwen3",
)
NUMBER = struct.Struct("i")
MOST_BYTES = 1 << 17


def serve(control: socket.socket) -> None:
    """Until the other end of `control` is closed."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, 3)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _supervise(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _supervise(asked: dict[str, Any], out: int, err: int, status: int) -> None:
    """Tells the number of the new process, and how it ended; ends it when nobody waits for it."""
    child = os.fork()
    if child == 0:
        os.close(status)
        _become(asked, out, err)
        return
    os.write(status, NUMBER.pack(child))
    watch = select.poll()
    watch.register(os.pidfd_open(child), select.POLLIN)
    watch.register(status, select.POLLHUP)
    if any(descriptor == status for descriptor, _ in watch.poll()):
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(status, NUMBER.pack(code))
    os._exit(0)


def _become(asked: dict[str, Any], out: int, err: int) -> None:
    """What Python does with its arguments when it starts, and when it has come to their end."""
    for descriptor, stream in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    # Python looks once, when it starts, whether it can seek in these.
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    how, what, *rest = asked["argv"]
    sys.path[0] = ""
    sys.argv = [how if how == "-c" else what, *rest]
    try:
        if how == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        _exit(ended.code or 0)
    _exit(0)


def _exit(code: int) -> None:
    """As Python ends, but for taking apart all that was imported, which takes a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    os._exit(code)


if __name__ == "__main__":
    for name in _MODULES:
        importlib.import_module(name)
    freeze_all()  # no fork looks through what they made, nor copies it by that
    serve(socket.socket(fileno=int(sys.argv[1])))
