"""What an operator has to move, against sums that can be done by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from qwen3_profile.measure.op_bytes import op_bytes, op_name, region_bytes

F32, I64 = 4, 8
x = torch.zeros(4, 8)  # 128 bytes
row = torch.zeros(8)
table = torch.zeros(100, 8)
cache = torch.zeros(2, 16, 8)
ids = torch.tensor([5, 5, 7])
flags = torch.zeros(4, 8, dtype=torch.bool)
ones, one = torch.ones(2, 3, 8), torch.ones(())
sparse = x.to_sparse()


class Seen(TorchDispatchMode):
    """What reaches the device, and its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[tuple[str, int | None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.ops.append((op_name(func), op_bytes(func, args, kwargs or {}, out)))
        return out


def moved(call: Callable[[], object]) -> int | None:
    """The bytes of the one operator in `call` that moves any."""
    with Seen() as seen:
        call()
    found = [size for _, size in seen.ops if size != 0]
    assert len(found) <= 1, seen.ops
    return found[0] if found else 0


aten = torch.ops.aten


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda: aten.mm(x, table[:, :].t()), F32 * (4 * 8 + 8 * 100 + 4 * 100),
                     id="a-weight-once"),
        pytest.param(lambda: aten.add(x, x), F32 * 2 * 32, id="one-operand-twice-is-one"),
        pytest.param(lambda: aten.add(x, row), F32 * (32 + 8 + 32), id="a-broadcast-row"),
        pytest.param(lambda: aten.add(x, row.expand(4, 8)), F32 * (32 + 8 + 32), id="expanded"),
        pytest.param(lambda: aten.add(x[:, :2], 1), F32 * (8 + 8), id="a-slice"),
        pytest.param(lambda: aten.add_(x, row), F32 * (32 + 8 + 32), id="in-place"),
        pytest.param(lambda: aten.fill_(x, 0), F32 * 32, id="filled-and-not-read"),
        pytest.param(lambda: aten.copy_(x, row), F32 * (8 + 32), id="copied-and-not-read"),
        pytest.param(lambda: aten.gt(x, 0), F32 * 32 + 32, id="an-output-of-another-type"),
        pytest.param(lambda: aten.where(flags, x, row), 32 + F32 * (32 + 8 + 32), id="where"),
        pytest.param(lambda: aten.cat([x, x[:2]]), F32 * (32 + 16 + 48), id="a-list"),
        pytest.param(lambda: aten.argmax(x, 1, out=torch.empty(4, dtype=torch.int64)),
                     F32 * 32 + I64 * 4, id="out"),
        pytest.param(lambda: aten._to_copy(x, dtype=torch.bfloat16), F32 * 32 + 2 * 32, id="cast"),
        pytest.param(lambda: aten.arange(6), I64 * 6, id="made-of-nothing"),
        pytest.param(lambda: aten.zeros_like(x), F32 * 32, id="like-another"),
        pytest.param(lambda: aten.embedding(table, ids), I64 * 3 + F32 * (24 + 24), id="embedding"),
        pytest.param(lambda: aten.index(table, [ids]), I64 * 3 + F32 * (24 + 24), id="gather"),
        pytest.param(lambda: aten.index_select(table, 0, ids), I64 * 3 + F32 * 48, id="select"),
        pytest.param(lambda: aten.index_copy_(cache, 1, ids[:1], ones[:, :1]),
                     I64 + F32 * (16 + 16), id="written-into-a-cache"),
        pytest.param(lambda: aten.index_add_(table, 0, ids, ones[0]),
                     I64 * 3 + F32 * 3 * 24, id="added-into-a-table"),
        pytest.param(lambda: aten.index_put_(cache, [None, ids], ones),
                     I64 * 3 + F32 * (48 + 48), id="put"),
        pytest.param(lambda: aten.index_put_(table, [ids], one, True),
                     I64 * 3 + F32 * (24 + 1 + 24), id="put-and-accumulated"),
        pytest.param(lambda: aten.index_put_(x, [flags], one), None, id="by-a-mask"),
        pytest.param(lambda: aten.view(x, (32,)), 0, id="view"),
        pytest.param(lambda: aten.split(x, 2), 0, id="views"),
        pytest.param(lambda: aten._unsafe_view(x, (32,)), 0, id="a-view-that-says-it-is-none"),
        pytest.param(lambda: aten.empty_like(x), 0, id="empty"),
        pytest.param(lambda: aten.slice(x, 1, 0, 2), 0, id="slice"),
        pytest.param(lambda: aten.add(sparse, sparse), None, id="sparse"),
    ],
)  # fmt: skip
def test_bytes(call: Callable[[], object], expected: int | None) -> None:
    if expected is None:
        with Seen() as seen:
            call()
        assert None in [size for _, size in seen.ops]
    else:
        assert moved(call) == expected


def test_attention_reads_the_heads_that_there_are() -> None:
    """Grouped queries share keys and values, which are not repeated."""
    q, kv = torch.zeros(1, 4, 3, 8), torch.zeros(1, 2, 5, 8)
    with Seen() as seen, torch.inference_mode():
        k, v = kv.clone(), kv.clone()
        seen.ops.clear()
        aten._scaled_dot_product_flash_attention_for_cpu(q, k.expand_as(k), v)
    logsumexp = F32 * 4 * 3
    expected = F32 * (2 * q.numel() + k.numel() + v.numel()) + logsumexp
    assert [size for name, size in seen.ops if "attention" in name] == [expected]


def test_a_grouped_product_reads_the_weights_of_groups_with_rows() -> None:
    weights, rows = torch.zeros(4, 8, 6), torch.zeros(5, 8)
    ends = torch.tensor([2, 2, 5, 5], dtype=torch.int32)
    out = torch.zeros(5, 6)
    func = aten._grouped_mm.default
    found = op_bytes(func, (rows, weights), {"offs": ends}, out)
    assert found == F32 * (5 * 8 + 2 * 8 * 6 + 5 * 6) + 4 * 4
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(each) for each in (rows, weights, ends, out)]
    assert op_bytes(func, (fake[0], fake[1]), {"offs": fake[2]}, fake[3]) is None


def test_fake_tensors_say_the_same() -> None:
    with FakeTensorMode() as mode:
        a, b = mode.from_tensor(x), mode.from_tensor(table).t()
        out = aten.mm(a, b)
    expected = F32 * (4 * 8 + 8 * 100 + 4 * 100)
    assert op_bytes(aten.mm.default, (a, b), {}, out) == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=4))
def test_a_region_has_the_elements_that_are_addressed(dims: list[tuple[int, bool]]) -> None:
    """Of any shape, dimensions being expanded or not, in a storage with holes."""
    base = torch.zeros([2 * (1 if expanded else size) or 1 for size, expanded in dims])
    for at, (size, expanded) in enumerate(dims):
        base = base.narrow(at, 0, 1 if expanded else size)
    tensor = base.expand([size for size, _ in dims])
    addresses = {
        sum(i * s for i, s in zip(index, tensor.stride(), strict=True))
        for index in torch.cartesian_prod(*(torch.arange(n) for n in tensor.shape)).reshape(
            -1, tensor.dim()
        ).tolist()
    } if tensor.numel() else set()  # fmt: skip
    assert region_bytes(tensor) == F32 * len(addresses)
