"""TensorBoard as a process of its own, and what it answers."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Dashboard:
    """TensorBoard at `url`, which ends with a slash; it logs to `log`."""

    url: str
    log: Path

    def ask(self, route: str, *, plugin: str = "pytorch_profiler", **query: str) -> Any:
        url = f"{self.url}data/plugin/{plugin}/{route}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            data = answer.read()
        return json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)

    def profile(self, route: str, run: str, worker: str = "w", **query: str) -> Any:
        return self.ask(route, run=run, worker=worker, span="1", **query)


@contextmanager
def running(logdir: Path, log: Path, *flags: str) -> Iterator[Dashboard]:
    """TensorBoard on `logdir`, from when it answers until the block ends."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), *flags]
    with log.open("wb") as file:
        # A session of its own, so that the parsers that it starts end with it.
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"],
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        wait_until(lambda: server.poll() is not None or _address(log) is not None, log)
        address = _address(log)
        assert address is not None, log.read_text()
        yield Dashboard(address, log)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def wait_until(there: Callable[[], bool], log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, f"TensorBoard did not come so far: {log.read_text()}"
        time.sleep(0.1)


def _address(log: Path) -> str | None:
    found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
    return found[0] if found else None
