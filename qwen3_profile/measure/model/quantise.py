"""Quantises the Linears of a model in memory, by torchao, and says what that does to its output."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from qwen3_profile.config import Quantize
from qwen3_profile.errors import ModelError, in_words
from qwen3_profile.run_folder.model_weights import OutputDifference

_FLAG = "--quantize"
# Tokens of the pass before and of the pass after, whose logits are compared.
_TOKENS = 128


def import_quietly() -> None:
    """Imports torchao if it is there, as transformers does in any case.

    It warns that its libraries for other devices are not for this one.
    """
    if importlib.util.find_spec("torchao") is None:
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        importlib.import_module("torchao.quantization")
    finally:
        logging.disable(before)


def quantise(model: Any, kind: Quantize, forward: Callable[[torch.Tensor], Any]) -> Any:
    """Quantises all Linears of the layers; not the head, as is usual, nor the experts' tensors.

    int8: weights and activations, these as they come, and a product of integers.
    int4: weights in groups of 128, multiplied by torch's kernel for them, which CUDA alone has.
    fp8: weights and activations where the device multiplies such, else the weights.

    Args:
        forward: one forward pass of token ids, [1, tokens].

    Returns:
        How far the last logits have moved.

    Raises:
        ModelError: torchao is not there, or cannot do this here.
    """
    device = model.get_input_embeddings().weight.device
    with _explained(kind, device):
        from torchao.quantization import quantize_

        ids = _some_tokens(model).to(device)
        before = forward(ids).logits
        head = model.get_output_embeddings()
        quantize_(
            model,
            _config(kind, device),
            filter_fn=lambda module, _: _is_linear(module) and module is not head,
        )
        _release_unquantised(model)
        return _difference(forward(ids).logits, before)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _config(kind: Quantize, device: torch.device) -> Any:
    from torchao import quantization

    # They change settings of Inductor for the whole process if they may.
    keep = {"set_inductor_config": False}
    if kind == "int8":
        return quantization.Int8DynamicActivationInt8WeightConfig(**keep)
    if kind == "int4":
        if device.type == "cpu":
            raise NotImplementedError("torchao multiplies packed weights of 4 bits on GPUs alone")
        return quantization.Int4WeightOnlyConfig(int4_packing_format="tile_packed_to_4d", **keep)
    if _multiplies_fp8(device):
        return quantization.Float8DynamicActivationFloat8WeightConfig(**keep)
    return quantization.Float8WeightOnlyConfig(**keep)


def _multiplies_fp8(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def _some_tokens(model: Any) -> torch.Tensor:
    tokens = min(_TOKENS, getattr(model.config, "max_position_embeddings", _TOKENS))
    return torch.arange(tokens)[None].remainder(model.config.vocab_size)


def _release_unquantised(model: nn.Module) -> None:
    """Random weights are views of one tensor, of which each view keeps the whole."""
    for parameter in model.parameters():
        if type(parameter) is nn.Parameter:
            size = parameter.numel() * parameter.element_size()
            if parameter.untyped_storage().nbytes() > size:
                parameter.data = parameter.data.clone()


def _difference(found: torch.Tensor, expected: torch.Tensor) -> OutputDifference:
    apart = (found.double() - expected.double()).flatten()
    length = expected.double().flatten().norm()
    return OutputDifference(float(apart.abs().max()), float(apart.norm() / length))


@contextmanager
def _explained(kind: Quantize, device: torch.device) -> Iterator[None]:
    where = f"{_FLAG} {kind}"
    try:
        yield
    except ModuleNotFoundError as error:
        what = f"needs {error.name}, which is not installed"
        raise ModelError(where, what, f"pip install {error.name}") from error
    except torch.OutOfMemoryError:
        raise
    # torchao, and the kernels that it calls, may refuse a shape, a dtype or a device with anything.
    except Exception as error:
        do = "take another kind, or leave it out"
        raise ModelError(where, f"does not run on {device}: {in_words(error)}", do) from error
