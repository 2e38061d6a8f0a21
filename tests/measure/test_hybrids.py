"""Labels of models that mix tokens by a gated delta net in three layers of four."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from make.labelled_models import (
    HYBRIDS,
    gaps_without_a_name,
    has_hybrid,
    label_counts,
    modeling,
    prefill_and_decode,
    recorded,
    tiny,
    tiny_hybrid,
    unchanged,
)
from transformers import StaticCache

from qwen3_profile.measure import instrument
from qwen3_profile.measure.model.structure import is_gated

PADDED = (torch.tensor([[0, 0, 1, 1, 1], [1] * 5]), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6]))
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not has_hybrid(kind), reason="not in it"))
    for kind in HYBRIDS
]
# (container, label before, label after, op) of what is so little that it stays in `other`.
KNOWN_OTHER = {
    ("ffn", None, "shared_experts", "aten::view"),
    ("phase", "rotary_emb", "layer", "aten::repeat"),
}
MIXER = {
    "mask_padding", "state_cache", "conv1d", "delta_rule", "norm", "out_proj",
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
            assert inside == MIXER | INPUTS.get(kind, INPUTS["other"])
            assert not any(name.startswith(f"layer.{layer}.attn.") for name in counts)
        assert counts["layer.3.attn.output_gate"] == counts["layer.3.attn.o_proj"] == 2
        assert not any(name.startswith("layer.3.linear_attn") for name in counts)
        assert found.moe_layers == frozenset(range(4) if kind != "qwen3_5_text" else ())

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

    def test_a_prompt_of_one_token_is_a_prefill(self, kind: str, tmp_path: Path) -> None:
        model = tiny_hybrid(kind)
        given = {"past_key_values": StaticCache(config=model.config, max_cache_len=8)}
        with instrument.labelled(model, passes=True), recorded(tmp_path) as roots, torch.no_grad():
            for _ in range(2):
                model(torch.ones(1, 1, dtype=torch.int64), use_cache=True, **given)
        assert [root.name for root in roots if root.label] == ["prefill", "decode"]


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


def test_only_gated_attention_has_a_gate() -> None:
    assert not is_gated(tiny("dense").model.layers[0].self_attn)
    assert is_gated(tiny_hybrid("qwen3_next").model.layers[3].self_attn)
