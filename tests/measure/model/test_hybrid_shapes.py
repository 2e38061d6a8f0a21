"""Hybrids: their counts, their caches, and the configs that they are published with."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from make.labelled_models import HYBRIDS, SHAPE, has_hybrid, has_states, hybrid_config, tiny_hybrid

from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model import (
    hybrid_shapes,
    memory,
    other_decoders,
    published_shapes,
    transformers_compat,
)
from qwen3_profile.measure.model.load import LoadedModel, load_model, prefill
from qwen3_profile.measure.model.published_shapes import PUBLISHED

CPU = torch.device("cpu")
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not has_hybrid(kind), reason="not in it"))
    for kind in HYBRIDS
]
needs_3_5 = pytest.mark.skipif(not has_hybrid("qwen3_5_text"), reason="no Qwen3.5 in it")

# Total, per token, KV bytes per token in bfloat16, bytes of recurrent and of conv state; counted
# on the classes of transformers.
COUNTS = [
    ("Qwen3-Next-80B-A3B-Instruct", 79_674_391_296, 3_874_929_408, 24_576, 75_497_472, 2_359_296),
    ("Qwen3.5-0.8B", 752_393_024, 752_393_024, 12_288, 18_874_368, 884_736),
    ("Qwen3.5-2B", 1_881_825_088, 1_881_825_088, 12_288, 18_874_368, 884_736),
    ("Qwen3.5-4B", 4_205_751_296, 4_205_751_296, 32_768, 50_331_648, 1_572_864),
    ("Qwen3.5-9B", 8_953_803_264, 8_953_803_264, 32_768, 50_331_648, 1_572_864),
    ("Qwen3.6-27B", 26_895_998_464, 26_895_998_464, 65_536, 150_994_944, 3_932_160),
    ("Qwen3.5-35B-A3B", 34_660_610_688, 3_454_988_928, 20_480, 62_914_560, 1_966_080),
    ("Qwen3.5-122B-A10B", 122_111_526_912, 9_771_288_576, 24_576, 150_994_944, 3_538_944),
    ("Qwen3.5-397B-A17B", 396_346_350_336, 17_349_040_896, 30_720, 188_743_680, 4_423_680),
    ("Qwen3.8-2.4T-A95B", 2_419_804_697_984, 95_287_866_752, 94_208, 578_813_952, 11_304_960),
]


def load(name: Path | str, weights: Any = "random", num_layers: int | None = None) -> LoadedModel:
    request = ModelRequest(name=str(name), weights=weights, num_layers=num_layers, device="cpu")
    return load_model(request, "float32", None, CPU)


def directory(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(("name", "total", "active", "kv", "recurrent", "conv"), COUNTS)
def test_counts(name: str, total: int, active: int, kv: int, recurrent: int, conv: int) -> None:
    shape = PUBLISHED[f"Qwen/{name}"]
    assert published_shapes.parameter_count(shape) == total
    assert published_shapes.active_parameter_count(shape) == active
    assert published_shapes.kv_bytes_per_token(shape, 2) == kv
    assert hybrid_shapes.state_bytes(shape, 2) == recurrent + conv


@pytest.mark.parametrize("name", hybrid_shapes.HYBRIDS)
def test_every_hybrid_has_whole_periods_and_a_source(name: str) -> None:
    shape = PUBLISHED[name]
    assert shape.sources
    assert shape.linear is not None
    assert hybrid_shapes.linear_layers(shape) * 4 == shape.num_hidden_layers * 3
    assert hybrid_shapes.cut_inside_period(shape) == ""
    assert (shape.experts is not None) == ("-A" in name or "-Next" in name)


@pytest.mark.skipif(not has_hybrid("qwen4_exp_text"), reason="not in it")
def test_qwen4_is_counted_in_an_empty_model() -> None:
    shape = PUBLISHED["Qwen/Qwen3.8-Flash-Next"]
    config = transformers_compat.published_config(shape, torch.bfloat16)
    counted = other_decoders.count(transformers_compat.empty_model(config), config)
    assert counted.parameters == 176_943_899_520
    # An Embedding of 320,001,536 x 160 in one layer is the most of it.
    assert counted.parameters - counted.outside > 51_200_245_760


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        pytest.param(3, "3 are linear and 0 attention", id="no attention"),
        pytest.param(4, "", id="a period"),
        pytest.param(6, "5 are linear and 1 attention", id="half of the second one"),
    ],
)
def test_a_cut_inside_a_period_is_told(layers: int, told: str) -> None:
    shape = published_shapes.cut("x", PUBLISHED["Qwen/Qwen3.5-9B"], layers)
    assert shape.linear is not None
    assert len(shape.linear.layer_types) == layers
    line = hybrid_shapes.cut_inside_period(shape)
    assert bool(line) == bool(told)
    assert told in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_is_read_as_it_is(kind: str, tmp_path: Path) -> None:
    loaded = load(directory(tmp_path, hybrid_config(kind, 8)), num_layers=6)
    facts = loaded.facts
    assert (facts.published_layers, facts.shape.num_hidden_layers) == (8, 6)
    assert facts.parameter_count == sum(p.numel() for p in loaded.model.parameters())
    assert facts.moe_layers == (() if kind == "qwen3_5_text" else tuple(range(6)))
    # One layer of attention: 2 heads of 8, keys and values, in float32.
    assert facts.kv_bytes_per_token == 2 * 2 * 8 * 4
    # Five linear ones: 4 heads of 8 x 8, and 4 inputs of a convolution of 64 channels.
    assert facts.state_bytes == 5 * (4 * 8 * 8 * 4 + 4 * 64 * 4)
    assert any("no whole periods" in line for line in loaded.warnings)
    assert facts.is_qwen3 == (kind != "qwen4_exp_text")
    ids = torch.arange(10).view(2, 5)
    assert prefill(loaded.model, ids).logits.isfinite().all()


@pytest.mark.skipif(not has_states(), reason="a cache of its own")
@pytest.mark.parametrize("kind", KINDS)
def test_state_is_what_the_cache_holds(kind: str) -> None:
    model = tiny_hybrid(kind)
    cache = prefill(model, torch.arange(10).view(2, 5)).past_key_values
    held = [
        tensor
        for layer in cache.layers[:3]
        for states in (layer.conv_states, layer.recurrent_states)
        for tensor in (states.values() if isinstance(states, dict) else [states])
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    ]
    shape = transformers_compat.shape_of(model.config)
    # Qwen4-Exp keeps states of its layer with an n-gram embedding besides.
    found = sum(each.nbytes for each in held) // 2
    assert found >= hybrid_shapes.state_bytes(shape, 4)
    assert kind == "qwen4_exp_text" or found == hybrid_shapes.state_bytes(shape, 4)


def nested(kind: str, text: dict[str, Any]) -> dict[str, Any]:
    return {"model_type": kind, "text_config": text, "vision_config": {}, "image_token_id": 9}


TOWER = SHAPE | {"rope_theta": 5e6, "hidden_act": "silu", "rms_norm_eps": 1e-6}


@pytest.mark.parametrize(
    ("values", "model"),
    [
        pytest.param(
            nested("qwen3_5", hybrid_config("qwen3_5_text")), "Qwen3_5ForCausalLM",
            marks=needs_3_5, id="Qwen3.5",
        ),
        pytest.param(
            nested("qwen3_5_moe", hybrid_config("qwen3_5_moe_text")), "Qwen3_5MoeForCausalLM",
            marks=needs_3_5, id="Qwen3.5 with experts",
        ),
        pytest.param(
            nested("qwen3_vl", TOWER | {"model_type": "qwen3_vl_text"}), "Qwen3ForCausalLM",
            id="Qwen3-VL",
        ),
        pytest.param(
            {"model_type": "qwen3_omni_moe", "thinker_config": nested(
                "qwen3_omni_moe_thinker", TOWER | {
                    "model_type": "qwen3_omni_moe_text", "num_experts": 4,
                    "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                    "decoder_sparse_step": 1, "norm_topk_prob": True,
                })},
            "Qwen3MoeForCausalLM", id="Qwen3-Omni",
        ),
    ],
)  # fmt: skip
def test_the_decoder_inside_a_config(values: dict[str, Any], model: str, tmp_path: Path) -> None:
    loaded = load(directory(tmp_path, values))
    assert type(loaded.model).__name__ == model
    assert loaded.facts.shape.hidden_size == 32


@needs_3_5
def test_weights_of_the_decoder_are_those_of_the_whole(tmp_path: Path) -> None:
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 2,
        "spatial_merge_size": 1, "temporal_patch_size": 1, "out_hidden_size": 32,
        "num_position_embeddings": 16,
    }  # fmt: skip
    for stem, text, more in (
        ("Qwen3_5", hybrid_config("qwen3_5_text"), {}),
        ("Qwen3VL", SHAPE | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6,
                                                 "mrope_section": [1, 1, 2]}},
         {"deepstack_visual_indexes": [0]}),
    ):  # fmt: skip
        torch.manual_seed(0)
        config = getattr(transformers, f"{stem}Config")(
            text_config=text, vision_config=vision | more
        )
        whole = getattr(transformers, f"{stem}ForConditionalGeneration")(config).eval()
        whole.save_pretrained(tmp_path / stem)
        loaded = load(tmp_path / stem, weights="pretrained")
        ids = torch.arange(10).view(2, 5)
        expected = whole(input_ids=ids).logits[:, -1:]
        torch.testing.assert_close(prefill(loaded.model, ids).logits, expected)


def test_an_older_transformers_says_which_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if ".qwen3_5." in name:
            raise ModuleNotFoundError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ModelError, match=r"has no Qwen3_5TextConfig; install transformers 5\.2 or"):
        load("Qwen/Qwen3.5-0.8B", num_layers=4)


@pytest.mark.parametrize(
    ("name", "layers", "told"),
    [
        pytest.param("Qwen3-0.6B-FP8", 1, "not in FP8, unless", id="quantised"),
        pytest.param("Qwen3-Embedding-0.6B", 1, "the head of a Qwen3", id="without a head"),
    ],
)
def test_what_is_told_of_a_name(
    name: str, layers: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = dataclasses.replace(PUBLISHED["Qwen/Qwen3-0.6B"], hidden_size=64, vocab_size=64)
    monkeypatch.setitem(PUBLISHED, "Qwen/Qwen3-0.6B", tiny)
    monkeypatch.setitem(PUBLISHED, "Qwen/Qwen3-Embedding-0.6B", tiny)
    (line,) = load(name, num_layers=layers).warnings
    assert told in line


def test_memory_counts_states_and_only_what_attention_keeps() -> None:
    shape = PUBLISHED["Qwen/Qwen3.5-9B"]
    config = RunConfig(batch_size=3, input_len=100)
    needed = memory.least_needed(shape, config, 2, "sdpa")
    assert needed.kv_bytes == 3 * (100 * 32_768 + 50_331_648 + 1_572_864)
    linear = published_shapes.cut("x", shape, 3)
    long = RunConfig(batch_size=1, input_len=100_000)
    assert memory.least_needed(linear, long, 2, "eager") == memory.least_needed(
        linear, long, 2, "sdpa"
    )
