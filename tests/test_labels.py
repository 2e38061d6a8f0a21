"""The grammar: what is a label, what is not, and what lies between two labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile import labels
from qwen3_profile.analysis.part_rows import FAMILIES
from qwen3_profile.label_parts import PARTS, Gap, PartSpec, blocks
from qwen3_profile.labels import Label

PARTS_ALONE = [row for row in PARTS if isinstance(row, PartSpec)]
ATTN = ("q_proj", "q_norm", "k_proj", "k_norm", "v_proj", "rope", "kv_cache", "attn_forward")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        pytest.param("prefill", Label("phase", "prefill"), id="phase"),
        pytest.param("decode", Label("phase", "decode"), id="other phase"),
        pytest.param("embed_tokens", Label("leaf", "embed_tokens"), id="part of the model"),
        pytest.param("norm", Label("leaf", "norm"), id="part with a common name"),
        pytest.param("layer.0", Label("layer", "layer", 0), id="first layer"),
        pytest.param("layer.93", Label("layer", "layer", 93), id="two digits"),
        pytest.param("layer.99999", Label("layer", "layer", 99999), id="five digits"),
        pytest.param("layer.7.attn", Label("attn", "attn", 7), id="attention"),
        pytest.param("layer.7.ffn", Label("ffn", "ffn", 7), id="feed-forward"),
        pytest.param(
            "layer.7.input_layernorm", Label("leaf", "input_layernorm", 7), id="norm of a layer"
        ),
        pytest.param(
            "layer.7.attn.attn_forward",
            Label("leaf", "attn_forward", 7, "attn"),
            id="part of attention",
        ),
        pytest.param("layer.7.ffn.act_fn", Label("leaf", "act_fn", 7, "ffn"), id="part of ffn"),
        pytest.param("layer.7.ffn.experts", Label("leaf", "experts", 7, "ffn"), id="experts"),
    ],
)
def test_labels(text: str, label: Label) -> None:
    assert labels.parse(text) == label


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("aten::mm", id="op"),
        pytest.param("ProfilerStep#3", id="step"),
        pytest.param("other", id="the name of a rest"),
        pytest.param("prefill ", id="space behind"),
        pytest.param("norm\n", id="line end behind"),
        pytest.param("Prefill", id="capital"),
        pytest.param("layer", id="no index"),
        pytest.param("layer.", id="empty index"),
        pytest.param("layer.-1", id="negative index"),
        pytest.param("layer.07", id="leading zero"),
        pytest.param("layer.100000", id="six digits"),
        pytest.param("layer.٣", id="digit of another script"),
        pytest.param("layer.7.", id="empty block"),
        pytest.param("layer.7.mlp", id="unknown block"),
        pytest.param("layer.7.norm", id="part of the model in a layer"),
        pytest.param("layer.7.attn.", id="empty part"),
        pytest.param("layer.7.attn.up_proj", id="part of the other block"),
        pytest.param("layer.7.ffn.q_proj", id="part of the other block, in ffn"),
        pytest.param("layer.7.input_layernorm.q_proj", id="part of a part"),
        pytest.param("layer.7.attn.q_proj.x", id="four words"),
        pytest.param("model.layer.7", id="prefix"),
    ],
)
def test_what_is_no_label(text: str) -> None:
    assert labels.parse(text) is None


@pytest.mark.parametrize(
    ("kind", "before", "after", "name"),
    [
        pytest.param("layer", "attn", "post_attention_layernorm", "residual_attn", id="1st add"),
        pytest.param("layer", "ffn", None, "residual_ffn", id="2nd add, at the edge"),
        pytest.param("layer", "input_layernorm", "attn", None, id="nothing lies there"),
        pytest.param(
            "layer",
            "input_layernorm",
            "post_attention_layernorm",
            "linear_attn",
            id="a mixer without a label",
        ),
        pytest.param("phase", "embed_tokens", "causal_mask", "positions", id="positions"),
        pytest.param("phase", "causal_mask", "rotary_emb", "positions", id="positions, behind it"),
        pytest.param("phase", "norm", "lm_head", "select_last", id="last position"),
        pytest.param("phase", "norm", None, None, id="an exact gap only"),
        pytest.param("phase", "lm_head", None, None, id="after the last label"),
        pytest.param("attn", "q_proj", "q_norm", "split_heads", id="view of q"),
        pytest.param("attn", "k_norm", "v_proj", "split_heads", id="transpose of k"),
        pytest.param("attn", "v_proj", "rope", "split_heads", id="view of v"),
        pytest.param("attn", "attn_forward", "o_proj", "merge_heads", id="heads together"),
        pytest.param("attn", "rope", "kv_cache", None, id="nothing between rope and cache"),
        pytest.param("attn", "output_gate", "o_proj", "output_gate", id="gated attention"),
        pytest.param("linear_attn", "in_proj_qkv", "in_proj_z", "split_heads", id="transpose"),
        pytest.param("linear_attn", "in_proj_a", "conv1d", "split_heads", id="reshape of z"),
        pytest.param("linear_attn", "state_cache", "conv1d", "split_heads", id="in front of conv"),
        pytest.param("linear_attn", "conv1d", "delta_rule", "gates", id="beta and decay"),
        pytest.param("linear_attn", "delta_rule", "state_cache", "merge_heads", id="behind it"),
        pytest.param("linear_attn", "state_cache", "gated_norm", "merge_heads", id="before it"),
        pytest.param("linear_attn", "gated_norm", "out_proj", "merge_heads", id="one row again"),
        pytest.param("layer", "linear_attn", "post_attention_layernorm", "residual_attn", id="add"),
        pytest.param("ffn", "up_proj", "down_proj", "act_mul", id="gate times up"),
        pytest.param("ffn", "router", "experts", "routing", id="top-k"),
        pytest.param("ffn", "experts", "experts", "routing", id="from expert to expert"),
        pytest.param("ffn", "experts", None, "combine", id="experts' sum"),
        pytest.param("ffn", None, "router", None, id="before the first label"),
        pytest.param("attn", "up_proj", "down_proj", None, id="neighbours of another container"),
        pytest.param("leaf", "q_proj", "q_norm", None, id="a part contains no gaps"),
    ],
)
def test_gap_names(kind: str, before: str | None, after: str | None, name: str | None) -> None:
    assert labels.gap_name(kind, before, after) == name


def test_gaps_are_listed_by_container() -> None:
    found = [(row.block, row.name) for row in PARTS if isinstance(row, Gap)]
    named = {(row.block, gap) for row in PARTS_ALONE for gap in row.then.values()}
    # What an empty label stands in front of has that label's name.
    assert sorted(found) == sorted(named - {(row.block, row.name) for row in PARTS_ALONE})


def test_every_row_has_a_name_of_its_own() -> None:
    names = [(row.block, row.name) for row in PARTS]
    assert len(names) == len(set(names))
    assert not {name for _, name in names} & {*labels.PHASES, labels.OTHER, labels.GRAPH_REPLAY}
    assert {row.block for row in PARTS} == {"phase", "layer", "leaf", *blocks()}


def test_every_row_outside_of_blocks_has_a_colour() -> None:
    rows = [row for row in PARTS if row.block in ("phase", "layer")]
    assert {row.family for row in rows} == set(FAMILIES)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            ("embed_tokens", "positions", "layer.0.input_layernorm", "layer.0.attn.q_norm",
             "layer.0.attn.rope", "layer.0.attn.merge_heads", "layer.0.residual_attn",
             "layer.0.post_attention_layernorm", "layer.0.ffn.act_mul", "layer.0.residual_ffn",
             "layer.0.ffn.lora", "layer.1.input_layernorm", "layer.10.attn", "norm", "lm_head", ""),
            id="as a pass comes by them",
        ),
        pytest.param(("lora", "layer.0.input_layernorm"), id="unknown, outside of the layers"),
        pytest.param(("layer.3.attn.o_proj", "layer.3.attn", "layer.3.lora"), id="containers"),
    ],
)  # fmt: skip
def test_places(names: tuple[str, ...]) -> None:
    assert tuple(sorted(sorted(names), key=labels.place)) == names


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param((0,), "layer.0", id="layer"),
        pytest.param((7, "attn"), "layer.7.attn", id="block"),
        pytest.param((7, "attn", "q_proj"), "layer.7.attn.q_proj", id="part"),
    ],
)
def test_layer_label(words: tuple[int, str, str], text: str) -> None:
    assert labels.layer_label(*words) == text


BLOCKS_AND_PARTS = [
    (None, None),
    *((row.name, None) for row in PARTS_ALONE if row.block == "layer"),
    *((row.block, row.name) for row in PARTS_ALONE if row.block in blocks()),
]


@given(layer=st.integers(0, 99999), block_and_part=st.sampled_from(BLOCKS_AND_PARTS))
def test_what_is_written_is_read(layer: int, block_and_part: tuple[str | None, str | None]) -> None:
    block, part = block_and_part
    label = labels.parse(labels.layer_label(layer, block, part))
    assert label is not None
    assert (label.layer, label.name) == (layer, part or block or "layer")
    assert label.block == (block if part else None)


@given(st.text() | st.from_regex(r"layer\.[0-9]+(\.[a-z_]+){0,3}", fullmatch=True))
def test_what_is_read_was_written(text: str) -> None:
    label = labels.parse(text)
    if label is not None and label.layer is not None:
        block = label.block or (None if label.kind == "layer" else label.name)
        assert text == labels.layer_label(label.layer, block, label.name if label.block else None)


@pytest.mark.parametrize(
    ("num_layers", "moe_layers", "count"),
    [
        # 4 parts of the model; a layer has itself, 4 blocks, 9 parts of attention, 4 of ffn
        pytest.param(1, frozenset(), 4 + 18, id="one dense layer"),
        pytest.param(28, frozenset(), 4 + 28 * 18, id="0.6B"),
        pytest.param(2, frozenset({0}), 4 + 18 + 16, id="one layer of each"),
        pytest.param(48, frozenset(range(48)), 4 + 48 * 16, id="30B-A3B"),
    ],
)
def test_expected_labels(num_layers: int, moe_layers: frozenset[int], count: int) -> None:
    expected = list(labels.expected_labels(num_layers, moe_layers))
    assert len(expected) == len(set(expected)) == count
    assert all(labels.parse(text) for text in expected)


def test_expected_labels_of_a_layer_of_each_kind() -> None:
    expected = list(labels.expected_labels(2, frozenset({1})))
    assert expected == [
        "embed_tokens",
        "rotary_emb",
        "norm",
        "lm_head",
        "layer.0",
        "layer.0.input_layernorm",
        "layer.0.attn",
        *(f"layer.0.attn.{part}" for part in (*ATTN, "o_proj")),
        "layer.0.post_attention_layernorm",
        "layer.0.ffn",
        *(f"layer.0.ffn.{part}" for part in ("gate_proj", "act_fn", "up_proj", "down_proj")),
        "layer.1",
        "layer.1.input_layernorm",
        "layer.1.attn",
        *(f"layer.1.attn.{part}" for part in (*ATTN, "o_proj")),
        "layer.1.post_attention_layernorm",
        "layer.1.ffn",
        *(f"layer.1.ffn.{part}" for part in ("router", "experts")),
    ]
