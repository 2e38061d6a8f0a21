"""Decoders other than Qwen3, as transformers knows them: their classes, and an empty model.

Nothing here is about one family: the classes are those of transformers' own mappings, the sizes are
read under the names that configs share, and parameters are counted in the model itself. Importing
the mappings takes longer than importing one class, so Qwen3 does not come this way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from qwen3_profile.measure.model.quantised import parameter_count
from qwen3_profile.measure.model.structure import find_decoder, is_moe, parts_of
from qwen3_profile.run_folder.model_shape import Experts, LinearLayers, Shape

# In values. No buffer is that large.
_LARGE = 1 << 28


@dataclass(frozen=True, slots=True)
class Counted:
    """What a model is made of, counted in its modules.

    moe_layers: the indices of the layers with a mixture of experts.
    parameters: all, a tied head once. active: without the experts that a token does not use.
    outside: the parameters that are in no layer.
    """

    moe_layers: tuple[int, ...]
    parameters: int
    active: int
    outside: int


def is_known(model_type: str) -> bool:
    """Whether transformers has a causal language model of this type, without remote code."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def config_class(model_type: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type]


def model_class(model_type: str) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    return MODEL_FOR_CAUSAL_LM_MAPPING[config_class(model_type)]


def shape_of(config: Any) -> Shape:
    """The sizes of a config; `published_shapes.parameter_count` and its kin do not hold for it.

    Raises:
        AttributeError: it has no layers, width, heads or vocabulary under the usual names.
    """
    heads = config.num_attention_heads
    return Shape(
        hidden_size=config.hidden_size,
        intermediate_size=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=heads,
        num_key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        tie_word_embeddings=bool(getattr(config, "tie_word_embeddings", False)),
        max_position_embeddings=getattr(config, "max_position_embeddings", 0),
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocab_size=config.vocab_size,
        experts=experts_of(config),
        linear=linear_layers(config),
        attn_output_gate=linear_layers(config) is not None,
    )


def experts_of(config: Any) -> Experts | None:
    """The mixture of experts that a config describes as a Qwen's does; None where it has none."""
    if not getattr(config, "num_experts", None) or not hasattr(config, "moe_intermediate_size"):
        return None
    return Experts(
        num_experts=config.num_experts,
        num_experts_per_tok=config.num_experts_per_tok,
        moe_intermediate_size=config.moe_intermediate_size,
        norm_topk_prob=getattr(config, "norm_topk_prob", True),
        decoder_sparse_step=getattr(config, "decoder_sparse_step", 1),
        mlp_only_layers=tuple(getattr(config, "mlp_only_layers", None) or ()),
        shared_expert_intermediate_size=getattr(config, "shared_expert_intermediate_size", 0),
    )


def linear_layers(config: Any) -> LinearLayers | None:
    """The gated delta nets that a config describes; None where it has none."""
    if getattr(config, "linear_num_value_heads", None) is None:
        return None
    names = (field.name for field in fields(LinearLayers) if field.name != "layer_types")
    sizes = {name: getattr(config, name) for name in names}
    return LinearLayers(tuple(config.layer_types), **sizes)


def count(model: nn.Module, config: Any) -> Counted:
    """Counts the parameters of a model, which may be without weights.

    Raises:
        ModelError: it has no decoder layers.
    """
    layers = find_decoder(model).layers
    total = parameter_count(model)
    moe_layers = []
    idle = 0
    for index, layer in enumerate(layers):
        experts = [part for part in _ffn_parts(layer) if part.part == "experts"]
        if experts:
            moe_layers.append(index)
            idle += sum(parameter_count(module) for part in experts for module in part.modules)
    active = total - round(idle * (1 - _share_used(config)))
    return Counted(tuple(moe_layers), total, active, total - parameter_count(layers))


def empty_model(config: Any) -> Any:
    """The model of `config` with its parameters on the meta device, and real buffers.

    Buffers hold what no checkpoint has: rotary frequencies, scales of embeddings.
    """
    with _parameters_on_meta():
        return model_class(config.model_type)(config).eval()


def _ffn_parts(layer: nn.Module) -> Iterator[Any]:
    for block in parts_of(layer, "layer"):
        if block.part == "ffn" and is_moe(block.modules[0]):
            yield from parts_of(block.modules[0], "moe")


def _share_used(config: Any) -> float:
    """Of a layer's experts, the share that one token uses; 1 where the config does not tell."""
    used = getattr(config, "num_experts_per_tok", None)
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    there = next((n for name in names if (n := getattr(config, name, None))), None)
    return used / there if used and there else 1.0


class _LargeOnMeta(TorchFunctionMode):
    """Makes tensors on the meta device that a machine may not have the memory for, even one."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and args:
            sizes = args[0] if isinstance(args[0], tuple | list | torch.Size) else args
            if math.prod(sizes) > _LARGE:
                kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Moves each parameter to the meta device as soon as a module has it.

    Only one exists at a time, and nobody writes into it, so that it takes no memory.
    """
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(
                torch.empty_like(parameter, device="meta"), parameter.requires_grad
            )
        register(module, name, parameter)

    nn.Module.register_parameter = register_empty  # type: ignore[assignment, method-assign]
    try:
        with _LargeOnMeta():
            yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
