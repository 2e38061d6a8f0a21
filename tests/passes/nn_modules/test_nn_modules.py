"""Traces that other programs recorded with stacks, as our records: layers, parts, phases, sums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.kineto import cpu_op, document, host, kernel, label, launch, read, step, write
from make.paths import SHARED

from qwen3_profile.attribution.attribute import NO_STEP, attribute
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import layers
from qwen3_profile.errors import TraceError
from qwen3_profile.export import main
from qwen3_profile.labels import parse
from qwen3_profile.passes.nn_modules.passes import read_phase
from qwen3_profile.passes.nn_modules.scopes import ModuleScopes, build_module_scopes
from qwen3_profile.passes.pass_times import PassTimes, read_steps
from qwen3_profile.records.load import collect_trace
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.trace import Trace

TRACES = SHARED
SGLANG = TRACES / "tl_sglang_qwen3-8b_prefilldecode_eager.json.gz"

LEAF_NS = 1000
KERNEL_NS = 100

# A tree of calls: a class and its number, or that and the calls inside.
Tree = str | tuple[str, list["Tree"]]


class Writer:
    """Writes calls one after the other; each leaf takes LEAF_NS and launches one kernel."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.clock = 0

    def call(self, tree: Tree, thread: int = 1) -> None:
        name, inside = (tree, []) if isinstance(tree, str) else tree
        start = self.clock
        self.clock += 1
        for child in inside:
            self.call(child, thread)
        if not inside:
            self.work(thread)
        self.clock += 1
        self.events.append(host("python_function", f"nn.Module: {name}", start, self.clock, thread))

    def work(self, thread: int = 1) -> None:
        """An op that launches a kernel, where nothing else is open."""
        start, number = self.clock, self.clock + 1
        self.clock += LEAF_NS
        self.events.append(cpu_op("aten::mm", start, self.clock, thread))
        self.events.append(launch(number, start + 10, start + 20, thread))
        self.events.append(kernel(number, start + 30, start + 30 + KERNEL_NS))

    def wrap(self, name: str, *trees: Tree) -> None:
        """A record_function range around calls."""
        start = self.clock
        self.clock += 1
        for tree in trees:
            self.call(tree)
        self.clock += 1
        self.events.append(label(name, start, self.clock))

    def trace(self) -> Trace:
        return read(*self.events)


def found(*trees: Tree) -> tuple[ModuleScopes, tuple[PassTimes, ...]]:
    writer = Writer()
    for tree in trees:
        writer.call(tree)
    return passes_of(writer.trace())


def passes_of(trace: Trace) -> tuple[ModuleScopes, tuple[PassTimes, ...]]:
    modules = build_module_scopes(trace)
    assert modules is not None
    steps = read_steps(attribute(trace, modules.scopes, modules.steps))
    assert len(steps) == len(modules.passes)
    assert all(step.balances for step in steps)
    return modules, steps


def paths(part: Part) -> list[str]:
    return [below.name for _, below in part.walk()][1:]


def sglang_layer(n: int) -> Tree:
    rms = 4 * n
    return (
        f"Qwen3DecoderLayer_{n}",
        [
            f"RMSNorm_{rms}",
            (
                f"Qwen3Attention_{n}",
                [
                    f"QKVParallelLinear_{n}",
                    f"RMSNorm_{rms + 1}",
                    f"RMSNorm_{rms + 2}",
                    "RotaryEmbedding_0",
                    f"RadixAttention_{n}",
                    f"RowParallelLinear_{2 * n}",
                ],
            ),
            f"RMSNorm_{rms + 3}",
            (
                f"Qwen2MLP_{n}",
                [
                    f"MergedColumnParallelLinear_{n}",
                    f"SiluAndMul_{n}",
                    f"RowParallelLinear_{2 * n + 1}",
                ],
            ),
        ],
    )


def hf_layer(n: int, model: str = "Qwen2") -> Tree:
    seven = [f"Linear_{7 * n + i}" for i in range(7)]
    return (
        f"{model}DecoderLayer_{n}",
        [
            f"{model}RMSNorm_{2 * n}",
            (f"{model}Attention_{n}", list(seven[:4])),
            f"{model}RMSNorm_{2 * n + 1}",
            (f"{model}MLP_{n}", [seven[4], f"SiLU_{n}", *seven[5:]]),
        ],
    )


def model(*inside: Tree, name: str = "Qwen3Model_0") -> Tree:
    return (name, ["VocabParallelEmbedding_0", *inside, "RMSNorm_999"])


SGLANG_PARTS = [
    "layer.0",
    "layer.0.input_layernorm",
    "layer.0.attn",
    "layer.0.attn.qkv_proj",
    "layer.0.attn.q_norm",
    "layer.0.attn.k_norm",
    "layer.0.attn.rope",
    "layer.0.attn.attn_forward",
    "layer.0.attn.o_proj",
    "layer.0.post_attention_layernorm",
    "layer.0.ffn",
    "layer.0.ffn.gate_up_proj",
    "layer.0.ffn.act_fn",
    "layer.0.ffn.down_proj",
]


def moe(*inside: Tree) -> Tree:
    return (
        "Qwen3MoeDecoderLayer_0",
        [("Qwen3MoeAttention_0", ["Linear_0"]), ("Qwen3MoeSparseMoeBlock_0", list(inside))],
    )


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        pytest.param(sglang_layer(0), SGLANG_PARTS, id="sglang_fused_and_parallel_classes"),
        pytest.param(
            hf_layer(0),
            [
                "layer.0",
                "layer.0.input_layernorm",
                "layer.0.attn",
                *(f"layer.0.attn.{p}_proj" for p in "qkvo"),
                "layer.0.post_attention_layernorm",
                "layer.0.ffn",
                "layer.0.ffn.gate_proj",
                "layer.0.ffn.act_fn",
                "layer.0.ffn.up_proj",
                "layer.0.ffn.down_proj",
            ],
            id="hugging_face_projections_by_their_order",
        ),
        pytest.param(
            (
                "Qwen3DecoderLayer_0",
                [
                    (
                        "Qwen3Attention_0",
                        [
                            "Linear_0", "Qwen3RMSNorm_0", "Linear_1", "Qwen3RMSNorm_1",
                            "Linear_2", "Linear_3",
                        ],
                    )
                ],
            ),
            [
                "layer.0",
                "layer.0.attn",
                "layer.0.attn.q_proj",
                "layer.0.attn.q_norm",
                "layer.0.attn.k_proj",
                "layer.0.attn.k_norm",
                "layer.0.attn.v_proj",
                "layer.0.attn.o_proj",
            ],
            id="norms_of_heads_between_projections",
        ),
        pytest.param(
            (
                "BertLayer_0",
                [
                    (
                        "BertAttention_0",
                        [
                            ("BertSdpaSelfAttention_0", ["Linear_0", "Linear_1", "Linear_2"]),
                            ("BertSelfOutput_0", ["Linear_3", "Dropout_0", "LayerNorm_0"]),
                        ],
                    ),
                    ("BertIntermediate_0", ["Linear_4", "GELUActivation_0"]),
                    ("BertOutput_0", ["Linear_5", "LayerNorm_1"]),
                ],
            ),
            [
                "layer.0",
                "layer.0.attn",
                *(f"layer.0.attn.{p}_proj" for p in "qkvo"),
                "layer.0.attn.Dropout",
                "layer.0.attn.LayerNorm",
                "layer.0.ffn",
                "layer.0.ffn.up_proj",
                "layer.0.ffn.act_fn",
                "layer.0.ffn.down_proj",
                "layer.0.ffn.LayerNorm",
            ],
            id="an_encoder_whose_ffn_is_two_modules",
        ),
        pytest.param(
            (
                "GPT2Block_0",
                [
                    "LayerNorm_0",
                    ("GPT2Attention_0", ["Conv1D_0", "Conv1D_1"]),
                    "LayerNorm_1",
                    ("GPT2MLP_0", ["Conv1D_2", "NewGELUActivation_0", "Conv1D_3"]),
                ],
            ),
            [
                "layer.0",
                "layer.0.input_layernorm",
                "layer.0.attn",
                "layer.0.attn.qkv_proj",
                "layer.0.attn.o_proj",
                "layer.0.post_attention_layernorm",
                "layer.0.ffn",
                "layer.0.ffn.up_proj",
                "layer.0.ffn.act_fn",
                "layer.0.ffn.down_proj",
            ],
            id="one_projection_for_q_k_and_v",
        ),
        pytest.param(
            (
                "Gemma2DecoderLayer_0",
                [
                    "Gemma2RMSNorm_0", "Gemma2Attention_0", "Gemma2RMSNorm_1", "Gemma2RMSNorm_2",
                    "Gemma2MLP_0", "Gemma2RMSNorm_3",
                ],
            ),
            [
                "layer.0",
                "layer.0.input_layernorm",
                "layer.0.attn",
                "layer.0.post_attention_layernorm",
                "layer.0.pre_feedforward_layernorm",
                "layer.0.ffn",
                "layer.0.post_feedforward_layernorm",
            ],
            id="four_norms_by_their_place",
        ),
        pytest.param(
            ("Phi3DecoderLayer_0", [("Phi3Attention_0", ["Linear_0", "Linear_1"]),
                                    ("Phi3MLP_0", ["Linear_2", "SiLU_0", "Linear_3"])]),
            [
                "layer.0", "layer.0.attn", "layer.0.attn.qkv_proj", "layer.0.attn.o_proj",
                "layer.0.ffn", "layer.0.ffn.gate_up_proj", "layer.0.ffn.act_fn",
                "layer.0.ffn.down_proj",
            ],
            id="gate_and_up_in_one_by_the_model",
        ),
        pytest.param(
            (
                "DeepseekV2DecoderLayer_0",
                [("DeepseekV2Attention_0", ["Linear_0", "Linear_1", "Linear_2", "Linear_3"])],
            ),
            ["layer.0", "layer.0.attn", "layer.0.attn.Linear"],
            id="latent_projections_keep_their_class",
        ),
        pytest.param(
            moe("ReplicatedLinear_0", "FusedMoE_0", ("Qwen2MoeMLP_0", ["Linear_1"])),
            [
                "layer.0", "layer.0.attn", "layer.0.attn.Linear", "layer.0.ffn",
                "layer.0.ffn.router", "layer.0.ffn.experts", "layer.0.ffn.shared_experts",
                "layer.0.ffn.shared_experts.Linear",
            ],
            id="fused_experts_and_the_shared_one",
        ),
        pytest.param(
            moe("Linear_1", ("Qwen3MoeMLP_0", ["Linear_2"]), ("Qwen3MoeMLP_1", ["Linear_3"])),
            [
                "layer.0", "layer.0.attn", "layer.0.attn.Linear", "layer.0.ffn",
                "layer.0.ffn.router", "layer.0.ffn.experts", "layer.0.ffn.experts.Linear",
            ],
            id="experts_one_by_one_are_one_part",
        ),
        pytest.param(
            (
                "OddDecoderLayer_0",
                [("OddAttention_0", ["Linear_0", "Mystery_0"]), "Surprise_3", "Odd.Name_1"],
            ),
            [
                "layer.0", "layer.0.attn", "layer.0.attn.Linear", "layer.0.attn.Mystery",
                "layer.0.Surprise", "layer.0.Odd_Name",
            ],
            id="what_is_unknown_keeps_its_class",
        ),
        pytest.param(
            (
                "FullyShardedDataParallel_1",
                [("LlamaDecoderLayer_0", [("FullyShardedDataParallel_2", ["LlamaMLP_0"])])],
            ),
            ["layer.0", "layer.0.ffn"],
            id="wrappers_are_looked_through",
        ),
        pytest.param(
            ("BartDecoderLayer_0", ["BartAttention_0", "LayerNorm_0", "BartAttention_1"]),
            ["layer.0", "layer.0.attn", "layer.0.post_attention_layernorm", "layer.0.cross_attn"],
            id="the_second_attention_is_cross_attention",
        ),
        pytest.param(
            ("TimesformerLayer_0",
             ["LayerNorm_0",
              ("TimeSformerAttention_0", [("TimesformerSelfAttention_0", ["Linear_0"]),
                                          "Linear_1"]),
              "Linear_2", "LayerNorm_1",
              ("TimeSformerAttention_1", [("TimesformerSelfAttention_1", ["Linear_3"]),
                                          "Linear_4"]),
              "LayerNorm_2", ("TimesformerIntermediate_0", ["Linear_5"]),
              ("TimesformerOutput_0", ["Linear_6"])]),
            [
                "layer.0", "layer.0.input_layernorm",
                "layer.0.attn", "layer.0.attn.qkv_proj", "layer.0.attn.o_proj",
                "layer.0.Linear", "layer.0.post_attention_layernorm",
                "layer.0.ffn", "layer.0.ffn.up_proj", "layer.0.ffn.down_proj",
            ],
            id="two_self_attentions",
        ),
        pytest.param(
            ("T5Block_0", [("T5LayerSelfAttention_0", ["T5Attention_0"]),
                           ("T5LayerCrossAttention_0", ["T5Attention_1"])]),
            ["layer.0", "layer.0.attn", "layer.0.attn.attn_forward",
             "layer.0.cross_attn", "layer.0.cross_attn.T5Attention"],
            id="cross_attention_by_its_name",
        ),
        pytest.param(
            ("TransformerBlock_0",
             [("OAIAttention_0", ["RMSNorm_0", "QKVParallelLinear_0"]),
              ("MLPBlock_0", ["RMSNorm_1", "ReplicatedLinear_0", "FusedMoE_0"])]),
            ["layer.0", "layer.0.attn", "layer.0.attn.RMSNorm", "layer.0.attn.qkv_proj",
             "layer.0.ffn", "layer.0.ffn.RMSNorm", "layer.0.ffn.router", "layer.0.ffn.experts"],
            id="gpt_oss_in_vllm",
        ),
        pytest.param(
            ("DecoderLayer_0", [("SomeAttention_0", ["Linear_0"]), "FusedMoE_0"]),
            ["layer.0", "layer.0.attn", "layer.0.attn.Linear", "layer.0.ffn"],
            id="fused_experts_without_a_block",
        ),
        pytest.param(
            ("Llama4TextDecoderLayer_0",
             [("Llama4TextAttention_0", ["Linear_0"]),
              ("Llama4TextMoe_0", ["Llama4Router_0", "Llama4TextExperts_0", "Llama4TextMLP_0"])]),
            ["layer.0", "layer.0.attn", "layer.0.attn.Linear", "layer.0.ffn",
             "layer.0.ffn.router", "layer.0.ffn.experts", "layer.0.ffn.shared_experts"],
            id="llama4",
        ),
        pytest.param(
            ("Qwen3NextDecoderLayer_0",
             ["Qwen3NextRMSNorm_0",
              ("Qwen3NextGatedDeltaNet_0", ["Linear_0", "Linear_1", "Conv1d_0",
                                            "Qwen3NextRMSNormGated_0", "Linear_2"]),
              "Qwen3NextRMSNorm_1", ("Qwen3NextMLP_0", ["Linear_3", "Linear_4", "Linear_5"])]),
            ["layer.0", "layer.0.input_layernorm", "layer.0.linear_attn",
             "layer.0.linear_attn.in_proj_qkvz", "layer.0.linear_attn.in_proj_ba",
             "layer.0.linear_attn.conv1d", "layer.0.linear_attn.gated_norm",
             "layer.0.linear_attn.out_proj", "layer.0.post_attention_layernorm", "layer.0.ffn",
             "layer.0.ffn.gate_proj", "layer.0.ffn.up_proj", "layer.0.ffn.down_proj"],
            id="gated_delta_net",
        ),
        pytest.param(
            ("Qwen3_5LinearDecoderLayer_0",
             [("QwenGatedDeltaNetAttention_0",
               ["MergedColumnParallelLinear_0", "MergedColumnParallelLinear_1",
                "ChunkGatedDeltaRule_0", "RMSNormGated_0", "RowParallelLinear_0"])]),
            ["layer.0", "layer.0.linear_attn", "layer.0.linear_attn.in_proj_qkvz",
             "layer.0.linear_attn.in_proj_ba", "layer.0.linear_attn.delta_rule",
             "layer.0.linear_attn.gated_norm", "layer.0.linear_attn.out_proj"],
            id="gated_delta_net_in_vllm",
        ),
        pytest.param(
            ("HouseDecoderLayer_0", ["LayerNorm_0", ("HouseMixing_0", ["Linear_0", "Linear_1"]),
                                     ("HouseWide_0", ["Linear_2", "Linear_3"])]),
            ["layer.0", "layer.0.input_layernorm", "layer.0.attn", "layer.0.attn.qkv_proj",
             "layer.0.attn.o_proj", "layer.0.ffn", "layer.0.ffn.up_proj", "layer.0.ffn.down_proj"],
            id="by_structure_where_no_name_tells",
        ),
    ],
)  # fmt: skip
def test_each_module_of_a_layer_has_its_part(layer: Tree, expected: list[str]) -> None:
    _, (only,) = found(("SomeModel_0", [layer]))
    named = [name for name in paths(only.forward) if "core" not in name and "residual" not in name]
    assert [name for name in named if not name.endswith("act_mul")] == expected
    assert only.forward.total.device_ns == only.device_ns


def test_what_lies_outside_the_layers() -> None:
    tree = (
        "Qwen3ForCausalLM_0",
        [
            (
                "Qwen3Model_0",
                ["Embedding_0", "Qwen3RotaryEmbedding_0", hf_layer(0), "Qwen3RMSNorm_9"],
            ),
            "Linear_90",
        ],
    )
    _, (only,) = found(tree)
    outside = [part.name for part in only.forward.parts]
    assert outside == ["embed_tokens", "rotary_emb", "layer.0", "norm", "lm_head"]


def test_functions_between_modules_are_named_where_they_launch() -> None:
    writer = Writer()
    start = writer.clock
    for name in ("Linear_0", "Linear_1", "Linear_2"):
        writer.call(name)
    writer.work()
    writer.call("Linear_3")
    writer.events.append(host("python_function", "nn.Module: XAttention_0", start, writer.clock))
    writer.events.append(host("python_function", "nn.Module: XDecoderLayer_0", start, writer.clock))
    _, (only,) = passes_of(writer.trace())
    (attn,) = only.forward.parts[0].parts
    core = attn.find("layer.0.attn.attn_core")
    assert core is not None
    assert core.total.device_ns == KERNEL_NS
    assert attn.own.device_ns == 0


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            ["LlamaForCausalLM", "LlamaModel", "LlamaDecoderLayer"], id="models_and_layer"
        ),
        pytest.param(["XDecoderLayer", "XAttention", "Attention"], id="attention_and_its_core"),
        pytest.param(["ZDecoderLayer", "ZMLP", "Linear"], id="ffn_and_a_projection"),
    ],
)
def test_of_modules_that_a_coarse_clock_cannot_tell_apart_the_larger_is_outside(
    names: list[str],
) -> None:
    """Before 2024 times are whole microseconds; in both orders of the file."""
    events = [host("python_function", f"nn.Module: {name}_0", 0, 1000) for name in names]
    for order in (events, events[::-1]):
        modules = build_module_scopes(read(*order, launch(1, 10, 20), kernel(1, 30, 40)))
        assert modules is not None
        (root,) = modules.passes[0].roots
        assert [root.kind, root.children[0].kind, root.children[0].children[0].kind] == names


def test_a_stretch_in_which_nothing_ran_has_no_name() -> None:
    _, (only,) = found(model(sglang_layer(0)))
    assert not [name for name in paths(only.forward) if "residual" in name]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param([0, 1, 2], [0, 1, 2], id="from_0"),
        pytest.param([7, 8], [0, 1], id="numbered_after_another_model"),
        pytest.param([9, 10], [0, 1], id="by_number_not_by_text"),
        pytest.param([3, 2], [1, 0], id="in_order_of_numbers"),
    ],
)
def test_layers_count_from_0(numbers: list[int], expected: list[int]) -> None:
    _, (only,) = found(model(*(sglang_layer(n) for n in numbers)))
    parsed = [parse(part.name) for part in only.forward.parts]
    assert [x.layer for x in parsed if x is not None and x.kind == "layer"] == expected


def test_each_model_of_a_trace_counts_its_own_layers() -> None:
    modules, steps = found(
        ("CLIPTextModel_0", [hf_layer(0, "CLIP")]), ("T5EncoderModel_0", [hf_layer(5, "CLIP")])
    )
    assert [item.model[0] for item in modules.passes] == ["CLIPTextModel", "T5EncoderModel"]
    assert [[part.name for part in layers(s.forward)] for s in steps] == [["layer.0"]] * 2


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        pytest.param("step[DECODE bs=8]", "decode", id="sglang_decode"),
        pytest.param("step[EXTEND bs=15 toks=15360]", "prefill", id="sglang_extend"),
        pytest.param("step[MIXED bs=3]", "", id="sglang_mixed"),
        pytest.param("execute_context_2(64)_generation_0(0)", "prefill", id="vllm_context"),
        pytest.param(
            "execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk5sqsq32sqsk5)",
            "decode",
            id="vllm_generation",
        ),
        pytest.param("execute_9_context_1(a)_generation_3(b)", "", id="vllm_both"),
        pytest.param("execute_new_2_cached_0", "prefill", id="vllm_new_requests"),
        pytest.param("execute_new_0_cached_2", "decode", id="vllm_running_requests"),
        pytest.param("execute_new_1_cached_2", "", id="vllm_both_kinds_of_requests"),
        pytest.param("prefill", "prefill", id="as_we_write_it"),
        pytest.param("capture_32_FULL", None, id="a_capture_is_no_pass"),
        pytest.param("model_inference", None, id="some_other_range"),
    ],
)
def test_serving_engines_tell_the_phase(text: str, phase: str | None) -> None:
    assert read_phase(text) == phase


def test_layers_of_any_name_are_those_that_are_alike() -> None:
    def unit(n: int) -> Tree:
        mixing = (f"Mixing_{n}", [f"Linear_{4 * n}", f"Linear_{4 * n + 1}"])
        wide = (f"Wide_{n}", [f"Linear_{4 * n + 2}", f"Linear_{4 * n + 3}"])
        return (f"Unit_{n}", [f"LayerNorm_{2 * n}", mixing, f"LayerNorm_{2 * n + 1}", wide])

    _, (only,) = found(("House_0", [unit(0), unit(1)]))
    assert [part.name for part in layers(only.forward)] == ["layer.0", "layer.1"]
    assert {"layer.1.attn.o_proj", "layer.1.ffn.up_proj"} <= set(paths(only.forward))


def backward_of(writer: Writer, *trees: Tree) -> None:
    """The calls inside what autograd does, on its own thread."""
    for tree in trees:
        start = writer.clock
        writer.clock += 1
        writer.call(tree, thread=2)
        writer.clock += 1
        name = "autograd::engine::evaluate_function: CheckpointFunctionBackward"
        writer.events.append(cpu_op(name, start, writer.clock, thread=2))


def test_what_a_checkpoint_runs_again_is_of_the_pass_before() -> None:
    blocks: list[Tree] = [(f"Sequential_{n}", [f"Linear_{n}"]) for n in range(2)]
    writer = Writer()
    for _ in range(2):
        writer.call(("Net_0", [*blocks, "Linear_9"]))
        writer.work()
        backward_of(writer, *reversed(blocks))
    modules, steps = passes_of(writer.trace())
    assert [item.model for item in modules.passes] == [("Net", 0)] * 2
    for each in steps:
        calls = {part.name: part.total.calls for part in each.forward.each()}
        assert (calls["Sequential"], calls["Sequential.Linear"], calls["Linear"]) == (4, 4, 1)
        # What ran between is of no module.
        assert each.unattributed_ns == KERNEL_NS


def test_layers_that_run_again_keep_their_numbers_and_parts() -> None:
    writer = Writer()
    writer.call(model(hf_layer(0), hf_layer(1)))
    backward_of(writer, hf_layer(1), hf_layer(0))
    _, (only,) = passes_of(writer.trace())
    calls = {part.name: part.total.calls for part in only.forward.each()}
    assert {calls[f"layer.{n}.{part}"] for n in (0, 1) for part in ("attn", "ffn.up_proj")} == {2}


def test_a_model_that_is_called_in_pieces_is_one() -> None:
    blocks: list[Tree] = [(f"Sequential_{n}", [f"Linear_{n}"]) for n in range(2)]
    writer = Writer()
    for each in blocks:
        writer.call(each)
    backward_of(writer, *reversed(blocks))
    modules, (only,) = passes_of(writer.trace())
    assert len(modules.passes) == 1
    assert only.forward.total.device_events == 4


def test_an_annotation_is_the_pass_and_takes_what_runs_in_it() -> None:
    writer = Writer()
    writer.wrap("step[EXTEND bs=1 toks=9]", model(sglang_layer(0)), "LogitsProcessor_0")
    writer.call("Sampler_0")
    writer.wrap("step[DECODE bs=1]", model(sglang_layer(0)), "LogitsProcessor_0")
    modules, steps = passes_of(writer.trace())
    assert [item.phase for item in modules.passes] == ["prefill", "decode"]
    assert modules.passes[1].phase_source == "annotation: step[DECODE bs=1]"
    outside = [[part.name for part in s.forward.parts] for s in steps]
    assert outside[0] == ["embed_tokens", "layer.0", "norm", "lm_head", "Sampler"]
    assert outside[1] == ["embed_tokens", "layer.0", "norm", "lm_head"]


def test_all_calls_in_one_annotation_are_one_pass() -> None:
    writer = Writer()
    writer.wrap("step[TARGET_VERIFY bs=1]", *[model(sglang_layer(0))] * 2)
    modules, (only,) = passes_of(writer.trace())
    assert (only.forward.name, only.forward.parts[1].total.calls) == ("forward", 2)
    assert modules.passes[0].phase_source == "annotation: step[TARGET_VERIFY bs=1]"


def test_what_no_record_holds_is_told(tmp_path: Path) -> None:
    writer = Writer()
    writer.work()
    writer.call(model(sglang_layer(0)))
    (record,) = collect_trace(write(tmp_path / "t.json", document(*writer.events)))
    (told,) = [f for f in record.findings if f.code == "outside-passes"]
    assert (told.count, told.ns) == (1, KERNEL_NS)


def test_the_innermost_annotation_counts() -> None:
    writer = Writer()
    start = writer.clock
    writer.wrap("step[DECODE bs=1]", model(sglang_layer(0)))
    writer.call("Sampler_0")
    writer.events.append(label("execute_context_1(4)_generation_0(0)", start, writer.clock + 5))
    modules, (only,) = passes_of(writer.trace())
    assert [item.phase for item in modules.passes] == ["decode"]
    assert only.forward.parts[-1].name == "Sampler"


def test_without_an_annotation_the_phase_is_not_guessed() -> None:
    modules, (only,) = found(model(sglang_layer(0)))
    assert (only.forward.name, modules.passes[0].phase_source) == ("forward", "unknown")


@pytest.mark.parametrize(
    ("trees", "count"),
    [
        pytest.param([model(sglang_layer(0))] * 3, 3, id="calls_of_a_model"),
        pytest.param([sglang_layer(0), sglang_layer(1)] * 2, 2, id="layers_without_their_model"),
        pytest.param(
            ["Embedding_0", sglang_layer(0), "RMSNorm_8", "LogitsProcessor_0"] * 2,
            2,
            id="all_that_a_model_calls",
        ),
        pytest.param([("Net_0", ["Linear_0"]), "MSELoss_0"] * 2, 2, id="a_loss_follows_its_model"),
        pytest.param(["OptimizedModule_0"] * 4, 4, id="compiled_models_have_no_inside"),
    ],
)
def test_forward_passes_are_told_apart(trees: list[Tree], count: int) -> None:
    _, steps = found(*trees)
    assert len(steps) == count
    assert len({s.forward.total.device_ns for s in steps}) == 1
    assert not any(s.unattributed for s in steps)


def test_work_between_two_passes_is_in_the_ledger_of_the_first() -> None:
    writer = Writer()
    writer.work()
    writer.call(model(sglang_layer(0)))
    writer.work()
    writer.call(model(sglang_layer(0)))
    trace = writer.trace()
    modules, (first, second) = passes_of(trace)
    assert (first.unattributed_ns, second.unattributed_ns) == (KERNEL_NS, 0)
    outside = attribute(trace, modules.scopes, modules.steps).device_step == NO_STEP
    assert int(trace.device.dur_ns[outside].sum()) == KERNEL_NS


def test_a_profiler_step_around_one_pass_is_its_step() -> None:
    writer = Writer()
    writer.work()
    writer.call(model(sglang_layer(0)))
    writer.events.append(step(6, 0, writer.clock))
    _, (only,) = passes_of(writer.trace())
    assert (only.number, only.unattributed_ns) == (6, KERNEL_NS)


def test_replicas_on_threads_at_once_are_one_pass() -> None:
    events = []
    for thread in (1, 2):
        start = 10 * thread
        events += [
            host("python_function", "nn.Module: Net_0", start, start + 1000, thread),
            host("python_function", "nn.Module: Linear_0", start + 10, start + 900, thread),
            launch(thread, start + 20, start + 30, thread),
            kernel(thread, start + 40, start + 50),
        ]
    _, (only,) = passes_of(read(*events))
    assert only.forward.total.calls == 2
    assert only.forward.total.device_ns == only.device_ns == 20


@pytest.mark.parametrize(
    ("time", "owner"),
    [
        pytest.param(50, "layer.0", id="while_a_module_is_open"),
        pytest.param(150, None, id="backward_after_the_pass"),
    ],
)
def test_work_of_another_thread_goes_by_the_rules_of_labels(time: int, owner: str | None) -> None:
    _, (only,) = passes_of(
        read(
            host("python_function", "nn.Module: LlamaDecoderLayer_0", 0, 100),
            launch(1, time, time + 5, thread=2),
            kernel(1, time + 10, time + 30),
        )
    )
    layer = only.forward.parts[0].total.device_ns
    assert (layer, only.unattributed_ns) == ((20, 0) if owner else (0, 20))
    assert only.cross_thread_events == (1 if owner else 0)


_CLASSES = (
    "LlamaDecoderLayer", "LlamaAttention", "LlamaMLP", "Linear", "RMSNorm", "Sequential", "Odd",
    "BertLayer", "BertOutput", "FusedMoE", "LogitsProcessor", "Embedding", "LlamaModel",
)  # fmt: skip


@st.composite
def random_events(draw: st.DrawFn) -> list[str]:
    """Calls of any classes on a few threads, nested or crossing, annotated or not, and work."""
    time = st.integers(0, 300)
    events = []
    for _ in range(draw(st.integers(1, 25))):
        kind, number = draw(st.sampled_from(_CLASSES)), draw(st.integers(0, 3))
        start, length, thread = draw(time), draw(st.integers(0, 200)), draw(st.integers(1, 2))
        name = f"nn.Module: {kind}_{number}"
        events.append(host("python_function", name, start, start + length, thread))
    for name in draw(st.lists(st.sampled_from(("step[DECODE bs=1]", "ProfilerStep#3")))):
        start = draw(time)
        events.append(label(name, start, start + draw(st.integers(1, 200))))
    for number in range(draw(st.integers(0, 12))):
        start, thread = draw(time), draw(st.integers(1, 3))
        if draw(st.booleans()):
            events.append(launch(number, start, start + 3, thread))
        name = draw(st.sampled_from(("gemm", "ncclDevKernel_AllReduce")))
        begin = start + draw(st.integers(0, 50))
        events.append(kernel(number, begin, begin + draw(st.integers(0, 90)), name=name))
    return events


@settings(max_examples=150)
@given(random_events())
def test_whatever_the_modules_are_the_ledger_balances(events: list[str]) -> None:
    trace = read(*events)
    modules = build_module_scopes(trace)
    assert modules is not None
    found = split_collectives(attribute(trace, modules.scopes, modules.steps))
    steps = read_steps(found)
    assert len(steps) == len(modules.passes)
    assert all(times.balances for times in steps)
    outside = int(trace.device.dur_ns[found.device_step == NO_STEP].sum())
    assert sum(times.device_ns for times in steps) + outside == int(trace.device.dur_ns.sum())
    for times in steps:
        for _, part in times.forward.walk():
            assert part.own.device_ns >= 0
            assert part.own.cpu_ns >= 0
            assert part.total.device_ns >= sum(below.total.device_ns for below in part.parts)


def test_calls_without_end_do_not_exhaust_python() -> None:
    deep = [host("python_function", f"nn.Module: Deep_{i}", i, 20_000 - i) for i in range(1200)]
    _, (only,) = passes_of(read(*deep, launch(1, 6000, 6010), kernel(1, 6020, 6030)))
    assert only.forward.total.device_ns == 10


def test_labels_of_ours_win(tmp_path: Path) -> None:
    writer = Writer()
    start = writer.clock
    writer.call(hf_layer(0))
    writer.events += [label("prefill", start, writer.clock), label("layer.4", start, writer.clock)]
    path = write(tmp_path / "both.json", document(*writer.events))
    (record,) = collect_trace(path)
    assert [part.name for part in layers(record.times.forward)] == ["layer.4"]
    assert record.phase_source == "label"


def test_a_lone_phase_label_tells_the_phase_of_modules(tmp_path: Path) -> None:
    writer = Writer()
    writer.wrap("decode", model(sglang_layer(0)))
    (record,) = collect_trace(write(tmp_path / "t.json", document(*writer.events)))
    assert (record.phase, record.phase_source) == ("decode", "annotation: decode")
    assert [part.name for part in layers(record.times.forward)] == ["layer.0"]


def test_a_trace_with_neither_points_to_the_ledger(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", document(cpu_op("aten::mm", 0, 10)))
    with pytest.raises(TraceError, match=r"nn\.Module ranges.*--ledger FILE"):
        collect_trace(path)


def test_the_record_tells_the_model_and_where_its_phase_is_from(tmp_path: Path) -> None:
    writer = Writer()
    writer.wrap("step[DECODE bs=1]", model(sglang_layer(0)))
    path = write(tmp_path / "t.json", document(*writer.events))
    (entry,) = [record.to_json() for record in collect_trace(path)]
    assert entry["phase_source"] == "annotation: step[DECODE bs=1]"
    assert entry["model_class"] == "Qwen3Model"
    assert entry["layer_details"][0]["attn_details"]["qkv_proj_cuda"] == KERNEL_NS / 1e9


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("layer.3.attn.qkv_proj", "leaf", id="q_k_v_in_one"),
        pytest.param("layer.3.ffn.gate_up_proj", "leaf", id="gate_and_up_in_one"),
        pytest.param("layer.3.ffn.shared_experts", "leaf", id="shared_experts"),
        pytest.param("layer.3.pre_feedforward_layernorm", "leaf", id="a_third_norm"),
        pytest.param("layer.3.ffn.qkv_proj", None, id="not_in_the_other_block"),
        # Anybody may call a range so; only a pass made of modules has this name.
        pytest.param("forward", None, id="the_neutral_phase_is_no_label"),
    ],
)
def test_the_grammar_knows_fused_parts(name: str, kind: str | None) -> None:
    label_of = parse(name)
    assert (label_of.kind if label_of else None) == kind


# Real traces, where they are.

MANIFEST: list[dict[str, Any]] = (
    json.loads((TRACES / "MANIFEST.json").read_text()) if TRACES.is_dir() else []
)
STACKS = [entry["file"] for entry in MANIFEST if entry["n_nn_module"]]
# Which class is the layer, and how many of it each model calls: counted by name in the file.
LAYERS = {
    "nanovllm_4080_decode_gpu_0": [2],
    "nanovllm_4080_forward_50": [1],
    "nanovllm_4080_store_kvcache_101": [1],
    "qa_h100_transformer_a0": [1],
    "qa_h100_transformer_a1": [1],
    "switch_a100_moe_stacks_old": [10],
    "tl_h100_bert-small": [4],
    "tl_mi300_bert-small": [4],
    "tl_mi300_qwen1.5-0.5b": [24],
    "tl_mi300_vit_falconsai": [12],
    "tl_sglang_qwen3-8b_prefilldecode_eager": [36],
    "tl_xdit_flux_aiter_old": [12, 24, 0, 0],
}
needs_traces = pytest.mark.skipif(not MANIFEST, reason="the recorded traces are not here")


def by_model(records: tuple[TimingRecord, ...]) -> dict[int, list[TimingRecord]]:
    groups: dict[int, list[TimingRecord]] = {}
    for record in records:
        groups.setdefault(record.config_index, []).append(record)
    return groups


@needs_traces
@pytest.mark.parametrize("file", STACKS)
def test_every_trace_with_stacks_balances(file: str) -> None:
    entry = next(entry for entry in MANIFEST if entry["file"] == file)
    records = collect_trace(TRACES / file)
    assert all(record.times.balances for record in records)
    outside = [f for f in records[0].findings if f.code == "outside-passes"]
    accounted = sum(record.times.device_ns for record in records) + sum(f.ns for f in outside)
    assert accounted == round(entry["gpu_sum_total_us"] * 1000)
    counts = [len(layers(group[0].times.forward)) for group in by_model(records).values()]
    assert counts == LAYERS.get(file.removesuffix(".json.gz"), [0] * len(counts))
    for record in records:
        for layer in layers(record.times.forward):
            assert layer.find(f"{layer.name}.attn") is not None


@needs_traces
def test_sglang_prints_36_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SGLANG), "--output-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0].isdecimal()]
    assert [int(row[0]) for row in rows] == list(range(36))
    assert all(float(row[2]) > 3 and float(row[4]) > 9 for row in rows)
    assert any("Qwen3Model, 36 layers" in line and "step[EXTEND" in line for line in lines)


@needs_traces
def test_sglang_parts_hold_what_their_kernels_are() -> None:
    """The matmuls lie in the projections, attention's kernel in attn_forward: names, not order."""
    trace_records = collect_trace(SGLANG)
    (record,) = trace_records
    totals: dict[str, int] = {}
    for _, part in record.times.forward.walk():
        name = part.name.rpartition(".")[2]
        totals[name] = totals.get(name, 0) + part.total.device_ns
    shares = np.array([totals[name] for name in ("gate_up_proj", "down_proj", "qkv_proj")])
    # 8B has an ffn of 12288 and a hidden size of 4096: gate and up are twice the work of down.
    assert shares[0] / shares[1] == pytest.approx(2, rel=0.4)
    assert shares[0] / shares[2] == pytest.approx(4, rel=0.4)
    assert record.facts.device == "AMD Instinct MI300X"
