"""Fills an empty model with random weights in seconds, on its device.

The usual initialisation draws every value, which takes longer than the run. Here one tile of
normal values is drawn and copied over all weights, so that the speed is that of the memory.
No two rows of a matrix are equal, every page of memory is its own, and nothing is zero: a
device is as busy with these values as with trained ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from qwen3_profile.measure.model import hybrid_shapes, published_shapes
from qwen3_profile.run_folder.model_shape import Shape

# The standard deviation that published Qwen3 configs initialise with.
_STD = 0.02
_TILE = 1 << 20
# Each copy of the tile starts so much further on in it than the one before. Odd, so that rows of a
# power of two repeat only after as many tiles as a row is long.
_STRIDE = 1021
# Copies made at once: their starts lie within one tile.
_TILES_AT_ONCE = 1024
# In values: every weight starts where vector instructions and GEMM kernels like it best.
_ALIGN = 64


def values_needed(model: nn.Module) -> int:
    """How many values `fill` takes for `model`."""
    return sum(_aligned(parameter.numel()) for parameter in model.parameters())


def values_of(shape: Shape) -> int:
    """The same of a published shape, which is known before there is a model; or a few more.

    All its weights are multiples of what is aligned to, but for two vectors of each linear layer.
    """
    short = 2 * hybrid_shapes.linear_layers(shape)
    return published_shapes.parameter_count(shape) + short * _ALIGN


def random_values(count: int, dtype: torch.dtype, device: torch.device, seed: int) -> torch.Tensor:
    """`count` values of N(0, 0.02) in a row, the same on every device for the same seed.

    May run in a thread: it uses no state but its own, and hardly ever asks for the interpreter's
    lock, for which it would wait, and hold up whoever else runs, once for each tile.
    """
    return RandomValues(dtype, device, seed).between(0, count)


class RandomValues:
    """Values in a row without an end, of which any stretch can be made.

    Args:
        dtype, device: of the values.
        seed: decides them, on every device.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        tile = (torch.randn(_TILE, generator=generator) * _STD).to(dtype)
        # A copy that starts anywhere in the first tile ends before the third does, and so do those
        # that are made with it.
        self._ring = tile.repeat(3).to(device)

    @property
    def device(self) -> torch.device:
        return self._ring.device

    def between(self, begin: int, end: int) -> torch.Tensor:
        """Those from one place up to, and without, another."""
        first, last = begin // _TILE, -(-end // _TILE)
        tiles = torch.empty(last - first, _TILE, dtype=self._ring.dtype, device=self.device)
        at = first
        while at < last:
            base = at - at % _TILES_AT_ONCE
            stop = min(base + _TILES_AT_ONCE, last)
            together = tiles[at - first : stop - first]
            start = base * _STRIDE % _TILE + (at - base) * _STRIDE
            together.copy_(self._ring.as_strided(together.shape, (_STRIDE, 1), start))
            at = stop
        return tiles.view(-1)[begin - first * _TILE : end - first * _TILE]


def fill(model: Any, values: torch.Tensor) -> None:
    """Gives a model that was built on the meta device its weights, as views of `values`.

    Norms become 1, a tied head is tied again, and the rotary frequencies, which a meta build of
    a Qwen3 loses because no checkpoint holds them, are computed.

    Args:
        model: a causal language model with its parameters on the meta device; its buffers are
            there too, or real and hold their values.
        values: at least `values_needed(model)`, on the device and in the dtype to be.
    """
    _fill(model, lambda begin, end: values[begin:end], lambda full, _: full, values.device)


def fill_one_by_one(
    model: Any, values: RandomValues, share: Callable[[torch.Tensor, nn.Parameter], torch.Tensor]
) -> None:
    """The same, with what `share` makes of each whole parameter and of the empty one.

    No more than one whole parameter is in memory at a time.
    """
    _fill(model, values.between, share, values.device)


def _fill(
    model: Any,
    between: Callable[[int, int], torch.Tensor],
    share: Callable[[torch.Tensor, nn.Parameter], torch.Tensor],
    device: torch.device,
) -> None:
    start = 0
    for name, empty in list(model.named_parameters()):
        view = between(start, start + empty.numel()).view(empty.shape)
        start += _aligned(empty.numel())
        if name.endswith("norm.weight"):
            view.fill_(1.0)
        owner, _, key = name.rpartition(".")
        # Each with a version of its own: autograd takes what is done to one view for done to all.
        # They want gradients, as those of a checkpoint do: torch asks that to choose a kernel, in
        # inference too. Without, the head of a batch would be multiplied once for each sequence.
        given = nn.Parameter(share(view, empty).data)
        setattr(model.get_submodule(owner), key, given)
    model.tie_weights()
    if not any(buffer.is_meta for buffer in model.buffers()):
        model.to(device)
        return
    rotary = model.model.rotary_emb
    with device:
        model.model.rotary_emb = type(rotary)(config=rotary.config)


def _aligned(count: int) -> int:
    return -(-count // _ALIGN) * _ALIGN
