"""The formulas of a pass's FLOPs against torch's own counter, label by label, on tiny models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from make.labelled_models import HYBRIDS, SHAPE, has_hybrid, tiny, tiny_hybrid
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from transformers import StaticCache

from qwen3_profile import labels
from qwen3_profile.config import RunConfig
from qwen3_profile.measure import count_bytes, instrument, ranges
from qwen3_profile.measure.executions.train_step import TrainStep, with_gradients
from qwen3_profile.measure.model.adapters import adapters_of
from qwen3_profile.measure.model.experts import experts_of
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.model.transformers_compat import shape_of
from qwen3_profile.records import flops
from qwen3_profile.records.flops import PassSize, attention_pairs, forward_flops
from qwen3_profile.records.pass_flops import pass_flops

BATCH, LENGTH = 2, 70
KINDS = ("dense", "moe", *HYBRIDS)


def counted(forward: Callable[[], object]) -> dict[str, int]:
    """Label -> FLOPs that torch counts inside it, without those inside labels in it."""
    mode, found, inside = FlopCounterMode(display=False), Counter(), [0]

    @contextmanager
    def opened(label: str) -> Iterator[None]:
        before = mode.get_total_flops()
        inside.append(0)
        yield
        whole = mode.get_total_flops() - before
        found[label] += whole - inside.pop()
        inside[-1] += whole

    with ranges.redirect_ranges(opened), mode:
        forward()
    found["outside of all labels"] = mode.get_total_flops() - inside[0]
    return {label: count for label, count in found.items() if count}


def model_of(kind: str) -> Any:
    """A tiny model in which torch sees every product: eager attention, experts one by one."""
    if kind in HYBRIDS and not has_hybrid(kind):
        pytest.skip("this transformers has no such model")
    model = tiny(kind, "eager") if kind not in HYBRIDS else tiny_hybrid(kind)
    model.set_attn_implementation("eager")
    if experts_of(model) not in ("", "eager"):
        model.set_experts_implementation("eager")
    return model


def size_of(phase: str, attention: str = "eager", **config: Any) -> PassSize:
    asked = RunConfig(batch_size=BATCH, input_len=LENGTH, decode_steps=2, **config)
    is_decode = phase == "decode"
    return PassSize(
        sequences=BATCH,
        tokens=1 if is_decode else LENGTH,
        pairs=attention_pairs(asked, phase, 0, attention, (LENGTH,) * BATCH),
        logits=BATCH,
        is_decode=is_decode,
        keeps_scores=attention == "eager",
    )


def unseen(shape: Any, size: PassSize, expected: dict[str, int]) -> dict[str, int]:
    """What torch does not count: systems of equations, and the recurrent rule by elements."""
    return {
        label: count if size.is_decode else flops.triangular_flops(shape, size)
        for label, count in expected.items()
        if label.endswith(".delta_rule")
    }


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_part_computes_what_torch_counts(kind: str, phase: str) -> None:
    model, ids = model_of(kind), torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 60
    with instrument.labelled(model) as labelled, torch.inference_mode():
        given = {"input_ids": ids, "use_cache": True, "logits_to_keep": 1}
        if phase == "decode":
            past = model(**given).past_key_values
            given |= {"input_ids": ids[:, :1], "past_key_values": past}
        found = counted(lambda: model(**given))
    shape = shape_of(model.config)
    size = size_of(phase)
    expected = pass_flops(shape, size, labelled.expected, trains=False)
    for label, count in unseen(shape, size, dict(expected.forward)).items():
        assert found.get(label, 0) + count == expected.forward[label]
        found[label] = expected.forward[label]
    unknown = {label for label in found if labels.part_of(label).split(".")[-1] in expected.unknown}
    assert {k: v for k, v in found.items() if k not in unknown} == expected.forward
    assert bool(unknown) == (kind == "qwen4_exp_text")


@pytest.mark.parametrize(
    ("attention", "phase"), [("eager", "prefill"), ("eager", "decode"), ("sdpa", "decode")]
)
def test_attention_reads_the_whole_of_a_static_cache(attention: str, phase: str) -> None:
    model = tiny("dense", attention)
    ids = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 60
    past = StaticCache(config=model.config, max_cache_len=LENGTH + 2)
    # The kernel of plain products, the only one of which torch counts what it is given.
    with instrument.labelled(model), torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        found = counted(lambda: model(ids, past_key_values=past, use_cache=True))
        if phase == "decode":
            found = counted(lambda: model(ids[:, :1], past_key_values=past, use_cache=True))
    size = size_of(phase, attention, cache="static")
    expected = flops.attention_flops(shape_of(model.config), size)
    assert found["layer.0.attn.attn_forward"] == expected


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_training_step_computes_what_torch_counts(kind: str, attention: str) -> None:
    model = model_of(kind)
    model.set_attn_implementation(attention)
    ids = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 60
    step = TrainStep(model, Inputs(ids, None, (LENGTH,) * BATCH))
    with with_gradients(model), instrument.labelled(model) as labelled:
        found = counted(step.run)
    size = PassSize(
        sequences=BATCH,
        tokens=LENGTH,
        pairs=BATCH * LENGTH * LENGTH,
        logits=BATCH * LENGTH,
        keeps_scores=attention == "eager",
    )
    expected = pass_flops(shape_of(model.config), size, labelled.expected, trains=True)
    ours = {**expected.forward, labels.BACKWARD: sum(expected.backward.values())}
    if attention == "sdpa":  # its kernel on a CPU is none that torch counts
        for label in [each for each in ours if each.endswith("attn_forward")]:
            ours[labels.BACKWARD] -= expected.backward[label]
            del ours[label]
    assert found == ours


def torchs_flops(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """What torch's counter says of one operator."""
    formula = flop_registry.get(func.overloadpacket)
    return formula(*args, **kwargs, out_val=out) if formula else 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_a_backward_computes_what_torch_counts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's counter knows no parts in a backward; so its formulas are asked operator by operator,
    and the counting of bytes tells which part each is of.
    """
    monkeypatch.setattr(count_bytes, "op_bytes", torchs_flops)
    model = model_of(kind)
    ids = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 60
    step = TrainStep(model, Inputs(ids, None, (LENGTH,) * BATCH))
    with with_gradients(model), instrument.labelled(model) as labelled:
        found = count_bytes.count_pass(step.run)
    size = PassSize(BATCH, LENGTH, BATCH * LENGTH * LENGTH, BATCH * LENGTH, keeps_scores=True)
    shape = shape_of(model.config)
    expected = pass_flops(shape, size, labelled.expected, trains=True)
    wanted, torchs = dict(expected.backward), {k: each.bytes for k, each in found.backward.items()}
    for label in found.backward:
        if label.endswith(".delta_rule"):
            wanted[label] -= flops.triangular_flops(shape, size)
        elif label.endswith(".conv1d"):  # where torch multiplies each channel with all others
            assert torchs[label] > wanted[label] == 2 * expected.forward[label]
            torchs[label] = wanted[label]
    unknown = {label for label in torchs if label.split(".")[-1] in expected.unknown}
    assert {k: v for k, v in torchs.items() if k not in unknown} == wanted


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("dense", ("q_proj", "v_proj")),
        ("dense", ("k_proj",)),
        ("dense", ("v_proj",)),
        ("dense", ("o_proj",)),
        ("dense", ("up_proj",)),
        ("dense", ("down_proj",)),
        ("dense", ("lm_head",)),
        ("dense", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
        ("moe", ("q_proj", "k_proj")),
        ("moe", ("o_proj",)),
    ],
)
def test_every_part_of_an_adapters_backward_computes_what_torch_counts(
    kind: str, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen weights get no gradient, and their inputs where an adapter lies before them."""
    peft = pytest.importorskip("peft")
    monkeypatch.setattr(count_bytes, "op_bytes", torchs_flops)
    model = model_of(kind)
    lora = peft.LoraConfig(r=3, target_modules=[*parts], init_lora_weights=False)
    model = peft.get_peft_model(model, lora).get_base_model()
    ids = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 60
    step = TrainStep(model, Inputs(ids, None, (LENGTH,) * BATCH))
    with with_gradients(model), instrument.labelled(model) as labelled:
        found = count_bytes.count_pass(step.run)
    (adapter,) = adapters_of(model)
    assert set(adapter.parts) == set(parts)
    size = PassSize(
        BATCH, LENGTH, BATCH * LENGTH * LENGTH, BATCH * LENGTH, keeps_scores=True,
        adapters=(adapter,),
    )  # fmt: skip
    expected = pass_flops(shape_of(model.config), size, labelled.expected, trains=True)
    assert not expected.unknown
    torchs = {label: each.bytes for label, each in found.backward.items() if each.bytes}
    assert torchs == expected.backward


def test_flash_attention_computes_its_scores_twice_in_a_backward() -> None:
    """torch's own formula on the meta device, where nothing has to run; it counts all pairs."""
    heads, keys, width = SHAPE["num_attention_heads"], SHAPE["num_key_value_heads"], 16
    shape = (BATCH, heads, LENGTH, width)
    with torch.device("meta"), FlopCounterMode(display=False) as mode:
        query = torch.empty(shape, dtype=torch.bfloat16, requires_grad=True)
        key = torch.empty((BATCH, keys, LENGTH, width), dtype=torch.bfloat16)
        out = torch.ops.aten._scaled_dot_product_flash_attention(query, key, key)[0]
        before = mode.get_total_flops()
        out.sum().backward()
    pairs = BATCH * LENGTH * LENGTH
    assert before == 4 * pairs * heads * width
    assert mode.get_total_flops() - before == 10 * pairs * heads * width


@pytest.mark.parametrize(
    ("attention", "cache", "phase", "pairs"),
    [
        ("sdpa", "dynamic", "prefill", 2 * 8 * 9 // 2),
        ("eager", "dynamic", "prefill", 2 * 8 * 8),
        ("eager", "static", "prefill", 2 * 8 * 10),
        ("sdpa", "static", "prefill", 2 * 8 * 9 // 2),
        ("flash_attention_2", "dynamic", "prefill", 2 * 8 * 9 // 2),
        ("sdpa", "dynamic", "decode", 2 * (8 + 2)),
        ("eager", "static", "decode", 2 * (8 + 2)),
    ],
)
def test_pairs(attention: str, cache: str, phase: str, pairs: int) -> None:
    config = RunConfig(batch_size=2, input_len=8, decode_steps=2, cache=cache)
    assert attention_pairs(config, phase, 1, attention, (8, 8)) == pairs


@pytest.mark.parametrize(
    ("attention", "phase", "pairs"),
    [
        ("sdpa", "prefill", 2 * 8 * 8),
        ("flash_attention_2", "prefill", 8 * 9 // 2 + 3 * 4 // 2),
        ("flash_attention_2", "decode", (8 + 2) + (3 + 2)),
    ],
)
def test_padding_is_computed_unless_a_kernel_leaves_it_out(
    attention: str, phase: str, pairs: int
) -> None:
    config = RunConfig(batch_size=2, input_len=8, decode_steps=2, inputs="ragged")
    assert attention_pairs(config, phase, 1, attention, (8, 3)) == pairs


def test_experts_compute_for_the_tokens_that_they_got() -> None:
    shape = shape_of(tiny("moe").config)
    even = size_of("prefill")
    uneven = PassSize(BATCH, LENGTH, even.pairs, BATCH, routed={0: 7})
    hidden, wide = shape.hidden_size, shape.experts.moe_intermediate_size
    assert forward_flops(shape, uneven)["layer.0.ffn.experts"] == 7 * 6 * hidden * wide
    top_k = shape.experts.num_experts_per_tok
    assert forward_flops(shape, even)["layer.0.ffn.experts"] == (
        BATCH * LENGTH * top_k * 6 * hidden * wide
    )
