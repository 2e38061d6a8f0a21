"""What each layer of a forward pass takes: block by block, and part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qwen3_profile.analysis.part_rows import LAYERS, PartPath, PartRow, own_path, place_of
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import layers, mixer_of, short_name
from qwen3_profile.trace.columns import Bool, Int64

CPU, CUDA = "cpu", "cuda"
ALL = "all"
LINEAR = "linear_attention"


class BlockTimes(NamedTuple):
    """A block with all in it, in ns; a mean need not be whole."""

    cpu_ns: float = 0
    device_ns: float = 0

    def ns(self, on_device: bool) -> float:
        """The time that counts: the device's where there is one."""
        return self.device_ns if on_device else self.cpu_ns


@dataclass(frozen=True, slots=True)
class LayerBlocks:
    """One layer, or several together, and its blocks; zero where it has no such block.

    whole: the layer's own label, with what is in none of its blocks.
    linear_attn: a mixer that a layer has in place of attention.
    kind: as `mixer_of` says; empty where several kinds are together.
    """

    name: str
    whole: BlockTimes
    attn: BlockTimes
    linear_attn: BlockTimes
    ffn: BlockTimes

    kind: str = ""

    def of(self, block: str) -> BlockTimes:
        found: BlockTimes = getattr(self, block)
        return found

    @property
    def mixer(self) -> BlockTimes:
        """The block that mixes its tokens."""
        return self.linear_attn if self.kind == LINEAR else self.attn


def block_names(every: Sequence[LayerBlocks]) -> tuple[str, ...]:
    """The blocks that these layers have, as columns; a mixer only where there is one."""
    mixers = any(any(each.linear_attn) for each in every)
    return ("attn", *(("linear_attn",) if mixers else ()), "ffn")


def layer_blocks(forward: Part, passes: int = 1) -> tuple[LayerBlocks, ...]:
    """The layers of a forward pass, or of a backward, in order.

    Args:
        passes: `forward` is the sum of so many, and the times are means of one.
    """
    return tuple(
        LayerBlocks(
            name=short_name(layer),
            whole=_mean(layer, "", passes),
            attn=_mean(layer, ".attn", passes),
            linear_attn=_mean(layer, ".linear_attn", passes),
            ffn=_mean(layer, ".ffn", passes),
            kind=mixer_of(layer)[0],
        )
        for layer in layers(forward)
    )


def by_kind(every: Sequence[LayerBlocks]) -> dict[str, list[LayerBlocks]]:
    """Layers that can be compared: those of one kind, in the order in which kinds come up."""
    found: dict[str, list[LayerBlocks]] = {}
    for each in every:
        found.setdefault(each.kind, []).append(each)
    return found


def sum_layers(group: Sequence[LayerBlocks]) -> LayerBlocks:
    """The times of all of these layers."""
    return _together(ALL, group, 1)


def mean_layer(name: str, group: Sequence[LayerBlocks]) -> LayerBlocks:
    """The mean of these layers; zero where there are none."""
    return _together(name, group, max(1, len(group)))


@dataclass(frozen=True, slots=True, eq=False)
class LayerTimes:
    """What each layer takes, part by part, without overlap: a layer's columns add up to it.

    layers: their numbers. paths: of the columns, as in the rows of the pass.
    cpu_ns, device_ns: int64[layers, columns]. calls: int64[layers, columns]; 0 where a layer has
        no such part.
    """

    layers: tuple[int, ...]
    paths: tuple[PartPath, ...]
    cpu_ns: Int64
    device_ns: Int64
    calls: Int64

    def of(self, kind: str) -> Int64:
        return self.cpu_ns if kind == CPU else self.device_ns

    def below(self, path: PartPath) -> Bool:
        """bool[columns]: which columns lie in the part `path`, or are it."""
        return np.array([each[: len(path)] == path for each in self.paths], bool)


def layer_times(forward: Part, rows: Sequence[PartRow]) -> LayerTimes:
    """The layers of one forward pass, and of its backward.

    Args:
        rows: of the pass; its leaves in the layers are the columns.
    """
    known = {row.path for row in rows}
    paths = tuple(row.path for row in rows if row.is_leaf and LAYERS in row.path)
    columns = {path: at for at, path in enumerate(paths)}
    found = []
    for names, part in forward.walk():
        path, layer = place_of(names)
        if layer >= 0 and own_path(path, known) in columns:
            found.append((layer, columns[own_path(path, known)], part))
    numbers = tuple(sorted({layer for layer, _, _ in found}))
    line = {layer: at for at, layer in enumerate(numbers)}
    cpu, device, calls = (np.zeros((len(numbers), len(paths)), np.int64) for _ in range(3))
    for layer, column, part in found:
        cpu[line[layer], column] += part.own.cpu_ns
        device[line[layer], column] += part.own.device_ns
        calls[line[layer], column] += part.total.calls
    return LayerTimes(numbers, paths, cpu, device, calls)


def _mean(layer: Part, block: str, passes: int) -> BlockTimes:
    part = layer.find(f"{layer.name}{block}") if block else layer
    if part is None:
        return BlockTimes()
    return BlockTimes(part.total.cpu_ns / passes, part.total.device_ns / passes)


def _together(name: str, group: Sequence[LayerBlocks], parts: int) -> LayerBlocks:
    columns = zip(*((e.whole, e.attn, e.linear_attn, e.ffn) for e in group), strict=True)
    whole, attn, linear_attn, ffn = (
        BlockTimes(sum(b.cpu_ns for b in blocks) / parts, sum(b.device_ns for b in blocks) / parts)
        for blocks in (columns if group else [()] * 4)
    )
    kinds = {each.kind for each in group}
    return LayerBlocks(name, whole, attn, linear_attn, ffn, kinds.pop() if len(kinds) == 1 else "")
