"""What is written to stderr while a session runs: shown, kept, or neither."""

from __future__ import annotations

import os

import pytest

from qwen3_profile.measure.profiler_log import kept_log

_AT = "2026-11-23 22:59:27 6475:6475"


@pytest.mark.parametrize(
    ("line", "shown", "kept"),
    [
        ("a line of the user's model", True, []),
        (f"USDT:{_AT} SyncActivityProfilerHandler.cpp:52] profiler_start", False, []),
        (
            f"WARNING:{_AT} CuptiActivityApi.cpp:9] dropped 7 records",
            False,
            ["WARNING: CuptiActivityApi.cpp:9] dropped 7 records"],
        ),
        (f"ERROR:{_AT} init.cpp:1] GetDeviceCount failed", False, []),
        (
            "[W1130 04:42:26.331741108 CPUAllocator.cpp:245] Memory block of unknown size was "
            "allocated before the profiling started, profiler results will not include the "
            "deallocation event (function operator())",
            False,
            [],
        ),
    ],
    ids=["others", "routine", "warning", "no device", "earlier block"],
)
def test_a_line(line: str, shown: bool, kept: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    messages: list[str] = []
    with kept_log(messages):
        os.write(2, f"{line}\n".encode())
    assert capfd.readouterr().err == (f"{line}\n" if shown else "")
    assert messages == kept
