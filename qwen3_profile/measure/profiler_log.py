"""What Kineto says on stderr while a session starts or stops: kept, and not shown.

Kineto writes its log to the process's stderr from C++: a note at every start and stop, and, as
the only sign of it, a line when it drops events:

    USDT:2026-11-23 22:59:27 6475:6475 SyncActivityProfilerHandler.cpp:52] profiler_start
    WARNING:2026-11-23 22:59:28 6475:6475 CuptiActivityApi.cpp:...] ...
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_STDERR = 2
_LINE = re.compile(r"(?P<level>[A-Z]+):\d{4}-\d\d-\d\d [\d:]+ \d+:\d+ (?P<text>.*)")
_ROUTINE = frozenset({"USDT", "INFO", "VERBOSE", "STAGE"})
# A build with CUDA looks for a device on every machine, and calls it an error that there is none.
_NO_DEVICE = "GetDeviceCount failed"
# What torch says once where a pass whose memory is recorded frees what it had before: no figure of
# that pass counts on the block's size.
_EARLIER_BLOCK = re.compile(r"\[W.* CPUAllocator\.cpp:\d+\] Memory block of unknown size")


@contextlib.contextmanager
def kept_log(messages: list[str]) -> Iterator[None]:
    """Appends Kineto's warnings and errors to `messages`; what others write goes to stderr."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        saved = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, _STDERR)
            os.close(saved)
            file.seek(0)
            _sort(file.read().decode(errors="replace"), messages)


def _sort(text: str, messages: list[str]) -> None:
    for line in text.splitlines(keepends=True):
        if _EARLIER_BLOCK.match(line):
            continue
        match = _LINE.match(line)
        if match is None:
            with contextlib.suppress(OSError):  # nobody reads it
                os.write(_STDERR, line.encode())
        elif match["level"] not in _ROUTINE and _NO_DEVICE not in match["text"]:
            messages.append(f"{match['level']}: {match['text'].strip()}")
