"""The published shapes: their tables, the arithmetic on them, and the names they answer to."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model import published_shapes
from qwen3_profile.measure.model.published_shapes import PUBLISHED
from qwen3_profile.run_folder.model_shape import Experts, Shape

# Total, outside the embeddings, per token, KV bytes per token in bfloat16; counted on the
# classes of transformers, and in agreement with the model cards.
COUNTS = [
    pytest.param("0.6B", 596_049_920, 440_467_456, 596_049_920, 114_688, id="0.6B"),
    pytest.param("1.7B", 1_720_574_976, 1_409_410_048, 1_720_574_976, 114_688, id="1.7B"),
    pytest.param("4B", 4_022_468_096, 3_633_511_936, 4_022_468_096, 147_456, id="4B"),
    pytest.param("8B", 8_190_735_360, 6_946_075_648, 8_190_735_360, 147_456, id="8B"),
    pytest.param("14B", 14_768_307_200, 13_212_482_560, 14_768_307_200, 163_840, id="14B"),
    pytest.param("32B", 32_762_123_264, 31_206_298_624, 32_762_123_264, 262_144, id="32B"),
    pytest.param("30B-A3B", 30_532_122_624, 29_909_792_768, 3_353_032_704, 98_304, id="30B-A3B"),
    pytest.param(
        "235B-A22B", 235_093_634_560, 233_848_974_848, 22_190_763_520, 192_512, id="235B-A22B"
    ),
    pytest.param(
        "Coder-480B-A35B-Instruct",
        480_154_875_392,
        478_287_885_824,
        35_474_765_312,
        253_952,
        id="480B",
    ),
]


@pytest.mark.parametrize(("size", "total", "non_embedding", "active", "kv_bytes"), COUNTS)
def test_parameter_counts(
    size: str, total: int, non_embedding: int, active: int, kv_bytes: int
) -> None:
    shape = PUBLISHED[f"Qwen/Qwen3-{size}"]
    matrices = 1 if shape.tie_word_embeddings else 2
    assert published_shapes.parameter_count(shape) == total
    assert total - matrices * shape.vocab_size * shape.hidden_size == non_embedding
    assert published_shapes.active_parameter_count(shape) == active
    assert published_shapes.kv_bytes_per_token(shape, 2) == kv_bytes


@pytest.mark.parametrize(
    ("name", "context", "theta", "intermediate"),
    [
        pytest.param("0.6B", 40960, 1e6, 3072, id="the first dense ones"),
        pytest.param("14B-Base", 32768, 1e6, 17408, id="dense base"),
        pytest.param("30B-A3B-Base", 32768, 1e6, 6144, id="base with experts"),
        pytest.param("4B-Thinking-2507", 262144, 5e6, 9728, id="dense 2507"),
        pytest.param("30B-A3B-Instruct-2507", 262144, 1e7, 6144, id="30B 2507"),
        pytest.param("235B-A22B", 40960, 1e6, 12288, id="235B keeps the first rotary base"),
        pytest.param("235B-A22B-Thinking-2507", 262144, 5e6, 12288, id="235B 2507"),
        pytest.param("Coder-30B-A3B-Instruct", 262144, 1e7, 5472, id="coder 30B"),
        pytest.param("Coder-480B-A35B-Instruct", 262144, 1e7, 8192, id="coder 480B"),
    ],
)
def test_what_variants_change(name: str, context: int, theta: float, intermediate: int) -> None:
    shape = PUBLISHED[f"Qwen/Qwen3-{name}"]
    assert shape.max_position_embeddings == context
    assert shape.rope_theta == theta
    assert shape.intermediate_size == intermediate


OF_TEXT = [
    name
    for name, shape in PUBLISHED.items()
    if shape.linear is None and not any(word in name for word in ("-VL-", "Omni", "Emb", "Rer"))
]


@pytest.mark.parametrize("name", OF_TEXT)
def test_every_shape_is_a_qwen3(name: str) -> None:
    shape = PUBLISHED[name]
    assert shape.sources
    assert (shape.vocab_size, shape.head_dim, shape.rms_norm_eps) == (151936, 128, 1e-6)
    assert shape.num_attention_heads % shape.num_key_value_heads == 0
    assert shape.tie_word_embeddings == (published_shapes.parameter_count(shape) < 5e9)
    assert (shape.experts is not None) == ("-A" in name)
    assert shape.moe_layers == frozenset(range(shape.num_hidden_layers if shape.experts else 0))


def _sparse(step: int, dense: tuple[int, ...], layers: int = 6) -> Shape:
    experts = Experts(4, 2, 16, decoder_sparse_step=step, mlp_only_layers=dense)
    return Shape(8, 32, layers, 2, 1, False, head_dim=4, vocab_size=10, experts=experts)


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        pytest.param(_sparse(1, ()), {0, 1, 2, 3, 4, 5}, id="all"),
        pytest.param(_sparse(2, ()), {1, 3, 5}, id="every second, counted from one"),
        pytest.param(_sparse(1, (0, 4)), {1, 2, 3, 5}, id="but for the dense ones"),
        pytest.param(_sparse(3, (5,)), {2}, id="both"),
        pytest.param(dataclasses.replace(_sparse(1, ()), experts=None), set(), id="dense model"),
    ],
)
def test_moe_layers(shape: Shape, layers: set[int]) -> None:
    assert shape.moe_layers == layers


def test_mixed_layers_by_hand() -> None:
    # Embedding and head 2 x 10 x 8, last norm 8. Each layer: q and o 2 x 8 x 8, k and v 2 x 8 x 4,
    # their norms 2 x 4, the layer's norms 2 x 8. Dense: 3 x 8 x 32; sparse: 4 x (3 x 8 x 16 + 8).
    shape = _sparse(2, (), layers=2)
    assert published_shapes.parameter_count(shape) == 168 + 2 * (192 + 8 + 16) + 768 + 1568
    assert (
        published_shapes.active_parameter_count(shape)
        == published_shapes.parameter_count(shape) - 2 * 384
    )


@pytest.mark.parametrize(
    ("asked", "name", "is_alias"),
    [
        pytest.param("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", False, id="as published"),
        pytest.param("qwen/qwen3-8b", "Qwen/Qwen3-8B", False, id="lower case"),
        pytest.param("Qwen3-30B-a3b", "Qwen/Qwen3-30B-A3B", False, id="without its owner"),
        pytest.param("Qwen/Qwen3-0.5B", "Qwen/Qwen3-0.6B", True, id="never published"),
        pytest.param("qwen3-0.5b", "Qwen/Qwen3-0.6B", True, id="never published, lower case"),
        pytest.param("Qwen3.5-9B", "Qwen/Qwen3.5-9B", False, id="a hybrid"),
        pytest.param(
            "Qwen3-Next-80B-A3B", "Qwen/Qwen3-Next-80B-A3B-Instruct", True, id="without its ending"
        ),
    ],
)
def test_names_that_are_understood(asked: str, name: str, is_alias: bool) -> None:
    assert published_shapes.lookup(asked) == published_shapes.Found(name, PUBLISHED[name], is_alias)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        pytest.param("Qwen/Qwen3-7B", "did you mean Qwen/Qwen3-", id="a size that is not there"),
        pytest.param(
            "Qwen3-Coder-30B-A3B-Instr", "Qwen/Qwen3-Coder-30B-A3B-Instruct?", id="half a name"
        ),
        pytest.param("Qwen/Qwen3-4B-Thinking", "Qwen/Qwen3-4B-Thinking-2507?", id="undated"),
        pytest.param("someone/Qwen3-8B", "Qwen/Qwen3-8B?", id="another owner"),
        pytest.param("gpt2", "the known ones are Qwen3-0.6B, ", id="nothing near"),
    ],
)
def test_unknown_names(asked: str, hint: str) -> None:
    assert published_shapes.lookup(asked) is None
    line = published_shapes.nearest(asked)
    assert hint in line
    assert all(name.removeprefix("Qwen/") in line for name in PUBLISHED)


@pytest.mark.parametrize(
    ("asked", "base", "how"),
    [
        pytest.param("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B", "FP8", id="FP8"),
        pytest.param("qwen3-8b-awq", "Qwen/Qwen3-8B", "awq", id="AWQ, lower case"),
        pytest.param(
            "Qwen3-30B-A3B-GPTQ-Int4", "Qwen/Qwen3-30B-A3B", "GPTQ-Int4", id="GPTQ with its bits"
        ),
        pytest.param("Qwen3.6-27B-GGUF", "Qwen/Qwen3.6-27B", "GGUF", id="GGUF of a hybrid"),
        pytest.param(
            "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "Qwen/Qwen3-30B-A3B-Instruct-2507", "FP8",
            id="behind a date",
        ),
    ],
)  # fmt: skip
def test_a_quantised_model_has_the_shape_of_its_base(asked: str, base: str, how: str) -> None:
    found = published_shapes.lookup(asked)
    assert found is not None
    assert found.name == f"{base}{asked[-len(how) - 1 :]}"
    assert (found.shape, found.quantised, found.is_alias) == (PUBLISHED[base], how, False)


@pytest.mark.parametrize("asked", ["Qwen3-8B-FP9", "gpt2-FP8", "Qwen/Qwen3-0.5B-FP8", "-FP8"])
def test_what_is_quantised_of_nothing_known(asked: str) -> None:
    assert published_shapes.lookup(asked) is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("Qwen3-VL-4B-Instruct", "only its text tower", id="sees"),
        pytest.param("Qwen3-Omni-30B-A3B-Instruct", "only its text tower", id="hears"),
        pytest.param("Qwen3-Embedding-0.6B", "makes no use", id="makes vectors"),
        pytest.param("Qwen3-8B", "", id="a plain decoder"),
    ],
)
def test_remarks(name: str, told: str) -> None:
    found = published_shapes.lookup(name)
    assert found is not None
    lines = published_shapes.remarks(found)
    assert bool(lines) == bool(told)
    assert all(told in line and found.name in line for line in lines)


def test_cut() -> None:
    shape = PUBLISHED["Qwen/Qwen3-0.6B"]
    assert published_shapes.cut("x", shape, None) is shape
    assert published_shapes.cut("x", shape, 28) == shape
    assert published_shapes.cut("x", shape, 3).num_hidden_layers == 3
    with pytest.raises(ModelError, match="x has 28 layers, 29 were asked for; take 1 to 28"):
        published_shapes.cut("x", shape, 29)


def test_needs_no_torch() -> None:
    code = (
        "import sys, qwen3_profile.measure.model.published_shapes; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
