"""Kernel calls as scopes and as sums: worked out by hand, and every nanosecond counted once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.compiled import KERNEL_NS, LAYERS, graph, passed, region, region_end, split_compiled
from make.kineto import cpu_op, kernel, label, launch, step

from qwen3_profile.passes.compiled.kernel_times import Bounds, CompiledTimes
from qwen3_profile.passes.compiled.part_names import scope_names
from qwen3_profile.passes.pass_times import PassTimes, merge_passes
from qwen3_profile.run_folder.provenance import CompiledGraph, Kernel, PartShare

NAMES = [each.name for each in LAYERS.kernels]


def rows(times: PassTimes) -> dict[str, int]:
    return {"/".join(p): part.total.device_ns for p, part in times.forward.walk()}


def test_calls_become_the_parts_of_the_pass() -> None:
    argmax = [cpu_op("sample", 900, 990), launch(90, 910, 920), kernel(90, 2500, 2507)]
    times = split_compiled(passed(NAMES, *argmax), LAYERS)
    assert rows(times) == {
        "prefill": 6 * KERNEL_NS + 7,
        "prefill/layer.0": 4 * KERNEL_NS,
        "prefill/layer.0/layer.0.input_layernorm": KERNEL_NS,
        "prefill/layer.0/layer.0.attn": 2 * KERNEL_NS,
        "prefill/layer.0/layer.0.attn/layer.0.attn.q_proj": KERNEL_NS,
        "prefill/layer.0/layer.0.attn/layer.0.attn.q_norm+rope": KERNEL_NS,
        "prefill/layer.0/layer.0.ffn": KERNEL_NS,
        "prefill/layer.0/layer.0.ffn/layer.0.ffn.down_proj": KERNEL_NS,
        "prefill/residual_ffn+input_layernorm": KERNEL_NS,
        "prefill/layer.1": KERNEL_NS,
        "prefill/layer.1/layer.1.attn": KERNEL_NS,
        "prefill/layer.1/layer.1.attn/layer.1.attn.q_proj": KERNEL_NS,
        "prefill/sample": 7,
    }
    assert times.balances


def test_least_anchor_and_most() -> None:
    times = split_compiled(passed(NAMES), LAYERS)
    assert times.compiled is not None
    assert (times.compiled.graphs, times.compiled.calls) == (1, 6)
    found = {b.part: (b.least_device_ns, b.anchored_device_ns, b.most_device_ns)
             for b in times.compiled.bounds}  # fmt: skip
    one, two = KERNEL_NS, 2 * KERNEL_NS
    assert found == {
        "input_layernorm": (one, two, two),
        "q_proj": (two, two, two),
        "q_norm": (0, one, one),
        "rope": (0, 0, one),
        "down_proj": (one, one, one),
        "residual_ffn": (0, 0, one),
    }
    cpu = {b.part: b.most_cpu_ns for b in times.compiled.bounds}
    assert cpu["q_proj"] == 2 * 50


def test_a_graph_that_does_not_match_is_one_row() -> None:
    times = split_compiled(passed([*NAMES[:2], "triton_other"]), LAYERS)
    assert rows(times) == {"prefill": 3 * KERNEL_NS, "prefill/compiled graph": 3 * KERNEL_NS}
    assert times.balances
    assert times.compiled == CompiledTimes(
        1, 0, (), ("region 0/0: call 2 is triton_other, where triton_rope was compiled",)
    )


def test_a_layer_that_was_compiled_by_itself_is_the_one_whose_label_is_open() -> None:
    anywhere = graph("0/0", ("aten::mm", {"layer.*.attn.q_proj": 1}), ("triton", {"layer.*": 1}))
    names, end = ["aten::mm", "triton"], region_end(100, 2)
    events = [step(0, 0, 5000), label("prefill", 5, 4000), label("layer.7", 90, end + 5),
              *region("0/0", 100, names), label("layer.8", 490, end + 405),
              *region("0/0", 500, names, first_id=50)]  # fmt: skip
    times = split_compiled(events, anywhere)
    found = rows(times)
    assert found["prefill/layer.7/layer.7.attn/layer.7.attn.q_proj"] == KERNEL_NS
    assert found["prefill/layer.8/layer.8.attn/layer.8.attn.q_proj"] == KERNEL_NS
    assert found["prefill/layer.7"] == 2 * KERNEL_NS
    assert times.compiled is not None
    assert [row.labels for row in times.compiled.kernels] == [
        ("layer.7.attn.q_proj",), ("layer.7",), ("layer.8.attn.q_proj",), ("layer.8",),
    ]  # fmt: skip


def test_steps_are_merged_row_by_row() -> None:
    one = split_compiled(passed(NAMES), LAYERS)
    both = merge_passes([one, one]).compiled
    assert one.compiled is not None
    assert both is not None
    assert (both.graphs, both.calls) == (2, 12)
    assert [row.calls for row in both.kernels] == [2] * len(one.compiled.kernels)


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ((), ()),
        (("",), ()),
        (("lm_head",), ("lm_head",)),
        (("layer.3",), ("layer.3",)),
        (("layer.3.attn.q_proj",), ("layer.3", "layer.3.attn", "layer.3.attn.q_proj")),
        (
            ("layer.3.attn.rope", "layer.3.attn.q_norm"),
            ("layer.3", "layer.3.attn", "layer.3.attn.q_norm+rope"),
        ),
        (
            ("layer.3.post_attention_layernorm", "layer.3.residual_attn"),
            ("layer.3", "layer.3.residual_attn+post_attention_layernorm"),
        ),
        (
            ("layer.4.input_layernorm", "layer.3.residual_ffn"),
            ("residual_ffn+input_layernorm",),
        ),
        (("layer.0.attn.kv_cache", "layer.1.attn.kv_cache"), ("kv_cache",)),
        (("embed_tokens", "layer.0.input_layernorm"), ("embed_tokens+input_layernorm",)),
        (("norm", "layer.9.residual_ffn"), ("residual_ffn+norm",)),
        (("", "rotary_emb"), ("rotary_emb+other",)),
        (
            ("layer.3.attn", "layer.3.attn.rope"),
            ("layer.3", "layer.3.attn", "layer.3.attn.rope+other"),
        ),
    ],
)  # fmt: skip
def test_scope_names(parts: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert scope_names(parts) == names


_LABELS = (
    "", "embed_tokens", "norm", "layer.0", "layer.0.attn.q_proj", "layer.0.attn.rope",
    "layer.0.residual_attn", "layer.1.input_layernorm", "layer.1.attn", "lm_head",
)  # fmt: skip
_PARTS = st.dictionaries(st.sampled_from(_LABELS), st.integers(1, 9), max_size=4)


@settings(max_examples=50)
@given(st.lists(_PARTS, min_size=1, max_size=8))
def test_whatever_is_fused_the_ledger_balances(kernels: list[dict[str, int]]) -> None:
    names = [f"triton_{i}" for i in range(len(kernels))]
    compiled = CompiledGraph(
        "0/0",
        tuple(
            Kernel(name, tuple(PartShare(label, nodes) for label, nodes in parts.items()))
            for name, parts in zip(names, kernels, strict=True)
        ),
    )
    times = split_compiled(passed(names), compiled)
    total = len(names) * KERNEL_NS
    assert times.balances
    assert times.forward.total.device_ns == total
    assert sum(part.own.device_ns for _, part in times.forward.walk()) == total
    assert times.compiled is not None
    assert sum(row.device_ns for row in times.compiled.kernels) == total
    found = times.compiled.bounds
    assert sum(each.anchored_device_ns for each in found) == total
    assert all(each.least_device_ns <= each.anchored_device_ns <= each.most_device_ns
               for each in found)  # fmt: skip
    assert all(isinstance(each, Bounds) for each in found)
