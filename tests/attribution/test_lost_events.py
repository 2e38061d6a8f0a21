"""Launches without device events: of each kind, of each backend, and what is none."""

from __future__ import annotations

import pytest
from make.kineto import event, host, kernel, label, launch, memcpy, split, us
from make.paths import DATA

from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import NOTE, WARNING, Finding
from qwen3_profile.attribution.lost_events import lost_launches
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.trace import read_trace
from qwen3_profile.views.terminal.ledger import render_ledger


def lost(*events: str) -> list[Finding]:
    return [f for f in check_trace(split(*events)) if f.code == "launch-without-event"]


def call(name: str, correlation: int, start: int, end: int, cat: str = "cuda_runtime") -> str:
    return host(cat, name, start, end, correlation=correlation)


KERNELS = [
    "cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx",
    "cudaLaunchCooperativeKernel", "hipLaunchKernel", "hipExtLaunchKernel",
    "hipModuleLaunchKernel", "hipExtModuleLaunchKernel", "urEnqueueKernelLaunch",
    "zeCommandListAppendLaunchKernel",
]  # fmt: skip
GRAPHS = ["cudaGraphLaunch", "cuGraphLaunch", "hipGraphLaunch", "urCommandBufferEnqueueExp"]
COPIES = [
    "cudaMemcpyAsync", "cuMemcpyHtoDAsync_v2", "hipMemcpyAsync", "hipMemcpyWithStream",
    "urEnqueueUSMMemcpy", "zeCommandListAppendMemoryCopy",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "kernels") for name in KERNELS),
        *((name, "graphs") for name in GRAPHS),
        *((name, "copies") for name in COPIES),
    ],
)
@pytest.mark.parametrize("seen", [0, 1])
def test_every_kind_of_launch(name: str, kind: str, seen: int) -> None:
    calls = [call(name, i, 10 * i, 10 * i + 5) for i in range(1, 5)]
    (finding,) = lost(*calls, *(kernel(i, 100, 110) for i in range(1, 1 + seen)))
    assert finding.severity == WARNING
    assert (finding.count, finding.example) == (4 - seen, name)
    assert finding.message.startswith(f"{4 - seen} of 4 launches of {kind} have no device event")
    assert f"({(4 - seen) / 4:.1%})" in finding.message
    assert ("no run on the CPU" in finding.message) == (not seen)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(
            [call("cudaDeviceSynchronize", 1, 0, 9), call("cudaMalloc", 2, 10, 19),
             call("cudaStreamIsCapturing", 3, 20, 29), call("hipGraphInstantiate", 4, 30, 39)],
            id="calls that put no work on the device",
        ),
        pytest.param(
            [launch(1, 0, 20), call("cuLaunchKernelEx", 2, 5, 15, "cuda_driver"),
             kernel(2, 30, 40)],
            id="the driver's call inside has the event",
        ),
        pytest.param(
            [call("urEnqueueKernelLaunch", 1, 0, 20, "xpu_runtime"), kernel(1, 30, 40),
             call("zeCommandListAppendLaunchKernel", 2, 5, 15, "xpu_driver")],
            id="the runtime's call around has the event",
        ),
        pytest.param(
            [launch(7, 0, 5), launch(8, 10, 15), kernel(None, 20, 30, name="rccl"),
             kernel(None, 40, 50, name="rccl")],
            id="as many kernels without an id",
        ),
        pytest.param(
            [event("cuda_runtime", "cudaLaunchKernel", 1, 1, us(5), us(2)), kernel(1, 5, 6)],
            id="a launch without an id may be that of any",
        ),
    ],
)  # fmt: skip
def test_what_is_not_lost(events: list[str]) -> None:
    assert lost(*events) == []


def test_a_fill_may_fill_nothing() -> None:
    found = lost(call("cudaMemsetAsync", 1, 0, 9), launch(2, 20, 29), kernel(2, 50, 51))
    assert [each.severity for each in found] == [NOTE]


def test_a_capture_records_launches_but_replays_of_it_can_be_lost() -> None:
    found = split(
        call("cudaStreamBeginCapture", 1, 0, 5), launch(2, 10, 15),
        call("cudaStreamEndCapture", 3, 20, 25), call("cudaGraphLaunch", 4, 30, 35),
        call("cudaMemcpyAsync", 5, 40, 45), memcpy(5, 50, 60),
    )  # fmt: skip
    told = {f.example: f.severity for f in check_trace(found) if f.code == "launch-without-event"}
    assert told == {"cudaLaunchKernel": NOTE, "cudaGraphLaunch": WARNING}
    assert [found.trace.names[found.trace.launches.name[i]] for i in lost_launches(found)] == [
        "cudaGraphLaunch"
    ]


def test_a_trace_that_lost_everything_is_no_run_on_the_cpu() -> None:
    (finding,) = lost(label("prefill", 0, 90), launch(1, 10, 15), launch(2, 20, 25))
    assert "2 of 2 launches of kernels have no device event (100.0%)" in finding.message


@pytest.mark.parametrize("name", ["lost_hip_graph", "lost_cuda_graph"])
def test_three_of_four_graphs(name: str) -> None:
    ledger = make_ledger(read_trace(DATA / "cases" / name / "trace.json"))
    (finding,) = [f for f in ledger.findings if f.severity == WARNING]
    assert finding.message.startswith("3 of 4 launches of graphs have no device event (75.0%)")
    assert ledger.times.lost_launches == 3
    (whole,) = ledger.whole_calls.values()
    assert (whole.calls, whole.lost, whole.mean_ns) == (4, 3, 642_000)
    (row,) = ledger.to_json()["rows"]
    assert (row["calls"], row["calls_lost"], row["device_mean_ns"]) == (4, 3, 642_000)
    assert "mean device time 0.642 ms, over the 1 of 4 calls" in render_ledger(ledger)
