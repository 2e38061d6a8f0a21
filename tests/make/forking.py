"""Processes of the commands that need not import torch first: forks of one that has."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from make.fork_server import NUMBER

_SERVER = Path(__file__).with_name("fork_server.py")


class Forked:
    """What the tests use of `subprocess.Popen`, of a fork; its output goes through files.

    stdout: a descriptor of the caller's, or None for `communicate` to read.
    """

    def __init__(
        self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str],
        stdout: int | None = None,
    ) -> None:  # fmt: skip
        self._out = _file() if stdout is None else None
        self._err = _file()
        self._status, theirs = socket.socketpair()
        asked = {"argv": argv, "cwd": str(cwd), "environment": dict(environment)}
        out = stdout if self._out is None else self._out.fileno()
        with theirs:
            descriptors = [out, self._err.fileno(), theirs.fileno()]
            socket.send_fds(_server(), [json.dumps(asked).encode()], descriptors)
        self.returncode: int | None = None
        self.pid = self._number()

    def _number(self) -> int:
        told = self._status.recv(NUMBER.size)
        number: int = NUMBER.unpack(told)[0]
        return number

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired, as that of subprocess does."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                self.returncode = self._number()
            except (TimeoutError, BlockingIOError) as error:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from error
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return _text(self._out), _text(self._err)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _text(file: IO[bytes] | None) -> str:
    if file is None:
        return ""
    file.seek(0)
    return file.read().decode()


@functools.cache
def _server() -> socket.socket:
    """One for each process of tests; it ends with it, when its socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, str(_SERVER), str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    return ours
