"""Device events of one pass under the labels of another: where they are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from make.kineto import kernel, label, launch, split

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.views.report.two_passes import lay_under_labels

# Launches at 0, 100 and 200 ns of the traced pass, each event 10 ns after its launch.
TRACED = split(
    label("A", 0, 300),
    *(launch(n + 1, 100 * n, 100 * n + 5) for n in range(3)),
    *(kernel(n + 1, 100 * n + 10, 100 * n + 30) for n in range(3)),
)


def of_two_passes(launch_ns: list[int], start_ns: list[int], waits: str) -> Attribution:
    """The events as a device pass has them, under launches as a clock pass has them."""
    trace = TRACED.trace
    idle = np.zeros((3, len(IdleTimes._fields)), np.int64)
    idle[:, IdleTimes._fields.index(waits)] = 1
    return replace(
        TRACED,
        idle=idle,
        trace=replace(
            trace,
            launches=replace(trace.launches, start_ns=np.array(launch_ns)),
            device=replace(trace.device, start_ns=np.array(start_ns)),
        ),
    )


@pytest.mark.parametrize(
    ("launch_ns", "start_ns", "waits", "expected"),
    [
        pytest.param(
            [0, 50, 100], [10, 120, 230], "starved_ns", [10, 60, 110],
            id="each as long after its launch as in the traced pass",
        ),
        pytest.param(
            [0, 5, 10], [10, 120, 230], "queued_ns", [10, 120, 230],
            id="of a busy device as they lay",
        ),
        pytest.param(
            [0, 5, 300], [10, 120, 230], "queued_ns", [10, 120, 300],
            id="none before its launch",
        ),
        pytest.param(
            [0, 5, 10], [10, 120, 230], "starved_ns", [10, 30, 50],
            id="none before the one before it has ended",
        ),
    ],
)  # fmt: skip
def test_where_events_lie(
    launch_ns: list[int], start_ns: list[int], waits: str, expected: list[int]
) -> None:
    found = lay_under_labels(of_two_passes(launch_ns, start_ns, waits), TRACED, np.arange(3))
    assert found.trace.device.start_ns.tolist() == expected
    assert found.trace.device.dur_ns.tolist() == [20, 20, 20]


def test_those_between_lie_in_proportion() -> None:
    pair = of_two_passes([0, 10, 100], [10, 60, 210], "starved_ns")
    pair.idle[1] = 0
    found = lay_under_labels(pair, TRACED, np.arange(3))
    # A quarter of the way from the first to the last, as in the device pass.
    assert found.trace.device.start_ns.tolist() == [10, 35, 110]
