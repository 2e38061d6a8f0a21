"""The passes of one config in, the times of each layer by part out, and which layers stand out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile.attribution.parts import Part
from qwen3_profile.trace.columns import Bool, Int64
from qwen3_profile.views.report.rows import LAYERS, PartPath, PartRow, own_path, place_of

# A layer stands out from its equals by more than so many scaled MADs from their median, by more
# than this share of it, and by more than this share of what a whole layer takes.
MOST_MADS = 3.0
LEAST_EXCESS = 0.05
LEAST_OF_LAYER = 0.01
FEWEST_EQUALS = 5
# The MAD of normal noise times this is its standard deviation.
_SCALE = 1.4826

# Passes beyond these are not looked at for what stands out; these lie evenly among all.
_MOST_PASSES = 25

CPU, CUDA = "cpu", "cuda"


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


@dataclass(frozen=True, slots=True)
class Outlier:
    """A part of a layer whose time is not that of its equals.

    kind: `CPU` or `CUDA`. ns: in the pass shown. median_ns: of the equals in that pass.
    """

    layer: int
    path: PartPath
    kind: str
    ns: int
    median_ns: float


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


def find_outliers(shown: LayerTimes, passes: Sequence[LayerTimes]) -> tuple[Outlier, ...]:
    """Layers that stand out in the pass shown, and in the median of all passes; the most first.

    Args:
        passes: of the same layers and columns, `shown` among them; others are left out.
    """
    same = [each for each in passes if each.layers == shown.layers and each.paths == shown.paths]
    found: list[Outlier] = []
    for equals in _equals(shown):
        for kind in (CPU, CUDA):
            usual = np.median([each.of(kind)[equals] for each in same], axis=0)
            found += _stand_out(shown, usual, equals, kind)
    return tuple(sorted(found, key=lambda each: -abs(each.ns - each.median_ns)))


def some_passes(count: int) -> list[int]:
    """Positions of the passes that are looked at, evenly among so many."""
    taken = min(count, _MOST_PASSES)
    return [at * (count - 1) // max(1, taken - 1) for at in range(taken)]


def _equals(times: LayerTimes) -> Iterator[Int64]:
    """The positions of layers that have the same parts, where there are enough of them."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for at, calls in enumerate(times.calls):
        groups[(calls > 0).tobytes()].append(at)
    yield from (np.array(g, np.int64) for g in groups.values() if len(g) >= FEWEST_EQUALS)


def _stand_out(shown: LayerTimes, usual: np.ndarray, equals: Int64, kind: str) -> Iterator[Outlier]:
    """The outliers among `equals`. usual: their times, medians over the passes."""
    whole = float(np.median(usual.sum(axis=1)))
    for path in _candidates(shown.paths):
        inside = shown.below(path)
        now = shown.of(kind)[equals][:, inside].sum(axis=1)
        mask = _unusual(now, whole) & _unusual(usual[:, inside].sum(axis=1), whole)
        for at in np.flatnonzero(mask).tolist():
            yield Outlier(
                layer=shown.layers[int(equals[at])],
                path=path,
                kind=kind,
                ns=int(now[at]),
                median_ns=float(np.median(now)),
            )


def _candidates(paths: Sequence[PartPath]) -> list[PartPath]:
    """Whole layers, their blocks, and the parts of these."""
    found: dict[PartPath, None] = {}
    for path in paths:
        for length in range(path.index(LAYERS) + 1, len(path) + 1):
            found.setdefault(path[:length])
    return list(found)


def _unusual(values: np.ndarray, whole: float) -> Bool:
    middle = np.median(values)
    distance = np.abs(values - middle)
    scale = _SCALE * np.median(distance)
    least = max(MOST_MADS * scale, LEAST_EXCESS * middle, LEAST_OF_LAYER * whole)
    mask: Bool = distance > least
    return mask
