"""What kernels and launches say of themselves is put beside the right event of a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from make.kineto import document, host, kernel, launch, memset, write

from qwen3_profile.errors import TraceError
from qwen3_profile.trace import read_trace
from qwen3_profile.trace.launch_args import Geometry, Shape, event_names, read_geometry


def geometry(tmp_path: Path, *events: str) -> Geometry:
    path = write(tmp_path / "t.json", document(*events))
    return read_geometry(path, read_trace(path))


def test_shapes_are_in_the_order_of_the_trace(tmp_path: Path) -> None:
    found = geometry(
        tmp_path,
        kernel(2, 50, 60, grid=[2, 1, 1], block=[64, 1, 1]),
        kernel(1, 20, 30, grid=[1, 1, 1], block=[32, 1, 1], **{"graph node id": 7}),
        launch(1, 10, 12),
        launch(2, 13, 15),
        memset(3, 70, 80),
    )
    assert found.device == (
        Shape((1, 1, 1), (32, 1, 1), 7), Shape((2, 1, 1), (64, 1, 1)), Shape(),
    )  # fmt: skip
    assert found.launches == (Shape(), Shape())


def test_launches_of_hip_name_their_kernel(tmp_path: Path) -> None:
    shape = {"kernel": "gemm", "grid": [4, 1, 1], "block": [256, 1, 1]}
    found = geometry(
        tmp_path, host("cuda_runtime", "hipLaunchKernel", 1, 3, correlation=9, **shape)
    )
    assert found.launches == (Shape((4, 1, 1), (256, 1, 1), 0, "gemm"),)


def test_kernels_of_one_graph_share_their_launch(tmp_path: Path) -> None:
    """And those that begin together have each their own, told apart by their names."""
    found = geometry(
        tmp_path,
        launch(1, 1, 2),
        *(kernel(1, 10, 20, stream=s, name=f"k{s}", grid=[s, 1, 1]) for s in (7, 8)),
        kernel(1, 30, 40, name="k7", grid=[9, 1, 1]),
    )
    assert [shape.grid for shape in found.device] == [(7, 1, 1), (8, 1, 1), (9, 1, 1)]


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
    assert geometry(tmp_path, kernel(1, 10, 20, **args)).device == (Shape(),)


def test_of_a_file_that_is_cut_off_nothing_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", document(kernel(1, 10, 20, grid=[1, 1, 1])))
    trace = read_trace(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert read_geometry(path, trace).device == (Shape(),)


def test_names_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json.gz", document(kernel(1, 10, 20, name="a"), launch(1, 2, 3)))
    assert event_names(path) == {"a", "cudaLaunchKernel"}
    assert event_names(write(tmp_path / "l.json", b'[{"name": "b"}]')) == {"b"}
    assert event_names(write(tmp_path / "x.json", b"{")) == frozenset()


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", document(kernel(1, 10, 20)))
    trace = read_trace(path)
    path.unlink()
    with pytest.raises(TraceError, match="cannot be read"):
        read_geometry(path, trace)
