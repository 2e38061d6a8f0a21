"""Nodes of a compiled graph and their labels, as Qwen3's source has them line by line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_profile.measure.inductor.kernel_parts import event_name, kernel_parts
from qwen3_profile.measure.inductor.node_labels import Frame, Node, label_nodes
from qwen3_profile.run_folder.provenance import PartShare

LAYER = "model.layers.0"
MODULES = {
    "": "",
    "model": "",
    "model.embed_tokens": "embed_tokens",
    "model.rotary_emb": "rotary_emb",
    "model.norm": "norm",
    "lm_head": "lm_head",
    LAYER: "layer.0",
    f"{LAYER}.input_layernorm": "layer.0.input_layernorm",
    f"{LAYER}.self_attn": "layer.0.attn",
    f"{LAYER}.self_attn.q_proj": "layer.0.attn.q_proj",
    f"{LAYER}.self_attn.o_proj": "layer.0.attn.o_proj",
    f"{LAYER}.post_attention_layernorm": "layer.0.post_attention_layernorm",
    f"{LAYER}.mlp": "layer.0.ffn",
    f"{LAYER}.mlp.gate_proj": "layer.0.ffn.gate_proj",
    f"{LAYER}.mlp.act_fn": "layer.0.ffn.act_fn",
    f"{LAYER}.mlp.up_proj": "layer.0.ffn.up_proj",
    f"{LAYER}.mlp.down_proj": "layer.0.ffn.down_proj",
}
MODEL = Frame("modeling_qwen3.py", 405, "forward")


def node(name: str, target: str, module: str | None, *frames: tuple[str, int, str]) -> Node:
    return Node(name, target, module, tuple(Frame(*frame) for frame in frames))


def inside(name: str, target: str, module: str | None, *lines: int) -> Node:
    """A node whose frames are all of the model's own file."""
    return Node(name, target, module, tuple(Frame(MODEL.file, n, "forward") for n in lines))


# In the order of the source: line 373 embeds, 380 counts, 390 turns, 405 runs a layer, 415 norms.
PASS = [
    inside("embedding", "aten.embedding.default", "model.embed_tokens", 373),
    inside("add", "aten.add.Tensor", "model", 380),
    node("where", "aten.where.self", "model", (MODEL.file, 385, "forward"),
         ("masking_utils.py", 10, "create_causal_mask")),
    inside("cos", "aten.cos.default", "model.rotary_emb", 390),
    inside("pow_1", "aten.pow.Tensor_Scalar", f"{LAYER}.input_layernorm", 405, 297, 61),
    inside("mm", "aten.mm.default", f"{LAYER}.self_attn.q_proj", 405, 299, 244),
    node("mul", "aten.mul.Tensor", f"{LAYER}.self_attn", (MODEL.file, 405, "forward"),
         (MODEL.file, 299, "forward"), (MODEL.file, 249, "forward"),
         (MODEL.file, 130, "apply_rotary_pos_emb"), (MODEL.file, 99, "rotate_half")),
    node("index_put", "aten.index_put.default", f"{LAYER}.self_attn", (MODEL.file, 405, "forward"),
         (MODEL.file, 299, "forward"), (MODEL.file, 252, "forward"),
         ("cache_utils.py", 482, "update")),
    node("sdpa", "aten._scaled_dot_product_flash_attention.default", f"{LAYER}.self_attn",
         (MODEL.file, 405, "forward"), (MODEL.file, 299, "forward"), (MODEL.file, 258, "forward"),
         ("sdpa_attention.py", 193, "sdpa_attention_forward")),
    inside("clone", "aten.clone.default", f"{LAYER}.self_attn", 405, 299, 270),
    inside("mm_1", "aten.mm.default", f"{LAYER}.self_attn.o_proj", 405, 299, 271),
    inside("add_1", "aten.add.Tensor", LAYER, 405, 308),
    inside("pow_2", "aten.pow.Tensor_Scalar", f"{LAYER}.post_attention_layernorm", 405, 312, 61),
    inside("mm_2", "aten.mm.default", f"{LAYER}.mlp.gate_proj", 405, 313, 81),
    inside("exp", "aten.exp.default", f"{LAYER}.mlp.act_fn", 405, 313, 81, 103),
    inside("mm_3", "aten.mm.default", f"{LAYER}.mlp.up_proj", 405, 313, 81),
    inside("mul_1", "aten.mul.Tensor", f"{LAYER}.mlp", 405, 313, 81),
    inside("mm_4", "aten.mm.default", f"{LAYER}.mlp.down_proj", 405, 313, 81),
    inside("add_2", "aten.add.Tensor", LAYER, 405, 314),
    inside("pow_3", "aten.pow.Tensor_Scalar", "model.norm", 415, 61),
    inside("mm_5", "aten.mm.default", "lm_head", 481),
]  # fmt: skip
LABELS = {
    "embedding": "embed_tokens",
    "add": "positions",
    "where": "causal_mask",
    "cos": "rotary_emb",
    "pow_1": "layer.0.input_layernorm",
    "mm": "layer.0.attn.q_proj",
    "mul": "layer.0.attn.rope",
    "index_put": "layer.0.attn.kv_cache",
    "sdpa": "layer.0.attn.attn_forward",
    "clone": "layer.0.attn.merge_heads",
    "mm_1": "layer.0.attn.o_proj",
    "add_1": "layer.0.residual_attn",
    "pow_2": "layer.0.post_attention_layernorm",
    "mm_2": "layer.0.ffn.gate_proj",
    "exp": "layer.0.ffn.act_fn",
    "mm_3": "layer.0.ffn.up_proj",
    "mul_1": "layer.0.ffn.act_mul",
    "mm_4": "layer.0.ffn.down_proj",
    "add_2": "layer.0.residual_ffn",
    "pow_3": "norm",
    "mm_5": "lm_head",
}


def test_every_node_of_a_pass_has_its_label() -> None:
    assert label_nodes(PASS, MODULES) == LABELS


@settings(max_examples=50)
@given(st.data())
def test_passes_may_move_nodes_of_other_lines_about(data: st.DataObject) -> None:
    """One line's nodes keep their order, as what reads a value stays behind what makes it."""
    tied = ("mm_2", "mm_3", "mul_1", "mm_4")
    moved = data.draw(st.permutations(PASS))
    same = iter([each for each in PASS if each.name in tied])
    nodes = [next(same) if each.name in tied else each for each in moved]
    assert label_nodes(nodes, MODULES) == LABELS


def test_a_sigmoid_right_in_attention_is_its_gate() -> None:
    attn = f"{LAYER}.self_attn"
    gated = [
        inside("sigmoid", "aten.sigmoid.default", attn, 405, 299, 257),
        inside("mul_g", "aten.mul.Tensor", attn, 405, 299, 257),
    ]
    found = label_nodes([*PASS, *gated], MODULES)
    assert {found["sigmoid"], found["mul_g"]} == {"layer.0.attn.output_gate"}
    assert found["clone"] == "layer.0.attn.merge_heads"
    alone = inside("sigmoid", "aten.sigmoid.default", LAYER, 405, 290)
    assert label_nodes([alone], MODULES) == {"sigmoid": "layer.0"}


def test_a_module_without_a_label_goes_with_the_one_round_it() -> None:
    deep = inside("mm", "aten.mm.default", f"{LAYER}.self_attn.q_proj.lora_A.default", 405, 299)
    assert label_nodes([deep], MODULES) == {"mm": "layer.0.attn.q_proj"}


def test_what_nothing_is_known_of_has_no_label() -> None:
    assert label_nodes([node("iota", "prims.iota.default", None)], MODULES) == {}


def test_what_no_neighbours_name_is_the_containers() -> None:
    alone = inside("add", "aten.add.Tensor", LAYER, 405, 290)
    assert label_nodes([alone, *PASS], MODULES)["add"] == "layer.0"


def test_a_layer_that_was_compiled_by_itself_has_any_index() -> None:
    modules = {
        path.replace("layers.0", "layers.*"): label.replace("layer.0", "layer.*")
        for path, label in MODULES.items()
    }
    nodes = [
        Node(n.name, n.target, n.module.replace("layers.0", "layers.*"), n.frames[1:])
        for n in PASS
        if n.module is not None and n.module.startswith(LAYER)
    ]
    expected = {n: x.replace("layer.0", "layer.*") for n, x in LABELS.items() if "layer.0" in x}
    assert label_nodes(nodes, modules) == expected


@pytest.mark.parametrize(
    ("kernel", "event"),
    [
        ("extern_kernels.mm", "aten::mm"),
        ("torch.ops.aten._scaled_dot_product_flash_attention.default",
         "aten::_scaled_dot_product_flash_attention"),
        ("torch.ops.mkldnn._linear_pointwise.default", "mkldnn::_linear_pointwise"),
        ("aten.index_put_", "aten::index_put_"),
        ("triton_per_fused_add_mean_mul_pow_rsqrt_4", "triton_per_fused_add_mean_mul_pow_rsqrt_4"),
        ("cpp_fused_add_0", "cpp_fused_add_0"),
    ],
)  # fmt: skip
def test_event_names(kernel: str, event: str) -> None:
    assert event_name(kernel) == event


def shares(name: str, listed: list[str], *others: tuple[str, list[str]]) -> dict[str, int]:
    """The parts of the first of some kernels."""
    found = kernel_parts([(name, listed), *others], PASS, LABELS)[0].parts
    return {share.label: share.nodes for share in found}


def test_a_fused_kernel_computes_its_nodes() -> None:
    assert shares("triton_0", ["pow_2", "add_1"]) == {
        "layer.0.residual_attn": 1, "layer.0.post_attention_layernorm": 1,
    }  # fmt: skip


def test_a_librarys_kernel_computes_one_node_whatever_is_upstream() -> None:
    listed = ["clone", "index_put", "sdpa", "mul"]
    name = "torch.ops.aten._scaled_dot_product_flash_attention.default"
    assert shares(name, listed) == {"layer.0.attn.attn_forward": 1}


def test_a_fused_kernel_does_not_compute_what_a_library_does() -> None:
    found = shares("triton_0", ["mm_1", "add_1", "pow_2"], ("extern_kernels.mm", ["mm_1"]))
    assert "layer.0.attn.o_proj" not in found


def test_a_template_computes_what_no_library_does() -> None:
    assert shares("triton_tem_fused_mm_3", ["mm_1", "add_1"]) == {
        "layer.0.attn.o_proj": 1, "layer.0.residual_attn": 1,
    }  # fmt: skip


def test_each_call_of_a_librarys_kernel_has_its_own_node() -> None:
    calls = [("extern_kernels.mm", [name]) for name in ("mm_2", "mm_3", "mm_4")]
    found = [kernel.parts for kernel in kernel_parts(calls, PASS, LABELS)]
    assert found == [
        (PartShare(f"layer.0.ffn.{part}", 1),) for part in ("gate_proj", "up_proj", "down_proj")
    ]


def test_views_count_only_where_there_is_nothing_else() -> None:
    nodes = [*PASS, inside("view", "aten.reshape.default", f"{LAYER}.self_attn.q_proj", 405, 299)]
    named = LABELS | {"view": "layer.0.attn.q_proj"}
    with_more, alone = kernel_parts([("a", ["view", "pow_1"]), ("b", ["view"])], nodes, named)
    assert with_more.parts == (PartShare("layer.0.input_layernorm", 1),)
    assert alone.parts == (PartShare("layer.0.attn.q_proj", 1),)


def test_a_kernel_of_unknown_nodes_has_no_parts() -> None:
    assert shares("triton_0", ["nobody"]) == {}
