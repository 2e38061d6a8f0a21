"""What is known about a loaded model, as plain values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from qwen3_profile.measure.model import (
    hybrid_shapes,
    other_decoders,
    published_shapes,
    transformers_compat,
)
from qwen3_profile.measure.model.adapters import adapters_of
from qwen3_profile.measure.model.quantised import quantised_linears, stored_bytes
from qwen3_profile.run_folder.model_shape import Shape
from qwen3_profile.run_folder.model_weights import OutputDifference, WeightFacts


@dataclass(frozen=True, slots=True)
class LoadedFacts:
    """What is known about a loaded model; plain values only.

    shape: as it ran, so `shape.num_hidden_layers` is the number of layers used.
    published_layers: the number of layers of the whole model.
    moe_layers: indices of the layers with a mixture of experts, ascending.
    parameter_count, active_parameter_count: of the layers used; all, and those one token uses.
    weight_bytes: the memory that the weights take; None where some of them do not tell.
    kv_bytes_per_token: what each token of each sequence adds to the KV cache.
    state_bytes: what each sequence takes besides, however long it is.
    is_qwen3: whether the arithmetic of `published_shapes` holds; else parameters are counted, and
        the KV cache may be smaller than told.
    weights: of a model with quantised weights or with adapters.
    """

    shape: Shape
    published_layers: int
    moe_layers: tuple[int, ...]
    parameter_count: int
    active_parameter_count: int
    weight_bytes: int | None
    kv_bytes_per_token: int
    state_bytes: int = 0
    is_qwen3: bool = True
    weights: WeightFacts | None = None


def facts_of(
    model: Any, published_layers: int, dtype: torch.dtype, difference: OutputDifference | None
) -> LoadedFacts:
    """The facts of a loaded model; those of another than a plain Qwen3 are counted in it."""
    facts = _facts(transformers_compat.shape_of(model.config), published_layers, dtype)
    is_qwen3, weights = transformers_compat.is_qwen3(model.config), weight_facts(model, difference)
    if is_qwen3 and weights is None:
        return facts
    counted = other_decoders.count(model, model.config)
    plain_bytes = counted.parameters * dtype.itemsize
    return dataclasses.replace(
        facts,
        moe_layers=counted.moe_layers,
        parameter_count=counted.parameters,
        active_parameter_count=counted.active,
        weight_bytes=plain_bytes if weights is None else weights.bytes,
        is_qwen3=is_qwen3,
        weights=weights,
    )


def weight_facts(model: Any, difference: OutputDifference | None = None) -> WeightFacts | None:
    """What is known of packed weights and of adapters; None where there are neither."""
    quantised, adapters = quantised_linears(model), adapters_of(model)
    if not quantised and not adapters:
        return None
    return WeightFacts(quantised, stored_bytes(model), difference, adapters)


def _facts(shape: Shape, published_layers: int, dtype: torch.dtype) -> LoadedFacts:
    count = published_shapes.parameter_count(shape)
    return LoadedFacts(
        shape=shape,
        published_layers=published_layers,
        moe_layers=tuple(sorted(shape.moe_layers)),
        parameter_count=count,
        active_parameter_count=published_shapes.active_parameter_count(shape),
        weight_bytes=count * dtype.itemsize,
        kv_bytes_per_token=published_shapes.kv_bytes_per_token(shape, dtype.itemsize),
        state_bytes=hybrid_shapes.state_bytes(shape, dtype.itemsize),
    )
