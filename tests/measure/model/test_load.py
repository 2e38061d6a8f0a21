"""Models: where they come from, what random ones are made of, and that they run as served."""

from __future__ import annotations

import dataclasses
import http.server
import importlib.util
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from make.labelled_models import HYBRIDS, has_hybrid

from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.errors import ConfigError, ModelError
from qwen3_profile.measure import devices
from qwen3_profile.measure.model import (
    attention,
    hub,
    memory,
    published_shapes,
    random_weights,
    transformers_compat,
)
from qwen3_profile.measure.model import load as models
from qwen3_profile.measure.model.published_shapes import PUBLISHED
from qwen3_profile.run_folder.model_shape import Experts, Shape

CPU = torch.device("cpu")
DENSE = Shape(64, 128, 3, 4, 2, True, head_dim=32, vocab_size=500)
SPARSE = dataclasses.replace(
    DENSE, tie_word_embeddings=False, experts=Experts(8, 2, 32, mlp_only_layers=(0,))
)
# As for published ones, every weight of it is a multiple of 64 values.
PUBLISHABLE = dataclasses.replace(DENSE, head_dim=64)
TINY = [pytest.param(DENSE, id="dense"), pytest.param(SPARSE, id="experts")]
SAVED_AS = "model.safetensors"


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a hub at a port where nobody listens."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)


def write_model(folder: Path, shape: Shape, with_weights: bool = False, **values: Any) -> str:
    """A model directory with the config of `shape`, and weights if asked; returns its path."""
    config = transformers_compat.published_config(shape, torch.float32)
    folder.mkdir(exist_ok=True)
    if with_weights:
        torch.manual_seed(0)
        transformers_compat._class_of(config.model_type, "modeling", "ForCausalLM")(
            config
        ).save_pretrained(folder)
    config.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return str(folder)


def load(name: str, dtype: str = "float32", **request: Any) -> models.LoadedModel:
    return models.load_model(ModelRequest(name, **request), dtype, None, CPU)


def logits_of(loaded: models.LoadedModel, seed: int = 0) -> torch.Tensor:
    ids = models.make_inputs(loaded.facts.shape.vocab_size, 2, 8, seed, CPU)
    logits: torch.Tensor = models.prefill(loaded.model, ids).logits
    return logits


# --- devices


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("cpu", "cpu", id="cpu"),
        pytest.param("cpu:0", "cpu", id="the index of the only one is left out"),
        pytest.param(" CPU ", "cpu", id="case and blanks do not matter"),
    ],
)
def test_devices_that_are_there(text: str, kind: str) -> None:
    assert devices.resolve_device(text) == devices.ResolvedDevice(torch.device(kind), None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("gpu", "--device gpu: is not a torch device", id="no such kind"),
        pytest.param("cuda:x", "is not a torch device", id="no such index"),
        pytest.param("cuda:-1", "is not a torch device", id="negative index"),
        pytest.param("", "is not a torch device", id="empty"),
        pytest.param("meta", "computes nothing", id="meta"),
        pytest.param("cpu:3", "is not there; there is cpu", id="a second CPU"),
        pytest.param("cuda", "--device cuda: is not there: torch", id="no CUDA"),
        pytest.param("cuda:7", "give --device cpu", id="no CUDA, with index"),
        pytest.param("xpu", "sees no xpu device", id="no XPU"),
        pytest.param("mps", "sees no mps device", id="no MPS"),
        pytest.param("privateuseone", "is not there", id="a backend that is not installed"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what a machine without CUDA says")
def test_devices_that_are_not(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        devices.resolve_device(text)
    assert told in str(caught.value)


def test_a_missing_index_lists_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"H{index}00")
    with pytest.raises(ConfigError, match=r"there is cuda:0 \(H000\), cuda:1 \(H100\)"):
        devices.resolve_device("cuda:7")
    assert devices.resolve_device("cuda:0").device == torch.device("cuda:0")
    assert devices.resolve_device("cuda").device == torch.device("cuda:1")
    assert devices.resolve_device(None) == devices.ResolvedDevice(torch.device("cuda:1"), None)


def test_without_cuda_the_default_is_the_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    resolved = devices.resolve_device(None)
    assert resolved.device == CPU
    assert resolved.fallback is not None
    assert "running on the CPU" in resolved.fallback


@pytest.mark.parametrize(
    ("limit", "free"),
    [pytest.param("5000\n", 1900, id="limited"), pytest.param("max\n", None, id="no limit")],
)
def test_memory_of_a_container(tmp_path: Path, limit: str, free: int | None) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.stat").write_text("anon 3000\nfile 1500\nkernel 100\n")
    assert devices._cgroup_free_bytes(str(tmp_path)) == free


X86_OLD = "flags\t\t: fpu vme sse2 avx2 avx512f\n"


@pytest.mark.parametrize(
    ("cpuinfo", "dtype", "slow"),
    [
        pytest.param(X86_OLD, "bfloat16", True, id="x86 without bfloat16"),
        pytest.param(X86_OLD, "float16", True, id="x86 without float16"),
        pytest.param(X86_OLD, "float32", False, id="float32 is everywhere"),
        pytest.param("flags : avx512f avx512_bf16\n", "bfloat16", False, id="AVX-512"),
        pytest.param("flags : avx2 amx_bf16\n", "bfloat16", False, id="AMX"),
        pytest.param("flags : avx512_bf16\n", "float16", True, id="one of the two"),
        pytest.param("flags : avx512_fp16\n", "float16", False, id="float16 of x86"),
        pytest.param(
            "Features\t: fp asimd asimdhp bf16\n", "bfloat16", False, id="bfloat16 of Arm"
        ),
        pytest.param("Features\t: fp asimd asimdhp\n", "float16", False, id="float16 of Arm"),
        pytest.param("Features\t: fp asimd\n", "bfloat16", True, id="Arm without bfloat16"),
        pytest.param("model name : bf16\n", "bfloat16", False, id="a system that lists none"),
        pytest.param(None, "bfloat16", False, id="a system without the list"),
    ],
)
def test_a_dtype_that_the_cpu_emulates_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, dtype: str, slow: bool
) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(f"processor : 0\nvendor_id : x\n{cpuinfo}")
    flags = devices._listed(str(path))
    monkeypatch.setattr(devices, "_cpu_flags", lambda: flags)
    line = devices.slow_dtype(CPU, dtype)
    assert (line is not None) is slow
    assert line is None or line.startswith(f"this CPU has no {dtype} instructions")
    assert devices.slow_dtype(torch.device("cuda:0"), dtype) is None


# --- random weights


COUNTED_BY_SHAPE = [
    name
    for name, shape in PUBLISHED.items()
    if shape.model_type in ("", *(kind for kind in HYBRIDS if has_hybrid(kind) and "4" not in kind))
]


@pytest.mark.parametrize("name", COUNTED_BY_SHAPE)
def test_published_shapes_are_what_transformers_builds(name: str) -> None:
    # Two layers of each, and some whole: the arithmetic is the same, and a test has to be fast.
    whole = name in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-32B", "Qwen/Qwen3.5-0.8B")
    few = 2 if PUBLISHED[name].linear is None else 4
    shape = published_shapes.cut(name, PUBLISHED[name], None if whole else few)
    model = transformers_compat.empty_model(
        transformers_compat.published_config(shape, torch.bfloat16)
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == published_shapes.parameter_count(shape)
    assert count <= random_weights.values_needed(model) <= random_weights.values_of(shape)
    assert transformers_compat.shape_of(model.config) == dataclasses.replace(shape, sources=())
    assert str(model.config.to_dict().get("dtype", model.config.torch_dtype)).endswith("bfloat16")


def test_class_defaults_do_not_show_through() -> None:
    shape = dataclasses.replace(SPARSE, rope_theta=123.0, rms_norm_eps=1e-3, attention_bias=True)
    shape = dataclasses.replace(
        shape, experts=Experts(4, 3, 16, norm_topk_prob=False, decoder_sparse_step=2)
    )
    model = transformers_compat.empty_model(
        transformers_compat.published_config(shape, torch.float16)
    )
    assert transformers_compat.shape_of(model.config) == shape
    assert sum(p.numel() for p in model.parameters()) == published_shapes.parameter_count(shape)


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_random_model_runs(tmp_path: Path, shape: Shape, dtype: str) -> None:
    loaded = load(write_model(tmp_path / "m", shape), dtype, weights="random")
    named = dict(loaded.model.named_parameters())
    for name, value in named.items():
        assert (value.device, value.dtype) == (CPU, getattr(torch, dtype)), name
        if name.endswith("norm.weight"):
            assert bool((value == 1).all()), name
        else:
            assert (value == 0).float().mean() < 1e-3, name
            assert 0.015 < value.float().std() < 0.025, name
    assert not any(buffer.is_meta for buffer in loaded.model.buffers())
    assert ("lm_head.weight" in named) is not shape.tie_word_embeddings
    logits = logits_of(loaded)
    assert logits.shape == (2, 1, 500)
    assert bool(logits.isfinite().all())
    assert logits.float().std() > 0.01
    assert not loaded.model.training
    assert not loaded.warnings


def test_transformers_is_told_that_there_is_no_scipy_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seen() -> list[bool]:
        return [importlib.util.find_spec(name) is not None for name in ("scipy", "sklearn")]

    asked: list[list[bool]] = []
    for name in ("scipy", "sklearn"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = seen()
    for name in ("is_scipy_available", "is_sklearn_available"):
        monkeypatch.setattr(transformers.utils, name, lambda: asked.append(seen()))
    transformers_compat.import_without_extras()
    assert asked == [[False, False]] * 2
    assert seen() == before
    assert not {"scipy", "sklearn"} & set(sys.modules)


@pytest.mark.parametrize("shape", TINY)
def test_rotary_frequencies_and_the_tied_head_survive(tmp_path: Path, shape: Shape) -> None:
    loaded = load(write_model(tmp_path / "m", shape), "bfloat16", weights="random")
    frequencies = loaded.model.model.rotary_emb.inv_freq
    half = torch.arange(0, 32, 2) / 32
    torch.testing.assert_close(frequencies, 1e6**-half)
    tied = loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert tied is shape.tie_word_embeddings


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_each_tile_is_the_first_one_turned_further(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    assert random_weights._TILES_AT_ONCE * random_weights._STRIDE <= random_weights._TILE
    monkeypatch.setattr(random_weights, "_TILES_AT_ONCE", at_once)
    values = random_weights.random_values(4 * random_weights._TILE + 17, torch.float32, CPU, seed=3)
    assert len(values) == 4 * random_weights._TILE + 17
    tiles = values.split(random_weights._TILE)
    for number, tile in enumerate(tiles):
        turned = tiles[0].roll(-number * random_weights._STRIDE)
        assert torch.equal(tile, turned[: len(tile)]), number


def test_rows_differ_also_across_tiles() -> None:
    values = random_weights.random_values(
        3 * random_weights._TILE + 17, torch.bfloat16, CPU, seed=3
    )
    rows = values[: 3 * random_weights._TILE].view(-1, 1024)
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert (values == 0).sum() < 10


def test_seed_decides_weights_and_inputs(tmp_path: Path) -> None:
    name = write_model(tmp_path / "m", DENSE)
    first, again, other = (logits_of(load(name, weights="random", seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    ids = models.make_inputs(500, 3, 5, 1, CPU)
    assert (ids.shape, ids.dtype) == ((3, 5), torch.int64)
    assert torch.equal(ids, models.make_inputs(500, 3, 5, 1, CPU))
    assert not torch.equal(ids, models.make_inputs(500, 3, 5, 2, CPU))
    assert 0 <= int(ids.min()) <= int(ids.max()) < 500


def test_making_a_model_leaves_the_random_state_alone(tmp_path: Path) -> None:
    name = write_model(tmp_path / "m", DENSE)
    before = torch.get_rng_state()
    load(name, weights="random")
    models.make_inputs(500, 3, 5, 1, CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_a_prefill_starts_from_an_empty_cache(tmp_path: Path) -> None:
    loaded = load(write_model(tmp_path / "m", DENSE), weights="random")
    ids = models.make_inputs(500, 2, 8, 0, CPU)
    outputs = [models.prefill(loaded.model, ids) for _ in range(2)]
    assert [output.past_key_values.get_seq_length() for output in outputs] == [8, 8]
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert outputs[0].logits.is_inference()


@pytest.mark.parametrize(
    ("shape", "moe_layers"), [pytest.param(DENSE, (), id="dense"), (SPARSE, (1,))]
)
def test_facts_are_those_of_the_layers_used(
    tmp_path: Path, shape: Shape, moe_layers: tuple[int, ...]
) -> None:
    loaded = load(write_model(tmp_path / "m", shape), weights="random", num_layers=2)
    facts = loaded.facts
    assert len(loaded.model.model.layers) == facts.shape.num_hidden_layers == 2
    assert facts.published_layers == 3
    assert facts.moe_layers == moe_layers
    assert facts.parameter_count == sum(p.numel() for p in loaded.model.parameters())
    assert facts.weight_bytes == 4 * facts.parameter_count
    assert facts.kv_bytes_per_token == 2 * 2 * 2 * 32 * 4
    assert logits_of(loaded).isfinite().all()


def test_a_published_shape_needs_no_files_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "Qwen/Qwen3-0.6B", PUBLISHABLE)
    monkeypatch.setattr(hub, "_ask_hub", lambda name: pytest.fail("the hub was asked"))
    loaded = load("qwen3-0.5b", weights="random", num_layers=1)
    assert (loaded.requested_name, loaded.name) == ("qwen3-0.5b", "Qwen/Qwen3-0.6B")
    assert (loaded.weights, loaded.weights_source) == ("random", "generated")
    assert loaded.facts.published_layers == 3
    assert [w.split(":")[0] for w in loaded.warnings] == ["qwen3-0.5b was never published"]
    with pytest.raises(ModelError, match=r"--num-layers: Qwen/Qwen3-0\.6B has 3 layers, 4 were"):
        load("qwen3-0.5b", weights="random", num_layers=4)


# --- pretrained weights, from a directory


@pytest.mark.parametrize("choice", ["auto", "pretrained"])
@pytest.mark.parametrize("shape", TINY)
def test_pretrained_directory(tmp_path: Path, shape: Shape, choice: str) -> None:
    name = write_model(tmp_path / "m", shape, with_weights=True)
    loaded = load(name, weights=choice)
    model_class = type(loaded.model)
    reference = model_class.from_pretrained(name).eval()
    ids = models.make_inputs(500, 2, 8, 0, CPU)
    torch.testing.assert_close(
        models.prefill(loaded.model, ids).logits, reference(ids).logits[:, -1:]
    )
    assert (loaded.weights, loaded.weights_source) == ("pretrained", "directory")
    assert loaded.warnings == ()


@pytest.mark.parametrize("shape", TINY)
def test_pretrained_cut_keeps_the_first_layers(
    tmp_path: Path, shape: Shape, capfd: pytest.CaptureFixture[str]
) -> None:
    name = write_model(tmp_path / "m", shape, with_weights=True)
    loaded = load(name, "bfloat16", num_layers=2)
    whole = load(name, "bfloat16").model
    assert (len(loaded.model.model.layers), loaded.facts.published_layers) == (2, 3)
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key
    assert "layers.2" not in "".join(capfd.readouterr())


def test_dtype_is_the_one_asked_for(tmp_path: Path) -> None:
    loaded = load(write_model(tmp_path / "m", DENSE, with_weights=True), "float16")
    assert loaded.model.dtype == torch.float16
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float16}


def test_random_on_request_though_weights_are_there(tmp_path: Path) -> None:
    name = write_model(tmp_path / "m", DENSE, with_weights=True)
    assert load(name, weights="random").weights == "random"


def test_auto_without_weights_is_random_and_says_so_once(tmp_path: Path) -> None:
    loaded = load(write_model(tmp_path / "m", DENSE))
    assert loaded.weights == "random"
    (warning,) = loaded.warnings
    assert "there are no *.safetensors files" in warning
    assert "timings of a dense model do not depend on the values" in warning


def _lacking_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / SAVED_AS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / SAVED_AS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        pytest.param(lambda d: (d / SAVED_AS).unlink(), "no *.safetensors", id="no weights"),
        pytest.param(
            lambda d: (d / SAVED_AS).rename(d / "pytorch_model.bin"),
            "no *.safetensors",
            id="pickle",
        ),
        pytest.param(
            lambda d: (d / SAVED_AS).write_bytes(b"x" * 99), "cannot be loaded", id="junk"
        ),
        pytest.param(
            lambda d: (d / SAVED_AS).write_bytes((d / SAVED_AS).read_bytes()[:-999]),
            "cannot be loaded",
            id="cut short",
        ),
        pytest.param(_lacking_a_weight, "layers.1.mlp.up_proj.weight", id="one weight missing"),
        pytest.param(
            lambda d: write_model(d, dataclasses.replace(DENSE, hidden_size=96)),
            "cannot be loaded",
            id="weights of another shape",
        ),
    ],
)
def test_directories_that_cannot_be_loaded(
    tmp_path: Path, damage: Callable[[Path], object], told: str
) -> None:
    name = write_model(tmp_path / "m", DENSE, with_weights=True)
    damage(tmp_path / "m")
    with pytest.raises(ModelError) as caught:
        load(name, weights="pretrained")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("{", "has no readable config.json", id="not JSON"),
        pytest.param("[]", "it is not an object", id="a list"),
        pytest.param("{}", "of type None, of which", id="no type"),
        pytest.param('{"model_type": "llava"}', "has no decoder; take", id="another kind of model"),
        pytest.param('{"model_type": ["qwen3"]}', "['qwen3'], of", id="a type that is no name"),
        pytest.param(
            '{"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1, "vocab_size": 9}',
            "GPT2LMHeadModel: has no decoder layers",
            id="other names of modules",
        ),
        pytest.param(
            '{"model_type": "qwen3", "quantization_config": {}}', "quantised", id="quantised"
        ),
        pytest.param(
            '{"model_type": "qwen3", "num_hidden_layers": "x"}', "config", id="a word for a number"
        ),
        pytest.param(
            '{"model_type": "qwen3", "num_hidden_layers": 1000000000}',
            "num_hidden_layers 1000000000, and more than 10000 are no model",
            id="a billion layers",
        ),
        pytest.param('{"model_type": "gpt2", "n_layer": 1e9}', "n_layer 1", id="of GPT-2"),
    ],
)
def test_configs_that_are_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path), weights="random")
    assert told in str(caught.value)


def test_a_config_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    monkeypatch.setattr("qwen3_profile.measure.model.transformers_compat._MOST_CHARACTERS", 9)
    with pytest.raises(ModelError, match="too large for one"):
        load(str(tmp_path), weights="random")


LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500,
    "tie_word_embeddings": True,
}  # fmt: skip
SPARSE_QWEN2 = LLAMA | {
    "model_type": "qwen2_moe", "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "mlp_only_layers": [0],
}  # fmt: skip
OTHERS = [pytest.param(LLAMA, id="Llama"), pytest.param(SPARSE_QWEN2, id="Qwen2 with experts")]


@pytest.mark.parametrize("values", OTHERS)
def test_other_decoders_are_counted_as_they_are(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(values))
    loaded = load(str(tmp_path), "bfloat16", weights="random", num_layers=2)
    facts, model = loaded.facts, loaded.model
    assert not facts.is_qwen3
    assert (len(model.model.layers), facts.shape.num_hidden_layers) == (2, 2)
    assert (facts.published_layers, facts.shape.hidden_size) == (3, 64)
    assert facts.parameter_count == sum(p.numel() for p in model.parameters())
    assert facts.weight_bytes == 2 * facts.parameter_count
    experts = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    assert facts.active_parameter_count == facts.parameter_count - experts * 6 // 8
    assert facts.moe_layers == ((1,) if experts else ())
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))
    half = torch.arange(0, 16, 2) / 16
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, 1e4**-half)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert logits_of(loaded).isfinite().all()


def test_weights_of_other_decoders_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
    reference.save_pretrained(tmp_path)
    loaded = load(str(tmp_path), weights="pretrained")
    ids = models.make_inputs(500, 2, 8, 0, CPU)
    torch.testing.assert_close(
        models.prefill(loaded.model, ids).logits, reference(ids).logits[:, -1:]
    )


def test_other_decoders_that_cannot_fit_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = LLAMA | {"hidden_size": 8192, "intermediate_size": 8192, "num_hidden_layers": 60}
    (tmp_path / "config.json").write_text(json.dumps(wide))
    monkeypatch.setattr(memory, "free_memory_bytes", lambda device: 4_000_000_000)
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path), "bfloat16", weights="random")
    # One layer: q and o, k and v of half that, three matrices of the feed-forward, two norms.
    layer = 8192 * 8192 * (1 + 1 + 0.5 + 0.5 + 3) + 2 * 8192
    needed = 2 * (60 * layer + 500 * 8192 + 8192)
    assert f"needs {needed / 1e9:.1f} GB for its weights in bfloat16" in str(caught.value)
    assert f"--num-layers {int((3.6e9 / 2 - 501 * 8192) / layer)} would fit" in str(caught.value)


def test_paths_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load(str(tmp_path))
    with pytest.raises(ModelError, match="is not a directory"):
        load(str(tmp_path / "nothing"))


# --- the hub


class _Hub(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, str]]

    def do_GET(self) -> None:  # the name that http.server looks for
        status, body = self.answers.get(self.path, (404, "{}"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, str]]]:
    from huggingface_hub import constants

    answers: dict[str, tuple[int, str]] = {}
    handler = type("Hub", (_Hub,), {"answers": answers})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield answers
    server.shutdown()
    server.server_close()


def _info(*files: str) -> str:
    return json.dumps({"id": "a/b", "siblings": [{"rfilename": file} for file in files]})


@pytest.mark.parametrize(
    ("answer", "place", "reason"),
    [
        pytest.param((200, _info("config.json", SAVED_AS)), "hub", "", id="has it"),
        pytest.param((200, _info("config.json")), "nowhere", "no *.safetensors", id="no weights"),
        pytest.param((404, "{}"), "nowhere", "status 404", id="does not have it"),
        pytest.param((401, "{}"), "nowhere", "status 401", id="keeps it private"),
        pytest.param((503, "busy"), "nowhere", "status 503", id="is ill"),
        pytest.param((200, "<html>log in"), "nowhere", "cannot be reached", id="is a login page"),
    ],
)
def test_what_the_hub_may_say(
    fake_hub: dict[str, tuple[int, str]], answer: tuple[int, str], place: str, reason: str
) -> None:
    fake_hub["/api/models/a/b"] = answer
    source = hub.locate("a/b", ask_hub=True)
    assert (source.place, source.has_weights) == (place, place == "hub")
    assert reason in source.reason


def test_a_hub_that_is_silent_costs_no_more_than_its_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "HUB_PATIENCE_S", 0.5)
    hub._ask_hub("a/b")  # what has to be imported is not the hub's time
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        start = time.monotonic()
        source = hub.locate("a/b", ask_hub=True)
        assert time.monotonic() - start < 2.0
    assert not source.has_weights


def test_a_lookup_without_a_deadline_of_its_own_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = threading.Event()
    monkeypatch.setattr(hub, "HUB_PATIENCE_S", 0.2)
    monkeypatch.setattr(hub, "_ask_hub", lambda name: str(done.wait(10)))
    source = hub.locate("a/b", ask_hub=True)
    done.set()
    assert "the hub does not answer within 0.2 s" in source.reason


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_auto_falls_back_within_seconds(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "offline")
    monkeypatch.setitem(PUBLISHED, "Qwen/Qwen3-8B", PUBLISHABLE)
    start = time.monotonic()
    loaded = load("Qwen/Qwen3-8B")
    assert time.monotonic() - start < 5.0
    assert loaded.weights == "random"
    (warning,) = loaded.warnings
    assert ("HF_HUB_OFFLINE is set" if how == "offline" else "cannot be reached") in warning


@pytest.mark.parametrize("choice", ["auto", "pretrained", "random"])
def test_unknown_names_are_told_with_the_nearest(choice: str) -> None:
    with pytest.raises(ModelError, match=r"did you mean Qwen/Qwen3-8B\?"):
        load("Qwen/Qwen3-8C", weights=choice)


@pytest.mark.parametrize("name", ["Qwen/Qwen3/8B", "a b", "x" * 200, "-", "a//b", "Qwen3\n8B"])
def test_names_that_no_hub_has(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_pretrained_without_weights_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"has no weights here: .*; give a local directory, or"):
        load("Qwen/Qwen3-0.6B", weights="pretrained")


def _fill_cache(cache: Path, name: str, model: Path, *files: str) -> None:
    repo = cache / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    for file in files:
        (snapshot / file).write_bytes((model / file).read_bytes())


@pytest.mark.parametrize(
    ("files", "has_weights"),
    [
        pytest.param(("config.json", SAVED_AS), True, id="one file"),
        pytest.param(("config.json", "model.safetensors.index.json", "1", "2"), True, id="shards"),
        pytest.param(("config.json", "model.safetensors.index.json", "1"), False, id="half of it"),
        pytest.param(("config.json",), False, id="config only"),
    ],
)
def test_the_cache_counts_if_complete(
    tmp_path: Path, files: tuple[str, ...], has_weights: bool
) -> None:
    model = tmp_path / "m"
    write_model(model, DENSE)
    index = {"weight_map": {"a": "1", "b": "2"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    for file in (SAVED_AS, "1", "2"):
        (model / file).write_bytes(b"")
    _fill_cache(tmp_path / "cache", "someone/mine", model, *files)
    source = hub.locate("someone/mine", ask_hub=True)
    assert (source.place, source.has_weights) == ("cache", has_weights)


# --- attention


def test_attention_is_changed_on_the_same_weights(tmp_path: Path) -> None:
    loaded = load(write_model(tmp_path / "m", DENSE), weights="random")
    assert loaded.default_attention == "sdpa"
    expected = logits_of(loaded)
    for name, actual in (("eager", "eager"), (None, "sdpa"), ("sdpa", "sdpa")):
        assert models.set_attention(loaded, name) == actual
        assert loaded.model.model.layers[2].self_attn.config._attn_implementation == actual
        torch.testing.assert_close(logits_of(loaded), expected, rtol=1e-3, atol=1e-3)


def test_attention_can_be_chosen_at_once(tmp_path: Path) -> None:
    request = ModelRequest(write_model(tmp_path / "m", SPARSE), "random")
    loaded = models.load_model(request, "float32", "eager", CPU)
    assert attention.attention_of(loaded.model) == "eager"
    assert models.set_attention(loaded, None) == "sdpa"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("spda", "did you mean sdpa? there is eager, ", id="a slip"),
        pytest.param("flash_attention_2", "is not installed; there is eager, ", id="not installed"),
        pytest.param("someone/kernel", "is not known", id="code from a hub"),
        pytest.param("paged|eager", "is not known", id="a server's"),
    ],
)
def test_attention_that_is_not_offered(tmp_path: Path, name: str, told: str) -> None:
    loaded = load(write_model(tmp_path / "m", DENSE), weights="random")
    with pytest.raises(ModelError) as caught:
        models.set_attention(loaded, name)
    assert told in str(caught.value)
    assert attention.attention_of(loaded.model) == "sdpa"


def test_flash_attention_needs_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        transformers.utils, "is_flash_attn_2_available", lambda: True, raising=False
    )
    loaded = load(write_model(tmp_path / "m", DENSE), weights="random")
    with pytest.raises(
        ModelError, match=r"needs a GPU and float16 or bfloat16, not torch\.float32"
    ):
        models.set_attention(loaded, "flash_attention_2")


# --- memory


@pytest.mark.parametrize(
    ("dtype", "free_gb", "advice"),
    [
        pytest.param("bfloat16", 40.0, "--num-layers 33 would fit", id="fewer layers"),
        pytest.param("float32", 80.0, "--dtype bfloat16 would fit", id="half the bytes"),
        pytest.param("bfloat16", 1.0, "take a smaller model", id="not even one layer"),
    ],
)
def test_a_model_that_cannot_fit_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, dtype: str, free_gb: float, advice: str
) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda device: int(free_gb * 1e9))
    with pytest.raises(ModelError) as caught:
        load("Qwen/Qwen3-32B", dtype, weights="random")
    size = "131.0 GB" if dtype == "float32" else "65.5 GB"
    assert f"needs {size} for its weights in {dtype}, and cpu has {free_gb} GB" in str(caught.value)
    assert advice in str(caught.value)


def test_suggested_layers_fit_and_one_more_would_not() -> None:
    shape, room = PUBLISHED["Qwen/Qwen3-32B"], 40e9 * 0.9
    sizes = [
        2 * published_shapes.parameter_count(published_shapes.cut("", shape, n)) for n in (33, 34)
    ]
    assert sizes[0] <= room < sizes[1]


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"), True),
        (RuntimeError("HIP error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, known: bool) -> None:
    assert memory.is_out_of_memory(error) is known


@pytest.mark.parametrize(
    ("pieces", "figures", "do"),
    [
        ("7.50 GiB", "5.1 GB were free and 8.1 GB in pieces between blocks",
         "set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, which leaves fewer pieces; or "),
        ("53.47 MiB", "5.1 GB were free and 0.1 GB in pieces between blocks", ""),
    ],
)  # fmt: skip
def test_what_lay_in_pieces_when_memory_ran_out(pieces: str, figures: str, do: str) -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 5.69 GiB. GPU 0 has a total capacity of 139.80 GiB "
        "of which 4.75 GiB is free. Process 7 has 135.04 GiB memory in use. Of the allocated "
        f"memory 126.4 GiB is allocated by PyTorch, and {pieces} is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting ..."
    )
    told = memory.out_of_memory(RunConfig(), "sdpa", CPU, error, "layer.27.ffn")
    assert told.what == f"out of memory on cpu in layer.27.ffn: asked for 6.1 GB more, {figures}"
    assert told.do.startswith(f"{do}lower batch_size")


def test_memory_is_asked_of_this_machine() -> None:
    free = devices.free_memory_bytes(CPU)
    assert free is None or free > 1 << 20
