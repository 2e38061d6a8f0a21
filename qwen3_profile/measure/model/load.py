"""Loads the model of a run: a decoder on its device with weights, its inputs and forward."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from qwen3_profile.config import SHARED, ModelRequest
from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model import (
    attention,
    experts,
    hub,
    hybrid_shapes,
    other_decoders,
    published_shapes,
    random_weights,
    tensor_parallel,
    transformers_compat,
)
from qwen3_profile.measure.model.adapters import add_adapters, check_adapters
from qwen3_profile.measure.model.hub import Source
from qwen3_profile.measure.model.loaded_facts import LoadedFacts, facts_of
from qwen3_profile.measure.model.memory import WeightSize, check_weights, is_out_of_memory, size_of
from qwen3_profile.measure.model.quantise import quantise
from qwen3_profile.measure.model.quantised import quantised_linears
from qwen3_profile.run_folder.model_shape import Shape

_UNBUILDABLE = "has a config that no model can be built from"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    model: the transformers model, in eval mode, on `device`.
    requested_name: as the user wrote it; `name`: what was loaded in its stead.
    weights: "pretrained" or "random".
    weights_source: where the weights are from: "directory", "cache", "hub" or "generated".
    default_attention: transformers' own choice of an attention implementation.
    default_experts: its own choice of an implementation of experts; empty for a dense model.
    warnings: lines that the command line has to print.
    """

    model: Any
    requested_name: str
    name: str
    weights: str
    weights_source: str
    dtype: str
    device: torch.device
    facts: LoadedFacts
    default_attention: str
    warnings: tuple[str, ...]
    default_experts: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is going to be loaded; made before anything slow happens.

    shape: the published shape, whole; None where a config file has to be read.
    """

    name: str
    source: Source
    random: bool
    shape: Shape | None
    warnings: tuple[str, ...]


def load_model(
    request: ModelRequest, dtype: str, attn_implementation: str | None, device: torch.device
) -> LoadedModel:
    """Loads the model that `request` asks for, or makes one of its shape with random weights.

    Args:
        request: name, weights and number of layers; its device is ignored for `device`.
        dtype: of the weights, one of config.DTYPES.
        attn_implementation: a name that transformers knows, or None for its own choice.
        device: where the model goes, as `resolve_device` gives it.

    Raises:
        ModelError: the model is not known, not there, not loadable, or too large for `device`.
    """
    plan = _make_plan(request)
    torch_dtype: torch.dtype = getattr(torch, dtype)
    difference, is_packed = None, False
    check_adapters(request)
    try:
        if plan.random and request.parallel in SHARED:
            model, layers = _random_share(plan, request, torch_dtype, device)
        elif plan.random:
            model, layers = _random_model(plan, request, torch_dtype, device)
        else:
            model, layers, is_packed = _pretrained_model(plan, request, torch_dtype, device)
        if request.quantize is not None:
            difference = quantise(model, request.quantize, lambda ids: prefill(model, ids))
        model = add_adapters(model, request)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        what = f"does not fit into the memory of {device}: {str(error).splitlines()[0]}"
        raise ModelError(plan.name, what, "lower --num-layers") from error
    facts = facts_of(model, layers, torch_dtype, difference)
    cut = hybrid_shapes.cut_inside_period(facts.shape)
    loaded = LoadedModel(
        model=model,
        requested_name=request.name,
        name=plan.name,
        weights="random" if plan.random else "pretrained",
        weights_source="generated" if plan.random else plan.source.place,
        dtype=dtype,
        device=device,
        facts=facts,
        default_attention=attention.attention_of(model),
        warnings=(
            *plan.warnings,
            *([cut] if cut else []),
            *_dequantised(plan.name, model, is_packed),
        ),
        default_experts=experts.experts_of(model),
    )
    set_attention(loaded, attn_implementation)
    return loaded


def set_attention(loaded: LoadedModel, name: str | None) -> str:
    """Makes the same weights run with another attention implementation; returns its name.

    Args:
        loaded: the model.
        name: one that transformers knows; None for its own choice.

    Raises:
        ModelError: it is not known, not installed, or cannot work with this model.
    """
    wanted = loaded.default_attention if name is None else name
    if attention.attention_of(loaded.model) != wanted:
        attention.set_attention(loaded.model, wanted)
    return attention.attention_of(loaded.model)


def set_experts(loaded: LoadedModel, name: str | None) -> str:
    """Makes the same weights run with another implementation of experts; returns its name.

    Args:
        loaded: the model.
        name: one of `experts.experts_names()`; None for transformers' own choice.

    Returns:
        The name of what runs; empty for a dense model.

    Raises:
        ModelError: it is not offered, cannot work here, or the model has no experts.
    """
    wanted = loaded.default_experts if name is None else name
    if wanted:
        experts.set_experts(loaded.model, wanted)
    return experts.experts_of(loaded.model)


def make_inputs(
    vocab_size: int, batch_size: int, input_len: int, seed: int, device: torch.device
) -> torch.Tensor:
    """Token ids, int64 [batch_size, input_len], drawn from `seed`, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (batch_size, input_len), generator=generator).to(device)


@torch.inference_mode()
def prefill(model: Any, input_ids: torch.Tensor) -> Any:
    """One forward pass as serving does it: a fresh KV cache, the logits of the last position.

    Args:
        model: of a `LoadedModel`.
        input_ids: int64 [batch_size, input_len].

    Returns:
        transformers' output: `logits` [batch_size, 1, vocab_size] and `past_key_values`.
    """
    return model(input_ids=input_ids, use_cache=True, logits_to_keep=1)


def _make_plan(request: ModelRequest) -> _Plan:
    """Decides which model with which weights; asks the cache and the hub where that decides."""
    local = hub.is_directory(request.name)
    found = None if local else published_shapes.lookup(request.name)
    name = found.name if found else request.name
    random_only = request.weights == "random"
    if random_only and found:
        source = Source("nowhere", name, has_weights=False)
    else:
        source = hub.locate(name, ask_hub=not random_only)
    warnings = []
    if found and found.is_alias:
        which = "the smallest Qwen3" if name.endswith("-0.6B") else "which has its shape"
        warnings.append(f"{request.name} was never published: profiling {name}, {which}, instead")
    if not source.has_weights and found is None and source.place == "nowhere":
        what = f"is not a published Qwen3 text model, and {source.reason}"
        raise ModelError(request.name, what, published_shapes.nearest(request.name))
    if not source.has_weights and request.weights == "pretrained":
        do = "give a local directory, or --weights random for random weights of the same shape"
        raise ModelError(name, f"has no weights here: {source.reason}", do)
    random = random_only or not source.has_weights
    if random and not random_only:
        warnings.append(_random_warning(name, source.reason))
    shape = found.shape if found and random else None
    if found:
        warnings += published_shapes.remarks(found)
    if found and random and found.quantised:
        warnings.append(
            f"{name}: the shape is known, and its random weights are in --dtype, not in "
            f"{found.quantised}, unless they are quantised here"
        )
    return _Plan(name, source, random, shape, tuple(warnings))


def _random_model(
    plan: _Plan, request: ModelRequest, dtype: torch.dtype, device: torch.device
) -> tuple[Any, int]:
    """The model with random weights, and the number of layers of the whole one."""
    with ThreadPoolExecutor(max_workers=1) as thread:

        def start_filling(count: int) -> Any:
            return thread.submit(random_weights.random_values, count, dtype, device, request.seed)

        if plan.shape is not None and plan.shape.model_type != hybrid_shapes.QWEN4:
            shape = published_shapes.cut(plan.name, plan.shape, request.num_layers)
            check_weights(plan.name, size_of(shape), dtype, device)
            # The size is known already: filled while the next line imports transformers.
            filling = start_filling(random_weights.values_of(shape))
            model = transformers_compat.empty_model(
                transformers_compat.published_config(shape, dtype)
            )
            layers = plan.shape.num_hidden_layers
        else:
            config, layers = _config_of(plan, request, dtype)
            _refuse_quantised(plan.name, config)
            _check_config(plan.name, config, dtype, device)
            with transformers_compat.explained(plan.name, _UNBUILDABLE):
                model = transformers_compat.empty_model(config)
            filling = start_filling(random_weights.values_needed(model))
        random_weights.fill(model, filling.result())
    return model, layers


def _random_share(
    plan: _Plan, request: ModelRequest, dtype: torch.dtype, device: torch.device
) -> tuple[Any, int]:
    """The same of a model that ranks share: what this one has of it."""
    config, layers = _config_of(plan, request, dtype)
    _refuse_quantised(plan.name, config)
    _check_config(plan.name, config, dtype, device, ranks=tensor_parallel.ranks())
    with transformers_compat.explained(plan.name, _UNBUILDABLE):
        empty = transformers_compat.empty_model(config)
    model = tensor_parallel.split_empty(plan.name, empty, request.parallel)
    tensor_parallel.fill_shares(model, random_weights.RandomValues(dtype, device, request.seed))
    return model, layers


def _refuse_quantised(name: str, config: Any) -> None:
    if transformers_compat.is_quantised(config):
        what = "is a quantised checkpoint, and random weights are none"
        raise ModelError(name, what, "give the model that it was made from, with --quantize")


def _config_of(plan: _Plan, request: ModelRequest, dtype: torch.dtype) -> tuple[Any, int]:
    """The config of a model whose parameters have to be counted, and its number of layers."""
    if plan.shape is None:
        return transformers_compat.read_config(plan.source, request.num_layers, dtype)
    shape = published_shapes.cut(plan.name, plan.shape, request.num_layers)
    config = transformers_compat.published_config(shape, dtype)
    return config, plan.shape.num_hidden_layers


def _pretrained_model(
    plan: _Plan, request: ModelRequest, dtype: torch.dtype, device: torch.device
) -> tuple[Any, int, bool]:
    """The model with its own weights, how many layers the whole one has, and whether its checkpoint
    is quantised.
    """
    config, layers = transformers_compat.read_config(plan.source, request.num_layers, dtype)
    load = functools.partial(transformers_compat.pretrained_model, plan.source, config, dtype)
    if request.parallel in SHARED:
        _check_config(plan.name, config, dtype, device, ranks=tensor_parallel.ranks())
        more = tensor_parallel.parallel_arguments(plan.name, request.parallel)
        return load(more=more), layers, False
    if not transformers_compat.is_quantised(config):
        _check_config(plan.name, config, dtype, device)
        return load().to(device), layers, False
    if request.quantize is not None:
        raise ModelError(plan.name, "is quantised already", "leave --quantize out")
    # Its quantiser may pack weights only on their way to the device.
    return load(device), layers, True


def _check_config(
    name: str, config: Any, dtype: torch.dtype, device: torch.device, *, ranks: int = 1
) -> None:
    """Refuses weights that do not fit; those of others than Qwen3 are counted in an empty model.

    Args:
        ranks: how many share them.
    """
    if transformers_compat.is_qwen3(config):
        size = size_of(transformers_compat.shape_of(config))
    else:
        with transformers_compat.explained(name, _UNBUILDABLE):
            counted = other_decoders.count(transformers_compat.empty_model(config), config)
        size = WeightSize(counted.parameters, counted.outside, config.num_hidden_layers)
    check_weights(name, size.shared_by(ranks), dtype, device)


def _dequantised(name: str, model: Any, is_packed: bool) -> tuple[str, ...]:
    """A line where a quantised checkpoint was not kept so."""
    if not is_packed or quantised_linears(model):
        return ()
    return (
        f"{name}: a quantised checkpoint, of which transformers has made unpacked weights here",
    )


def _random_warning(name: str, reason: str) -> str:
    return (
        f"{name}: random weights, because {reason}; timings of a dense model do not depend on "
        "the values, those of a mixture of experts depend on how they route"
    )
