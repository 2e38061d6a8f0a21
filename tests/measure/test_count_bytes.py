"""What a counted pass moves under each label: a two-layer model, against formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make.commands import DENSE, Commands

from qwen3_profile import label_parts
from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.measure import instrument
from qwen3_profile.measure.count_bytes import count_pass
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.executions.train_step import TrainStep, with_gradients
from qwen3_profile.measure.model.inputs import config_inputs
from qwen3_profile.measure.model.load import LoadedModel, load_model
from qwen3_profile.measure.ranges import leaf
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic

HIDDEN, FFN, VOCAB = DENSE["hidden_size"], DENSE["intermediate_size"], DENSE["vocab_size"]
HEADS, KV_HEADS = DENSE["num_attention_heads"], DENSE["num_key_value_heads"]
HEAD = DENSE["head_dim"]
BATCH, LENGTH, STEPS = 2, 8, 3
SIZES = {"float32": 4, "bfloat16": 2}
IDS_BYTES = 8


def norm(rows: int, width: int, size: int) -> Moved:
    """x.float(), x ** 2, their mean, + eps, rsqrt, x * that, to the dtype, weight * that."""
    x, mean = 4 * rows * width, 4 * rows
    operations = [x + x, x + mean, mean + mean, mean + mean, x + mean + x]
    weighted = 2 * size * rows * width + size * width
    if size == 4:  # nothing to cast
        return Moved(6, sum(operations) + weighted)
    cast = (size + 4) * rows * width
    return Moved(8, sum(operations) + weighted + 2 * cast)


def linear(rows: int, into: int, out: int, size: int) -> Moved:
    """The input, the weight and the output, once each."""
    return Moved(1, size * (rows * into + into * out + rows * out))


def expected(rows: int, last: int, size: int) -> dict[str, Moved]:
    """Of a pass over so many tokens, of which so many go through the head."""
    return {
        "embed_tokens": Moved(1, IDS_BYTES * rows + 2 * size * rows * HIDDEN),
        "layer.1.input_layernorm": norm(rows, HIDDEN, size),
        "layer.1.attn.q_proj": linear(rows, HIDDEN, HEADS * HEAD, size),
        "layer.0.attn.k_proj": linear(rows, HIDDEN, KV_HEADS * HEAD, size),
        "layer.0.attn.q_norm": norm(rows * HEADS, HEAD, size),
        "layer.1.residual_attn": Moved(1, 3 * size * rows * HIDDEN),
        "layer.0.ffn.act_mul": Moved(1, 3 * size * rows * FFN),
        "layer.1.ffn.down_proj": linear(rows, FFN, HIDDEN, size),
        "lm_head": linear(last, HIDDEN, VOCAB, size),
        "sample": Moved(1, last * (size * VOCAB + 8)),
    }


@pytest.fixture(scope="module", params=SIZES)
def loaded(commands: Commands, request: pytest.FixtureRequest) -> LoadedModel:
    asked = ModelRequest(str(commands.model), "random")
    return load_model(asked, request.param, None, torch.device("cpu"))


def generation(loaded: LoadedModel, cache: str = "dynamic") -> Generation:
    ids = torch.arange(BATCH * LENGTH).reshape(BATCH, LENGTH)
    return Generation(loaded.model, ids, STEPS, cache)


def test_the_head_of_a_batch_is_one_product_bare_and_counted(loaded: LoadedModel) -> None:
    hidden = torch.zeros(BATCH, LENGTH, HIDDEN, dtype=loaded.model.dtype)

    @torch.inference_mode()
    def head() -> None:
        loaded.model.lm_head(hidden[:, -1:])

    def batched(forward: Callable[[], object]) -> int:
        with torch.profiler.profile() as session:
            forward()
        return sum(event.name == "aten::bmm" for event in session.events())

    assert (batched(head), batched(lambda: count_pass(head))) == (0, 0)


def test_a_prefill_and_a_decode_step_move_what_the_formulas_say(loaded: LoadedModel) -> None:
    size = SIZES[loaded.dtype]
    with instrument.labelled(loaded.model):
        under_way = generation(loaded)
        prefill = count_pass(under_way.prefill).labels
        decode = count_pass(under_way.decode).labels
    for found, rows in ((prefill, BATCH * LENGTH), (decode, BATCH)):
        wanted = expected(rows, BATCH, size)
        assert {label: found[label] for label in wanted} == wanted
    assert {label.rpartition(".")[2] for label in prefill} <= {
        row.name for row in label_parts.PARTS
    }


def test_a_backward_moves_what_the_gradients_of_its_products_take(loaded: LoadedModel) -> None:
    """Of each Linear one product for its input and one for its weight, with two operands each."""
    size, rows, cpu = SIZES[loaded.dtype], BATCH * LENGTH, torch.device("cpu")
    asked = RunConfig(BATCH, LENGTH, loaded.dtype, backward=True)
    step = TrainStep(loaded.model, config_inputs(asked, VOCAB, 0, cpu))
    with with_gradients(loaded.model), instrument.labelled(loaded.model):
        found = count_pass(step.run)

    def products(into: int, out: int) -> Moved:
        return Moved(2, 2 * linear(rows, into, out, size).bytes)

    # Gradients of what goes to several parts are added where the last but one is made.
    added = Moved(1, 3 * size * rows * HIDDEN)
    assert {label: found.backward[label] for label in (
        "lm_head", "layer.1.ffn.down_proj", "layer.0.ffn.up_proj", "layer.1.attn.o_proj",
        "layer.0.attn.v_proj", "layer.0.attn.q_proj", "layer.1.ffn.act_mul",
    )} == {
        "lm_head": products(HIDDEN, VOCAB),
        "layer.1.ffn.down_proj": products(FFN, HIDDEN),
        "layer.0.ffn.up_proj": products(HIDDEN, FFN),
        "layer.1.attn.o_proj": products(HEADS * HEAD, HIDDEN),
        "layer.0.attn.v_proj": products(HIDDEN, KV_HEADS * HEAD),
        "layer.0.attn.q_proj": products(HIDDEN, HEADS * HEAD) + added,
        "layer.1.ffn.act_mul": Moved(2, 2 * 3 * size * rows * FFN),
    }  # fmt: skip
    assert "layer.0.residual_attn" not in found.backward  # a gradient that goes both ways
    assert {each for each in found.backward if not each.endswith("split_heads")} - {""} <= {
        *found.labels
    }
    assert found.labels["layer.0.ffn.up_proj"] == linear(rows, HIDDEN, FFN, size)
    assert found.backward[""].operations == 1  # the gradient of the loss, which is one


def test_a_cache_that_grows_is_copied_and_a_static_one_is_written(loaded: LoadedModel) -> None:
    size, key = SIZES[loaded.dtype], "layer.0.attn.kv_cache"
    one = size * BATCH * KV_HEADS * HEAD
    found = {}
    with instrument.labelled(loaded.model):
        for cache in ("dynamic", "static"):
            under_way = generation(loaded, cache)
            under_way.prefill()
            found[cache] = count_pass(under_way.decode).labels[key]
    # Keys and values: the old ones and the new one are read, and all of them written.
    assert found["dynamic"] == Moved(2, 2 * (2 * LENGTH + 2) * one)
    positions = found["static"].bytes - 2 * 2 * one if found["static"].bytes else 0
    assert 0 < positions < 200


def test_attention_over_a_longer_context_moves_more(loaded: LoadedModel) -> None:
    under_way = generation(loaded)
    with instrument.labelled(loaded.model):
        under_way.prefill()
        steps = [count_pass(under_way.decode).labels["layer.0.attn.attn_forward"] for _ in range(2)]
    row = 2 * SIZES[loaded.dtype] * BATCH * KV_HEADS * HEAD
    assert steps[1].bytes is not None
    assert steps[0].bytes is not None
    assert steps[1].bytes - steps[0].bytes == row


def test_nothing_is_counted_outside_nor_changed(loaded: LoadedModel) -> None:
    plain, counted = generation(loaded), generation(loaded)
    plain.prefill()
    with instrument.labelled(loaded.model):
        traffic = count_pass(counted.prefill)
    assert torch.equal(plain.logits, counted.logits)
    assert traffic.total.bytes == sum(each.bytes or 0 for each in traffic.labels.values())


LABELS = ("embed_tokens", "layer.0", "layer.0.attn", "layer.0.attn.q_proj", "norm", "lm_head")
OPERATIONS: dict[str, Any] = {
    "add": lambda x: x + 1,
    "transpose": lambda x: x.t(),
    "relu": torch.relu,
    "sum": lambda x: x.sum(),
}


@given(
    st.lists(
        st.tuples(st.sampled_from(LABELS), st.lists(st.sampled_from(list(OPERATIONS)), max_size=3)),
        max_size=6,
    ),
    st.integers(1, 5),
)
def test_the_sum_of_the_labels_is_that_of_the_operators(
    parts: list[tuple[str, list[str]]], width: int
) -> None:
    """Whatever is open, and also between the labels."""
    x = torch.zeros(width, width)

    def forward() -> None:
        for label, names in parts:
            with leaf(label):
                for name in names:
                    OPERATIONS[name](x)
            torch.relu(x)

    found: Traffic = count_pass(forward)
    whole = {"add": 8 * width**2, "relu": 8 * width**2, "transpose": 0, "sum": 4 * width**2 + 4}
    bytes_ = sum(whole[name] for _, names in parts for name in names) + len(parts) * 8 * width**2
    assert found.total.bytes == bytes_ == sum(each.bytes or 0 for each in found.labels.values())
