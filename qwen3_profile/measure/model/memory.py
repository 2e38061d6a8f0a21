"""What weights and a forward pass take of a device's memory, and the line that says it is too much.

A process that asks the CPU for too much is not refused but killed by the system, and what it
measured with it: hence the estimate, before a config runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import ModelError, RunError
from qwen3_profile.measure.devices import free_memory_bytes
from qwen3_profile.measure.model import hybrid_shapes, published_shapes
from qwen3_profile.run_folder.model_shape import Shape

# Of the free memory, what a suggested number of layers leaves to activations and libraries.
_HEADROOM = 0.1
_INDEX_BYTES = 8
_SOFTMAX_BYTES = 4
# As torch words it for a GPU ("Tried to allocate 20.00 GiB") and for the CPU, in bytes.
_SIZE = r"(?P<count>[\d.]+) (?P<unit>[KMGT]iB|bytes)"
_TRIED = re.compile(f"[Tt]ried to allocate {_SIZE}")
# And what it says besides for a GPU: what the driver had, and what lay unused between its blocks.
_FREE = re.compile(f"of which {_SIZE} is free")
_PIECES = re.compile(f"{_SIZE} is reserved by PyTorch but unallocated")
# Of the driver and the libraries on it, which torch raises as it raises any other error of theirs.
_DRIVER = re.compile(r"(CUDA|HIP) error: out of memory|(CUBLAS|CUDNN|HIPBLAS)_STATUS_ALLOC_FAILED")
_FEWER_PIECES = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
_UNIT_BYTES = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


@dataclass(frozen=True, slots=True)
class WeightSize:
    """Parameters of a model: all, and those that are in no layer; and how many layers it has."""

    parameters: int
    outside: int
    layers: int

    def shared_by(self, ranks: int) -> WeightSize:
        """What each of so many ranks has of them, but for the few that all have."""
        return WeightSize(self.parameters // ranks, self.outside // ranks, self.layers)


def size_of(shape: Shape) -> WeightSize:
    outside = published_shapes.parameter_count(replace(shape, num_hidden_layers=0))
    return WeightSize(published_shapes.parameter_count(shape), outside, shape.num_hidden_layers)


def check_weights(name: str, size: WeightSize, dtype: torch.dtype, device: torch.device) -> None:
    """Refuses a model whose weights alone exceed the free memory of `device`.

    Raises:
        ModelError: with the numbers, and what would fit.
    """
    free = free_memory_bytes(device)
    needed = size.parameters * dtype.itemsize
    if free is None or needed <= free:
        return
    what = (
        f"needs {_gb(needed)} for its weights in {str(dtype).removeprefix('torch.')}, "
        f"and {device} has {_gb(free)} free"
    )
    raise ModelError(name, what, _what_would_fit(size, dtype, free))


def _what_would_fit(size: WeightSize, dtype: torch.dtype, free_bytes: int) -> str:
    room = free_bytes * (1 - _HEADROOM)
    if dtype.itemsize > 2 and size.parameters * 2 <= room:
        return "--dtype bfloat16 would fit"
    per_layer = (size.parameters - size.outside) / size.layers
    layers = int((room / dtype.itemsize - size.outside) / per_layer)
    if layers >= 1:
        return f"--num-layers {layers} would fit"
    return "take a smaller model or a device with more memory"


@dataclass(frozen=True, slots=True)
class Needed:
    """The least that a forward pass takes besides the weights, at its peak.

    kv_bytes: the KV cache of all layers, and what linear layers keep in its place.
    activation_bytes: what lives besides it in one layer.
    """

    kv_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.kv_bytes + self.activation_bytes


def least_needed(shape: Shape, config: RunConfig, value_bytes: int, attention: str) -> Needed:
    """A lower bound of a forward pass's peak memory, so that what it refuses cannot run.

    In the last layer, of T = batch_size x input_len tokens, there are at once: the KV cache, the
    token ids, the residual and the normed hidden states [T, hidden_size], and the larger of
        attention: queries and output [T, heads x head_dim] each; eager also has the scores
                   [batch_size, heads, input_len, input_len], and their softmax in float32;
        dense ffn: gate, up and their product [T, intermediate_size] each;
        experts:   the sum of their outputs [T, hidden_size], and the router's logits; batched_mm
                   also has a copy of all three matrices of the expert for each token and each of
                   its top-k experts.

    A training step has no KV cache, but in the end as many gradients as weights.

    Args:
        value_bytes: of one weight or activation.
        attention: the name of the implementation that runs.
    """
    tokens = config.batch_size * config.input_len
    heads = 2 * tokens * shape.num_attention_heads * shape.head_dim * value_bytes
    if attention == "eager":
        scores = tokens * config.input_len * shape.num_attention_heads
        heads += scores * (value_bytes + _SOFTMAX_BYTES)
    if shape.num_hidden_layers == hybrid_shapes.linear_layers(shape):
        heads = 0
    ffn = 3 * tokens * shape.intermediate_size * value_bytes
    if shape.experts is not None and shape.num_hidden_layers - 1 in shape.moe_layers:
        ffn = tokens * (shape.hidden_size + shape.experts.num_experts) * value_bytes
        if config.experts_implementation == "batched_mm":
            matrix = shape.hidden_size * shape.experts.moe_intermediate_size * value_bytes
            ffn += 3 * tokens * shape.experts.num_experts_per_tok * matrix
    if config.backward:
        gradients = published_shapes.parameter_count(shape) * value_bytes
        return Needed(kv_bytes=0, activation_bytes=gradients)
    kept = tokens * (2 * shape.hidden_size * value_bytes + _INDEX_BYTES)
    return Needed(
        kv_bytes=tokens * published_shapes.kv_bytes_per_token(shape, value_bytes)
        + config.batch_size * hybrid_shapes.state_bytes(shape, value_bytes),
        activation_bytes=kept + max(heads, ffn),
    )


def check_room(
    shape: Shape, config: RunConfig, attention: str, dtype: torch.dtype, device: torch.device
) -> None:
    """Refuses a config that cannot fit besides the weights, before it runs.

    Raises:
        RunError: with the numbers, and what to lower.
    """
    release_unused(device)
    free = free_memory_bytes(device)
    needed = least_needed(shape, config, dtype.itemsize, attention)
    if free is None or needed.total_bytes <= free:
        return
    what = (
        f"needs at least {_gb(needed.total_bytes)} beside the weights (KV cache "
        f"{_gb(needed.kv_bytes)}, activations {_gb(needed.activation_bytes)}), and {device} has "
        f"{_gb(free)} free"
    )
    raise RunError(f"config {config.worker}", what, _what_to_lower(config, attention))


def out_of_memory(
    config: RunConfig, attention: str, device: torch.device, error: BaseException, part: str = ""
) -> RunError:
    """The line for an allocator's `error`: how much it asked for, how much there is.

    Args:
        part: the label of what ran; empty where none did.
    """
    release_unused(device)
    text = str(error)
    asked, pieces = _size(_TRIED, text), _size(_PIECES, text)
    figures = _figures(asked, _size(_FREE, text), pieces, free_memory_bytes(device))
    within = f" in {part}" if part else ""
    what = f"out of memory on {device}{within}" + (f": {figures}" if figures else "")
    do = _what_to_lower(config, attention)
    if asked is not None and pieces is not None and pieces > asked:
        do = f"set {_FEWER_PIECES}, which leaves fewer pieces; or {do}"
    return RunError(f"config {config.worker}", what, do)


def _figures(
    asked: float | None, free: float | None, pieces: float | None, left: int | None
) -> str:
    """What there was, in one message, for its Chinese has another order.

    Args:
        free, pieces: as the error has them. left: once the failed pass had given back its own.
    """
    if asked is not None and free is not None and pieces is not None:
        return (
            f"asked for {_gb(asked)} more, {_gb(free)} were free and {_gb(pieces)} in pieces "
            "between blocks"
        )
    if asked is not None and left is not None:
        return f"asked for {_gb(asked)} more, {_gb(left)} were left beside the weights"
    if asked is not None:
        return f"asked for {_gb(asked)} more"
    return "" if left is None else f"with {_gb(left)} left beside the weights"


def _size(pattern: re.Pattern[str], text: str) -> float | None:
    """The bytes that torch names there."""
    found = pattern.search(text)
    return float(found["count"]) * _UNIT_BYTES[found["unit"]] if found else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up; the CPU's and the driver's raise a RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text
        or "not enough memory" in text
        or _DRIVER.search(text) is not None
    )


def release_unused(device: torch.device) -> None:
    """Gives back what torch keeps of freed memory, so that it counts as free."""
    empty_cache = getattr(torch.get_device_module(device), "empty_cache", None)
    if empty_cache is not None:
        empty_cache()


def _what_to_lower(config: RunConfig, attention: str) -> str:
    other = ", or take another attn_implementation than eager" if attention == "eager" else ""
    if config.experts_implementation == "batched_mm":
        other += ", or take another experts_implementation than batched_mm"
    return (
        f"lower batch_size ({config.batch_size}) or input_len ({config.input_len}), "
        f"or give --num-layers{other}"
    )


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
