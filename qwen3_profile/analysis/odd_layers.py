"""Which layers take longer, or shorter, than others of the same parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile.analysis.layer_times import CPU, CUDA, LayerTimes
from qwen3_profile.analysis.part_rows import LAYERS, PartPath
from qwen3_profile.trace.columns import Bool, Int64

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


def odd_layers(outliers: Iterable[Outlier], on_device: bool) -> dict[int, Outlier]:
    """By layer what stands out most in it, the most of all first.

    Args:
        outliers: the most first.
        on_device: whether the device's times count too; where it did nothing they say nothing.
    """
    found: dict[int, Outlier] = {}
    for outlier in outliers:
        if on_device or outlier.kind != CUDA:
            found.setdefault(outlier.layer, outlier)
    return found


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
