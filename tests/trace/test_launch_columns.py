"""What kernels and launches say of themselves stands with the right event of a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from make.kineto import document, host, kernel, launch, memset, write

from qwen3_profile.trace import Trace, read_trace
from qwen3_profile.trace.columns import LaunchConfig


def trace_of(tmp_path: Path, *events: str) -> Trace:
    path = write(tmp_path / "t.json", document(*events))
    return read_trace(path, launch_columns=True)


def device_configs(trace: Trace) -> list[LaunchConfig]:
    return trace.configs_of(trace.device)


def test_configs_are_in_the_order_of_the_trace(tmp_path: Path) -> None:
    found = trace_of(
        tmp_path,
        kernel(2, 50, 60, grid=[2, 1, 1], block=[64, 1, 1]),
        kernel(1, 20, 30, grid=[1, 1, 1], block=[32, 1, 1], **{"graph node id": 7}),
        launch(1, 10, 12),
        launch(2, 13, 15),
        memset(3, 70, 80),
    )
    assert device_configs(found) == [
        LaunchConfig((1, 1, 1), (32, 1, 1), 7),
        LaunchConfig((2, 1, 1), (64, 1, 1)),
        LaunchConfig(),
    ]
    assert found.configs_of(found.launches) == [LaunchConfig(), LaunchConfig()]


def test_launches_of_hip_name_their_kernel(tmp_path: Path) -> None:
    shape = {"kernel": "gemm", "grid": [4, 1, 1], "block": [256, 1, 1]}
    found = trace_of(
        tmp_path, host("cuda_runtime", "hipLaunchKernel", 1, 3, correlation=9, **shape)
    )
    assert found.configs_of(found.launches) == [LaunchConfig((4, 1, 1), (256, 1, 1), 0, "gemm")]


def test_kernels_of_one_graph_share_their_launch(tmp_path: Path) -> None:
    """And those that begin together have each their own."""
    found = trace_of(
        tmp_path,
        launch(1, 1, 2),
        *(kernel(1, 10, 20, stream=s, name=f"k{s}", grid=[s, 1, 1]) for s in (8, 7)),
        kernel(1, 30, 40, name="k7", grid=[9, 1, 1]),
    )
    names = [found.names[name] for name in found.device.name.tolist()]
    grids = [config.grid for config in device_configs(found)]
    assert sorted(zip(names, grids, strict=True)) == [
        ("k7", (7, 1, 1)), ("k7", (9, 1, 1)), ("k8", (8, 1, 1)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({"grid": "wide"}, id="a text"),
        pytest.param({"grid": [1.5]}, id="fractions"),
        pytest.param({"graph node id": "seven"}, id="id as a text"),
        pytest.param({"kernel": 7}, id="kernel as a number"),
    ],
)
def test_of_odd_args_nothing_is_known(tmp_path: Path, args: dict[str, object]) -> None:
    assert device_configs(trace_of(tmp_path, kernel(1, 10, 20, **args))) == [LaunchConfig()]


def test_without_a_correlation_nothing_is_known(tmp_path: Path) -> None:
    found = trace_of(tmp_path, kernel(None, 1, 2, grid=[1, 1, 1]))
    assert device_configs(found) == [LaunchConfig()]


def test_of_a_file_that_is_cut_off_whole_events_are_known(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", document(kernel(1, 10, 20, grid=[1, 1, 1])))
    path.write_bytes(path.read_bytes()[:-1])
    trace = read_trace(path, accept_damaged=True, launch_columns=True)
    assert device_configs(trace) == [LaunchConfig((1, 1, 1))]


def test_who_did_not_ask_for_them_is_told(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "t.json", document(kernel(1, 10, 20, grid=[1, 1, 1]))))
    assert trace.device.launch_config is None
    with pytest.raises(ValueError, match="without its launch columns"):
        trace.configs_of(trace.device)
