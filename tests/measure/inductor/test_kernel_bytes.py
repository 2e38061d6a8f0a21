"""What the kernels that Inductor makes have to move, against sums that can be done by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_profile.measure.count_bytes import count_pass
from qwen3_profile.measure.inductor import kernel_bytes, schedules
from qwen3_profile.measure.inductor.hooks import recorded
from qwen3_profile.measure.inductor.module_labels import ModuleLabels
from qwen3_profile.run_folder.provenance import Kernel

F32, I64 = 4, 8
x, y = torch.ones(4, 64), torch.ones(4, 64)
row, weight = torch.ones(64), torch.ones(64, 32)
ids, table = torch.tensor([1, 2, 2]), torch.ones(100, 64)
X = F32 * 4 * 64


@pytest.fixture(scope="module", autouse=True)
def without_compiler() -> Iterator[None]:
    """Kernels are made and never built: their code does nothing."""
    from torch._inductor.async_compile import AsyncCompile

    def nothing(*_: Any, **__: Any) -> Callable[..., None]:
        return lambda *_: None

    with mock.patch.object(AsyncCompile, "cpp_pybinding", nothing):
        yield
    torch._dynamo.reset()


def compiled(function: Callable[..., Any], *args: torch.Tensor) -> tuple[Kernel, ...]:
    torch._dynamo.reset()
    with recorded(ModuleLabels({"": ""}, {}), "") as found, torch.inference_mode():
        torch.compile(function, dynamic=False)(*args)
    (graph,) = found.graphs.values()
    return graph.kernels


def rms_norm(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def into_cache(cache: torch.Tensor, place: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    return cache.index_copy_(1, place, new) * 2


def rotated(x: torch.Tensor, cos: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1)


CACHE, NEW = torch.ones(2, 16, 8), torch.ones(2, 1, 8)


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        pytest.param(lambda a, b: torch.relu(a) * b + a, (x, y), [3 * X],
                     id="what-is-made-inside-is-no-operand"),
        pytest.param(lambda a: torch.softmax(a, -1), (x,), [2 * X + 2 * F32 * 4],
                     id="nor-what-a-kernel-keeps-to-itself"),
        pytest.param(lambda a, b: a + b, (x, row), [2 * X + F32 * 64], id="a-broadcast-row"),
        pytest.param(lambda a: a[:, :8] + a[:, 8:16], (x,), [3 * F32 * 4 * 8], id="two-slices"),
        pytest.param(lambda a: a.t() + 1, (x,), [2 * X], id="transposed"),
        pytest.param(rms_norm, (x, row), [2 * X + F32 * 64 + F32 * 4], id="rms-norm"),
        pytest.param(rotated, (x, row), [3 * X + F32 * 64], id="a-concatenation-is-made-once"),
        pytest.param(lambda t, i, w: t[i] * w, (table, ids, row),
                     [I64 * 3 + F32 * (3 * 64 + 64 + 3 * 64)], id="a-gather"),
        pytest.param(lambda c, i, n: c.index_copy_(1, i, n), (CACHE, ids[:1], NEW),
                     [I64 + 2 * F32 * 16], id="written-into-a-cache"),
        pytest.param(into_cache, (CACHE, ids[:1], NEW), [I64 + 2 * F32 * 16 + F32 * (240 + 256)],
                     id="and-the-rest-of-it-read"),
        pytest.param(lambda a, w: torch.relu(a @ w), (x, weight),
                     [X + F32 * (64 * 32 + 4 * 32), 2 * F32 * 4 * 32], id="a-library-s-product"),
    ],
)  # fmt: skip
def test_bytes(function: Callable[..., Any], args: tuple[Any, ...], expected: list[int]) -> None:
    assert [kernel.bytes for kernel in compiled(function, *args)] == expected


def test_a_schedule_that_is_not_seen_moves_nobody_knows_what() -> None:
    with mock.patch.object(schedules, "_NUMBERING", "no_such_function"):
        (made,) = compiled(lambda a: torch.relu(a) + 1, x)
    assert made.bytes is None


def test_an_inside_that_is_another_does_not_stop_a_compilation() -> None:
    with mock.patch.object(kernel_bytes, "_elements", side_effect=ZeroDivisionError):
        product, made = compiled(lambda a, w: torch.relu(a @ w), x, weight)
    assert (product.bytes is None, made.bytes) == (False, None)


def test_nothing_of_torch_is_left_changed() -> None:
    from torch._inductor import debug
    from torch._inductor.codegen import cpp

    compiled(lambda a: a + 1, x)
    original = debug.set_kernel_post_grad_provenance_tracing
    assert original.__module__ == debug.__name__
    assert cpp.set_kernel_post_grad_provenance_tracing is original


STEPS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "relu": lambda a, _: torch.relu(a),
    "scale": lambda a, _: a * 3,
    "add": lambda a, b: a + b,
    "cast": lambda a, _: a.to(torch.bfloat16).float(),
    "row": lambda a, b: a * b[:1],
    "mean": lambda a, _: a - a.mean(-1, keepdim=True),
}


@settings(max_examples=15)
@given(st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=6), st.integers(2, 9))
def test_fusion_never_moves_more(names: list[str], rows: int) -> None:
    """And never less than the input and the result."""
    a, b = torch.ones(rows, 16), torch.ones(rows, 16)

    def chain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        for name in names:
            a = STEPS[name](a, b)
        return a

    fused = sum(kernel.bytes or 0 for kernel in compiled(chain, a, b))
    eager = count_pass(lambda: chain(a, b)).total.bytes
    assert eager is not None
    assert 2 * F32 * a.numel() <= fused <= eager
