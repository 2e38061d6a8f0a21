"""Kernel calls in a trace against what was compiled: one to one and in order, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.compiled import LAYERS, graph, region, region_end
from make.kineto import cpu_op, read
from make.paths import OWN

from qwen3_profile.passes.compiled.match import GraphCall, match_kernels
from qwen3_profile.run_folder.provenance import CompiledGraph, Kernel
from qwen3_profile.trace import Trace, read_trace
from qwen3_profile.trace.columns import Category

NAMES = [kernel.name for kernel in LAYERS.kernels]


def match(names: list[str], compiled: CompiledGraph = LAYERS) -> GraphCall:
    (found,) = match_kernels(read(*region("0/0", 100, names)), [compiled])
    return found


def called(trace: Trace, found: GraphCall) -> list[str]:
    return [trace.names[trace.host.name[call.event]] for call in found.calls]


def test_every_call_is_its_kernel() -> None:
    trace = read(*region("0/0", 100, NAMES))
    (found,) = match_kernels(trace, [LAYERS])
    assert found.refusal == ""
    assert called(trace, found) == NAMES
    assert [call.kernel for call in found.calls] == list(LAYERS.kernels)
    starts = trace.host.start_ns[[call.event for call in found.calls]].tolist()
    assert starts == [120 + 60 * i for i in range(len(NAMES))]


def test_each_call_of_each_graph_is_matched_with_its_own() -> None:
    other = graph("0/1", ("aten::mm", {"lm_head": 1}))
    second, third = region_end(0, len(NAMES)) + 5, 2000
    events = [
        *region("0/0", 0, NAMES),
        *region("0/1", second, ["aten::mm"], first_id=50),
        *region("0/0", third, NAMES, first_id=70),
    ]
    found = match_kernels(read(*events), [LAYERS, other])
    assert [(each.region, len(each.calls), each.refusal) for each in found] == [
        ("0/0", 6, ""), ("0/1", 1, ""), ("0/0", 6, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "graph_0_", "graph_17_"])
def test_cpp_kernels_are_numbered_anew_in_each_process(prefix: str) -> None:
    compiled = graph("0/0", ("cpp_fused_add_0", {"norm": 1}))
    assert match([f"{prefix}cpp_fused_add_0"], compiled).refusal == ""


def test_older_torch_wrote_the_ranges_as_annotations() -> None:
    region_range, _, graph_range, *calls = region("0/0", 100, NAMES)
    ranges = [each.replace("cpu_op", "user_annotation") for each in (region_range, graph_range)]
    (found,) = match_kernels(read(*ranges, *calls), [LAYERS])
    assert (len(found.calls), found.refusal) == (6, "")


def test_what_lies_inside_a_call_or_beside_the_graph_is_no_call() -> None:
    events = [
        *region("0/0", 100, NAMES),
        cpu_op("aten::argmax", 900, 950),
        cpu_op("aten::mm", 10, 50),
    ]
    (found,) = match_kernels(read(*events), [LAYERS])
    assert len(found.calls) == 6


def test_buffers_that_are_made_between_the_kernels_are_none() -> None:
    assert match(["aten::empty_strided", *NAMES[:3], "aten::as_strided", *NAMES[3:]]).refusal == ""


@pytest.mark.parametrize(
    ("names", "told"),
    [
        pytest.param(
            [*NAMES[:2], "triton_other", *NAMES[3:]],
            "region 0/0: call 2 is triton_other, where triton_rope was compiled",
            id="another-name",
        ),
        pytest.param(
            NAMES[:-1], "region 0/0: has 5 kernel calls, where 6 were compiled", id="too-few"
        ),
        pytest.param(
            [*NAMES, "aten::mm"],
            "region 0/0: has 7 kernel calls, where 6 were compiled",
            id="too-many",
        ),
        pytest.param(
            [], "region 0/0: has 0 kernel calls, where 6 were compiled", id="a-graph-replay"
        ),
        pytest.param(
            [NAMES[1], NAMES[0], *NAMES[2:]],
            "region 0/0: call 0 is aten::mm, where triton_norm was compiled",
            id="shuffled",
        ),
    ],
)
def test_the_first_difference_is_told(names: list[str], told: str) -> None:
    found = match(names)
    assert found.refusal == told
    assert found.calls == ()


def test_a_graph_that_nobody_saw_compiled_is_refused() -> None:
    (found,) = match_kernels(read(*region("3/1", 0, NAMES)), [LAYERS])
    assert found.refusal == "region 3/1 was compiled when nobody watched"


def test_a_trace_without_graphs_has_no_calls() -> None:
    assert match_kernels(read(cpu_op("aten::mm", 0, 10)), [LAYERS]) == ()


def _shuffle(names: list[str], i: int, j: int) -> list[str]:
    names[i], names[j] = names[j], names[i]
    return names


def _drop(names: list[str], i: int, _: int) -> list[str]:
    return names[:i] + names[i + 1 :]


def _insert(names: list[str], i: int, j: int) -> list[str]:
    return [*names[:i], names[j], *names[i:]]


_KERNELS = st.lists(st.sampled_from(["triton_a", "triton_b", "aten::mm", "aten::bmm"]), min_size=1)


@settings(max_examples=50)
@given(_KERNELS, st.sampled_from([_shuffle, _drop, _insert]), st.data())
def test_no_other_sequence_is_ever_matched(
    names: list[str], change: Callable[[list[str], int, int], list[str]], data: st.DataObject
) -> None:
    """Kernels of one name in another order look alike, and are the same calls."""
    places = st.integers(0, len(names) - 1)
    other = change(list(names), data.draw(places), data.draw(places))
    compiled = CompiledGraph("0/0", tuple(Kernel(name, ()) for name in names))
    trace = read(*region("0/0", 100, other))
    (found,) = match_kernels(trace, [compiled])
    if other == names:
        assert called(trace, found) == names
        assert [call.kernel.name for call in found.calls] == names
    else:
        assert found.refusal
        assert found.calls == ()


@pytest.mark.skipif(not OWN.is_dir(), reason="the recorded traces are not here")
def test_the_calls_of_a_real_trace_repeat_from_pass_to_pass() -> None:
    """What one pass on an H100 called stands for its provenance, which was not kept."""
    trace = read_trace(OWN / "qwen3-0.6b_4layers_compiled_b2_l256.json.gz")
    unknown = match_kernels(trace, [])
    assert [each.region for each in unknown] == ["0/0"] * 3
    calls = [_children(trace, each.event) for each in unknown]
    assert calls[0] == calls[1] == calls[2]
    compiled = CompiledGraph("0/0", tuple(Kernel(name, ()) for name in calls[0]))
    found = match_kernels(trace, [compiled])
    assert [(len(each.calls), each.refusal) for each in found] == [(len(calls[0]), "")] * 3
    assert sum(name.startswith("triton_") for name in calls[0]) > 30
    swapped = [calls[0][1], calls[0][0], *calls[0][2:]]
    wrong = CompiledGraph("0/0", tuple(Kernel(name, ()) for name in swapped))
    assert all(each.refusal for each in match_kernels(trace, [wrong]))


def _children(trace: Trace, event: int) -> list[str]:
    """The operators in no other one below the graph's range, by a plain reading."""
    host = trace.host
    inside = [
        (int(host.start_ns[i]), int(host.end_ns[i]), trace.names[host.name[i]])
        for i in range(len(host))
        if host.category[i] == Category.CPU_OP
        and host.track[i] == host.track[event]
        and host.start_ns[event] < host.start_ns[i] < host.end_ns[event]
    ]
    found, end = [], 0
    for start, stop, name in sorted(inside):
        if start >= end:
            found.append(name)
            end = stop
    return found
