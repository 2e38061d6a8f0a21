"""Labels of models that mix tokens by a gated delta net in three layers of four."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Commands
from make.labelled_models import (
    HYBRIDS,
    gaps_without_a_name,
    has_hybrid,
    has_states,
    hybrid_config,
    label_counts,
    modeling,
    prefill_and_decode,
    recorded,
    tiny,
    tiny_hybrid,
    unchanged,
)
from transformers import StaticCache

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import RunError
from qwen3_profile.measure import instrument
from qwen3_profile.measure.executions.cuda_graph import FixedPass
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model.inputs import config_inputs
from qwen3_profile.measure.model.kv_cache import filled_cache, states, static_cache
from qwen3_profile.measure.model.structure import is_gated
from qwen3_profile.measure.ranges import Phase

PADDED = (torch.tensor([[0, 0, 1, 1, 1], [1] * 5]), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6]))
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not has_hybrid(kind), reason="not in it"))
    for kind in HYBRIDS
]
needs_states = pytest.mark.skipif(not has_states(), reason="no static cache for linear layers")
# (container, label before, label after, op) of what is so little that it stays in `other`.
KNOWN_OTHER = {
    ("ffn", None, "router", "aten::view"),
    ("ffn", None, "shared_experts", "aten::view"),
    ("phase", "rotary_emb", "layer", "aten::repeat"),
}
MIXER = {
    "mask_padding", "state_cache", "conv1d", "delta_rule", "gated_norm", "out_proj",
}  # fmt: skip
INPUTS = {
    "qwen3_next": {"in_proj_qkvz", "in_proj_ba"},
    "other": {"in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"},
}


@pytest.mark.parametrize("kind", KINDS)
class TestHybrid:
    @pytest.mark.parametrize("attn", ["sdpa", "eager"])
    @pytest.mark.parametrize(
        "inputs", [pytest.param({}, id="plain"), pytest.param({"masks": PADDED}, id="padded")]
    )
    def test_every_op_has_a_name(
        self, kind: str, attn: str, inputs: dict[str, Any], tmp_path: Path
    ) -> None:
        model = tiny_hybrid(kind)
        model.set_attn_implementation(attn)
        with instrument.labelled(model) as found, recorded(tmp_path) as roots:
            prefill_and_decode(model, **inputs)
        assert [root.name for root in roots] == ["prefill", "decode"]
        assert set(gaps_without_a_name(roots)) <= KNOWN_OTHER
        assert found.missing == found.replaced == ()
        for root in roots:
            assert set(found.expected) <= label_counts([root]).keys()

    def test_a_layer_has_its_own_mixer(self, kind: str, tmp_path: Path) -> None:
        model = tiny_hybrid(kind)
        with instrument.labelled(model) as found, recorded(tmp_path) as roots:
            prefill_and_decode(model)
        counts = label_counts(roots)
        for layer in range(3):
            prefix = f"layer.{layer}.linear_attn."
            inside = {name.removeprefix(prefix) for name in counts if name.startswith(prefix)}
            mixer = MIXER if has_states() else MIXER - {"state_cache"}
            assert inside == mixer | INPUTS.get(kind, INPUTS["other"])
            assert not any(name.startswith(f"layer.{layer}.attn.") for name in counts)
        assert counts["layer.3.attn.output_gate"] == counts["layer.3.attn.o_proj"] == 2
        assert not any(name.startswith("layer.3.linear_attn") for name in counts)
        assert found.moe_layers == frozenset(range(4) if kind != "qwen3_5_text" else ())

    @needs_states
    def test_static_cache(self, kind: str, tmp_path: Path) -> None:
        model = tiny_hybrid(kind)
        cache = StaticCache(config=model.config, max_cache_len=8)
        with instrument.labelled(model) as found, recorded(tmp_path) as roots:
            prefill_and_decode(model, cache=cache)
        for root in roots:
            assert set(found.expected) <= label_counts([root]).keys()

    def test_nothing_else_changes(self, kind: str, tmp_path: Path) -> None:
        model = tiny_hybrid(kind)
        plain = prefill_and_decode(model)
        with unchanged(model), instrument.labelled(model), recorded(tmp_path):
            found = prefill_and_decode(model)
        assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))

    @needs_states
    def test_a_prompt_of_one_token_is_a_prefill(self, kind: str, tmp_path: Path) -> None:
        model = tiny_hybrid(kind)
        given = {"past_key_values": StaticCache(config=model.config, max_cache_len=8)}
        with instrument.labelled(model, passes=True), recorded(tmp_path) as roots, torch.no_grad():
            for _ in range(2):
                model(torch.ones(1, 1, dtype=torch.int64), use_cache=True, **given)
        assert [root.name for root in roots if root.label] == ["prefill", "decode"]


@needs_states
@pytest.mark.parametrize("kind", ["qwen3_next", "qwen3_5_text"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_pass_on_fixed_tensors_begins_anew(kind: str, phase: Phase) -> None:
    """As a graph is captured and replayed: states, which no position rewinds, are put back."""
    if not has_hybrid(kind):
        pytest.skip("not in it")
    model, asked = tiny_hybrid(kind), RunConfig(2, 5, "float32", decode_steps=2, cache="static")
    batch = config_inputs(asked, 64, 1, torch.device("cpu"))
    generation = Generation(model, batch.ids, 2)
    generation.prefill()
    expected = [generation.logits]
    for _ in range(2):
        generation.decode()
        expected.append(generation.logits)
    forward = FixedPass(model, batch, asked, phase)
    places = [each.data_ptr() for each in states(forward._cache)]
    assert len(places) == 6
    for _ in range(3):
        forward.rewind()
        for logits in expected[:1] if phase == "prefill" else expected[1:]:
            forward.run()
            assert forward.logits is not None
            torch.testing.assert_close(forward.logits, logits)
    assert [each.data_ptr() for each in states(forward._cache)] == places


@needs_states
@pytest.mark.parametrize("kind", ["qwen3_next", "qwen3_5_text"])
def test_a_cache_that_is_there_before_the_first_pass(kind: str) -> None:
    if not has_hybrid(kind):
        pytest.skip("not in it")
    model = tiny_hybrid(kind)
    cache = filled_cache(model, 2, 8)
    assert not any(each.is_inference() for each in states(cache))
    found = prefill_and_decode(model, cache=cache)
    places = [each.data_ptr() for each in states(cache)]
    cache.reset()
    again = prefill_and_decode(model, cache=cache)
    for a, b, c in zip(found, again, prefill_and_decode(model), strict=True):
        torch.testing.assert_close(a, c)
        torch.testing.assert_close(b, c)
    assert [each.data_ptr() for each in states(cache)] == places


@pytest.mark.slow
@pytest.mark.skipif(not has_hybrid("qwen3_5_text"), reason="not in it")
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_compiled_kernels_have_the_parts_of_a_mixer(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer of each kind; a chunk, over whose tokens a loop is unrolled, has few of them."""
    from transformers.models.qwen3_5 import modeling_qwen3_5

    rule = inspect.unwrap(modeling_qwen3_5.torch_chunk_gated_delta_rule)
    kinds = {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}
    (tmp_path / "config.json").write_text(json.dumps(hybrid_config("qwen3_5_text") | kinds))
    usual = [8 if value == 64 else value for value in rule.__defaults__]
    monkeypatch.setattr(rule, "__defaults__", tuple(usual))
    done = commands.profile(
        tmp_path, "--model-name", tmp_path, "--dtype", "float32", "--input-len", 6, "--compile",
        "--num-runs", 1,
    )  # fmt: skip
    assert done.code == 0, done.err
    (record,) = done.records()
    found = record["compiled"]
    assert found["refusals"] == []
    seen = {label for kernel in found["kernels"] for label in kernel["labels"]}
    mixer = {f"layer.0.linear_attn.{part}" for part in (MIXER | INPUTS["other"])}
    assert mixer - {"layer.0.linear_attn.mask_padding"} <= seen
    assert "layer.1.attn.output_gate" in seen
    assert not {"layer.0", "layer.0.linear_attn", "layer.1.attn"} & seen


def test_functions_that_a_module_holds_itself(tmp_path: Path) -> None:
    """As transformers 4 has them; its convolution is a call of the module where it has no other."""
    model = tiny_hybrid("qwen3_next")
    names = vars(modeling(model))
    for layer in model.model.layers[:3]:
        layer.linear_attn.chunk_gated_delta_rule = names["torch_chunk_gated_delta_rule"]
        layer.linear_attn.causal_conv1d_fn = None
    with instrument.labelled(model), recorded(tmp_path):
        mixer = model.model.layers[0].linear_attn
        assert mixer.chunk_gated_delta_rule is not names["torch_chunk_gated_delta_rule"]
        assert mixer.causal_conv1d_fn is None
    assert mixer.chunk_gated_delta_rule is names["torch_chunk_gated_delta_rule"]


@pytest.mark.skipif(has_states(), reason="has a static cache for linear layers")
def test_a_static_cache_that_is_not_there() -> None:
    with pytest.raises(RunError, match=r"has no static cache for linear layers; leave out"):
        static_cache(tiny_hybrid("qwen3_next"), 2, 8)


def test_only_gated_attention_has_a_gate() -> None:
    assert not is_gated(tiny("dense").model.layers[0].self_attn)
    assert is_gated(tiny_hybrid("qwen3_next").model.layers[3].self_attn)
