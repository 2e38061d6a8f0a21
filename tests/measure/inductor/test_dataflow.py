"""What an operation of Inductor's computes, on small graphs whose answer can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

from torch import fx  # noqa: E402

from qwen3_profile.measure.inductor import schedules  # noqa: E402
from qwen3_profile.measure.inductor.dataflow import computed_nodes  # noqa: E402
from qwen3_profile.measure.inductor.hooks import recorded  # noqa: E402
from qwen3_profile.measure.inductor.module_labels import ModuleLabels  # noqa: E402


class _Lowering:
    """As much of Inductor's `GraphLowering` as is asked: its nodes, its inputs and its buffers."""

    def __init__(self, **nodes: Sequence[str]) -> None:
        self.graph = fx.Graph()
        self.made: dict[str, fx.Node] = {}
        for name, inputs in nodes.items():
            given = tuple(self.made[each] for each in inputs)
            self.made[name] = (
                self.graph.call_function(torch.add, given, name=name)
                if inputs
                else self.graph.placeholder(name)
            )
        self.graph_inputs = {n.name for n in self.graph.nodes if n.op == "placeholder"}
        self.name_to_buffer: dict[str, Any] = {}

    def operation(
        self, writes: str, reads: Sequence[str], origins: Sequence[str], origin: str | None = None
    ) -> Any:
        """An operation that comes from `origins`; what it writes is a buffer from now on."""
        node = SimpleNamespace(
            origins=[self.made[each] for each in origins],
            get_origin_node=lambda: None if origin is None else self.made[origin],
        )
        self.name_to_buffer[writes] = node
        deps = [SimpleNamespace(name=each) for each in reads]
        return SimpleNamespace(node=node, read_writes=SimpleNamespace(reads=deps))


@pytest.fixture
def attention() -> _Lowering:
    """q = rope(norm(x)), k and v are caches made longer, m is a mask; and attention of them."""
    return _Lowering(
        x=(), k_cache=(), v_cache=(), position=(),
        mean=("x",), norm=("x", "mean"), rope=("norm",),
        long_k=("k_cache",), long_v=("v_cache",), mask=("position",),
        attention=("rope", "long_k", "long_v", "mask"),
    )  # fmt: skip


ALL = ("mean", "norm", "rope", "long_k", "long_v", "mask", "attention")


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        pytest.param(["k_cache"], {"long_k"}, id="the keys"),
        pytest.param(["v_cache"], {"long_v"}, id="the values"),
        pytest.param(["position"], {"mask"}, id="the mask"),
        pytest.param(["x"], {"mean", "norm", "rope"}, id="the query, from the start"),
        pytest.param(["x", "buf0"], {"norm", "rope"}, id="the query, from its mean"),
        pytest.param(["k_cache", "v_cache"], set(ALL), id="no input reads both: as listed"),
        pytest.param(["elsewhere"], set(ALL), id="a buffer that nobody knows: as listed"),
    ],
)
def test_an_input_of_attention_is_told_by_what_it_reads(
    attention: _Lowering, reads: list[str], expected: set[str]
) -> None:
    attention.operation("buf0", ["x"], ["mean"])
    operation = attention.operation("buf1", reads, ALL)
    assert set(computed_nodes(attention, [operation])) == expected


def test_what_is_read_is_not_computed_again(attention: _Lowering) -> None:
    mean = attention.operation("buf0", ["x"], ["mean"], origin="mean")
    norm = attention.operation("buf1", ["x", "buf0"], ["mean", "norm"], origin="norm")
    assert computed_nodes(attention, [mean]) == ["mean"]
    assert computed_nodes(attention, [norm]) == ["norm"]


def test_a_kernel_computes_what_its_operations_do(attention: _Lowering) -> None:
    mean = attention.operation("buf0", ["x"], ["mean"])
    norm = attention.operation("buf1", ["x", "buf0"], ["mean", "norm"])
    assert set(computed_nodes(attention, [mean, norm])) == {"mean", "norm"}


def test_two_inputs_that_read_the_same_are_not_told_apart() -> None:
    graph = _Lowering(x=(), a=("x",), b=("x",), both=("a", "b"))
    operation = graph.operation("buf0", ["x"], ["a", "b", "both"])
    # Both ways end at x, and so does the whole: all of it is computed.
    assert set(computed_nodes(graph, [operation])) == {"a", "b", "both"}
    graph = _Lowering(x=(), y=(), a=("x",), b=("x",), both=("a", "b", "y"))
    operation = graph.operation("buf0", ["x"], ["a", "b", "both"])
    assert set(computed_nodes(graph, [operation])) == {"a", "b", "both"}


def test_a_cache_that_is_written_in_place(attention: _Lowering) -> None:
    """Read before it is written, as a buffer of its own value."""
    graph = _Lowering(cache=(), x=(), scale=("x",), put=("cache", "scale"))
    operation = graph.operation("buf0", ["cache", "x"], ["scale", "put"])
    assert set(computed_nodes(graph, [operation])) == {"scale", "put"}
    again = graph.operation("buf1", ["buf0", "cache", "x"], ["scale", "put"])
    assert set(computed_nodes(graph, [again])) == {"scale", "put"}


def attend(x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """A query that is scaled, shared keys and values, and a mask."""
    keys, values = (each[:, :, None].expand(1, 2, 2, 8, 16).reshape(1, 4, 8, 16) for each in (k, v))
    mask = torch.where(torch.arange(8) <= at, 0.0, -torch.inf)[None, None, None]
    return torch.nn.functional.scaled_dot_product_attention(x.sin(), keys, values, mask)


def test_what_inductor_lists_for_all_inputs_is_told_apart() -> None:
    """Inductor says of each of the four that it comes from all that attention comes from."""
    from torch._inductor.async_compile import AsyncCompile

    seen: dict[str, set[str]] = {}
    listed: dict[str, set[str]] = {}

    def see(graph: Any, operations: Sequence[Any]) -> list[str]:
        for each in operations:
            ops = {n.name: str(n.target) for n in each.node.origins}
            listed[each.get_name()] = set(ops.values())
            seen[each.get_name()] = {ops[name] for name in computed_nodes(graph, [each])}
        return computed_nodes(graph, operations)

    tensors = (torch.ones(1, 4, 1, 16), *torch.ones(2, 1, 2, 8, 16), torch.tensor([3]))
    torch._dynamo.reset()
    never_built = mock.patch.object(AsyncCompile, "cpp_pybinding", return_value=lambda *_: None)
    watched = mock.patch.object(schedules, "computed_nodes", see)
    with never_built, watched, recorded(ModuleLabels({"": ""}, {}), ""), torch.inference_mode():
        torch.compile(attend, dynamic=False)(*tensors)
    torch._dynamo.reset()
    assert sum("aten.sin.default" in ops for ops in listed.values()) == 4
    found = [
        {op.split(".")[1] for op in ops} & {"sin", "clone", "where", "le"} for ops in seen.values()
    ]
    assert sorted(map(sorted, found)) == [["clone"], ["clone"], ["le", "where"], ["sin"]]
