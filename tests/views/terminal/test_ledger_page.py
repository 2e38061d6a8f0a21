"""The page of a ledger: units, times of a scope itself, kernels by short names, suggestions."""

from __future__ import annotations

from make.kineto import host, kernel, label, launch, read

from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.views.terminal.ledger import render_ledger

MODULE = host("python_function", "nn.Module: Linear_0", 12, 40)
GRAPH = host("cuda_runtime", "cudaGraphLaunch", 20, 22, correlation=2)
EVENTS = (
    label("outer", 0, 90),
    label("inner", 10, 50),
    launch(1, 2, 4),
    kernel(1, 5, 1005),
    launch(2, 20, 22),
    kernel(2, 4005, 6005),
)


def rows(page: str) -> list[list[str]]:
    return [line.split() for line in page.splitlines()]


def test_a_row_is_of_the_scope_itself_and_has_its_unit() -> None:
    found = rows(render_ledger(make_ledger(read(*EVENTS))))
    assert ["scope", "calls", "cpu", "ms", "device", "ms", "share", "idle", "ms"] in found
    outer, inner = (next(row for row in found if row[:1] == [name]) for name in
                    ("outer", "outer/inner"))  # fmt: skip
    assert (outer[3], inner[3]) == ("0.001", "0.002")
    # What was waited for inside is in the row of what is inside alone.
    assert outer[5] != inner[5] == "0.003"


def test_kernels_have_short_names_and_times_their_unit() -> None:
    functor = "at::native::vectorized_elementwise_kernel<4, at::native::{}<float> >(int)"
    events = [
        label("outer", 0, 90),
        *(launch(i, 2 * i, 2 * i + 1) for i in (1, 2)),
        kernel(1, 5, 1005, name=f"void {functor.format('CUDAFunctor_add')}"),
        kernel(2, 1005, 1505, name=f"void {functor.format('AbsFunctor')}"),
    ]
    found = rows(render_ledger(make_ledger(read(*events), kernels=True)))
    assert ["kernel", "in", "events", "device", "ms", "share"] in found
    short = [row[0] for row in found if row[1:2] == ["outer"] and row[0] != "before"]
    assert short == ["vectorized_element...l<CUDAFunctor_add>",
                     "vectorized_element...kernel<AbsFunctor>"]  # fmt: skip


def test_what_would_say_more_is_suggested() -> None:
    def page(*events: str, scopes: str = "labels") -> str:
        return " ".join(render_ledger(make_ledger(read(*events), scopes)).split())

    assert "note:" not in page(*EVENTS)
    assert "--scopes modules tells" in page(*EVENTS, MODULE)
    assert "--scopes" not in page(*EVENTS, MODULE, scopes="both")
    assert "--scopes" not in page(*EVENTS, MODULE, label("layer.0.attn", 60, 70))
    replayed = [each for each in EVENTS if each != launch(2, 20, 22)]
    assert "--capture FILE gives them" in page(*replayed, GRAPH)
    assert "--capture" not in page(*EVENTS)
