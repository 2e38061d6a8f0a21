"""Which layers take longer, or shorter, than others of the same parts.

Of a run in which all layers of a kind are alike, one in twenty at most shows any (`FALSE_ALARMS`).
Three things have to hold of a layer in a row of the parts table:

- It is among the r longest of n in each of P passes, or among the shortest. Of layers that differ
  by chance alone that happens to one with a probability of (r / n)^P, whatever the times are
  distributed like. So few passes tell nothing, and `Passes.needed` says how many would.
- It lies outside of what the layers themselves differ by, run after run: an outlier of the layers'
  medians by Rosner's generalized extreme Studentized deviate test (Technometrics 25, 1983), on the
  logarithms.
- The difference is worth a sentence: `LEAST_EXCESS` of its equals, `LEAST_OF_LAYER` of a layer.

Each of the first two is held to the rate over all rows and layers that are looked at. Times of the
host count where they are of passes that ran without the profiler: its buffers grow in the same
layers of each pass, which then took up to 1.9 times as long, in thirteen of thirteen processes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np
import numpy.typing as npt

from qwen3_profile.analysis.layer_times import CPU, CUDA, LayerTimes, layer_times
from qwen3_profile.analysis.median_pass import is_on_device
from qwen3_profile.analysis.part_rows import LAYERS, PartPath, part_tree
from qwen3_profile.analysis.student import two_sided
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.trace.columns import Bool, Int64

Float64 = npt.NDArray[np.float64]

FALSE_ALARMS = 0.05
LEAST_EXCESS = 0.05
LEAST_OF_LAYER = 0.01
FEWEST_EQUALS = 5
# Of the layers of a kind so many at most are outliers; the others are what they are held against.
_MOST_ODD = 0.25
# Passes beyond these are not looked at for what stands out; these lie evenly among all.
_MOST_PASSES = 25


@dataclass(frozen=True, slots=True)
class Outlier:
    """A part of a layer whose time is not that of its equals.

    kind: `CPU` or `CUDA`. ns: in the pass shown. median_ns: of the equals in that pass.
    ratio: of the medians over all passes. passes: how many were looked at; in each of them it was
        among the `rank` longest, or shortest, of `equals`.
    is_first: whether it is the first layer of its kind.
    """

    layer: int
    path: PartPath
    kind: str
    ns: int
    median_ns: float
    ratio: float
    passes: int
    rank: int
    equals: int
    is_first: bool

    @property
    def part(self) -> str:
        """The name of the part; empty of the whole layer."""
        return "" if self.path[-1] == LAYERS else self.path[-1]


@dataclass(frozen=True, slots=True)
class OddLayers:
    """What was found, and what it rests on.

    outliers: the largest difference first.
    passes: how many were looked at. needed: fewer of them tell nothing; 0 where no number would,
        for there are too few layers of a kind, or no times that count.
    """

    outliers: tuple[Outlier, ...] = ()
    passes: int = 0
    needed: int = 0

    @property
    def is_judged(self) -> bool:
        return 0 < self.needed <= self.passes

    @property
    def why_not(self) -> str:
        """Why layers were not held against each other; empty where they were."""
        if self.is_judged or not self.needed:
            return ""
        have = "1 traced pass" if self.passes == 1 else f"{self.passes} traced passes"
        return f"{have} cannot tell an outlier from noise; {self.needed} can"


def find_odd_layers(shown: TimingRecord, passes: Sequence[TimingRecord]) -> OddLayers:
    """Layers that stand out in all passes.

    Args:
        passes: one forward pass each, `shown` among them.
    """
    kinds = kinds_that_count(passes)
    chosen = [passes[at] for at in some_passes(len(passes))]
    each = [layer_times(one.times.forward, part_tree(one.times.forward)) for one in chosen]
    return find_outliers(
        layer_times(shown.times.forward, part_tree(shown.times.forward)), each, kinds
    )


def kinds_that_count(passes: Sequence[TimingRecord]) -> tuple[str, ...]:
    """Whose times are not those of a profiler: the device's, and the host's by its clock."""
    has_clock = all(each.times.has_clock for each in passes)
    return (*((CUDA,) if is_on_device(passes) else ()), *((CPU,) if has_clock else ()))


def find_outliers(
    shown: LayerTimes, passes: Sequence[LayerTimes], kinds: Sequence[str] = (CPU, CUDA)
) -> OddLayers:
    """As `find_odd_layers`.

    Args:
        passes: of the same layers and columns; others are left out.
    """
    same = [each for each in passes if each.layers == shown.layers and each.paths == shown.paths]
    groups, paths = list(_equals(shown)), _candidates(shown.paths)
    rows = len(groups) * len(paths) * len(kinds)
    if not rows or not same:
        return OddLayers(passes=len(same))
    alpha = FALSE_ALARMS / rows
    found = [
        outlier
        for equals in groups
        for kind in kinds
        for outlier in _stand_out(shown, same, equals, kind, alpha)
    ]
    needed = max(_passes_needed(alpha, len(equals)) for equals in groups)
    ranked = sorted(found, key=lambda each: -abs(each.ns - each.median_ns))
    return OddLayers(tuple(ranked), len(same), needed)


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


def _candidates(paths: Sequence[PartPath]) -> list[PartPath]:
    """Whole layers, their blocks, and the parts of these."""
    found: dict[PartPath, None] = {}
    for path in paths:
        for length in range(path.index(LAYERS) + 1, len(path) + 1):
            found.setdefault(path[:length])
    return list(found)


def _stand_out(
    shown: LayerTimes, passes: Sequence[LayerTimes], equals: Int64, kind: str, alpha: float
) -> Iterator[Outlier]:
    """The outliers among `equals`. alpha: how often any of them may be one in a row by chance."""
    layers = np.stack([each.of(kind)[equals] for each in passes])
    whole = float(np.median(layers.sum(axis=2)))
    for path in _candidates(shown.paths):
        inside = shown.below(path)
        times = layers[:, :, inside].sum(axis=2)
        if not times.all():
            continue
        usual = np.median(times, axis=0)
        middle = float(np.median(usual))
        ranks = _worst_ranks(times)
        is_odd = _is_large(usual, middle, whole) & _is_outside(np.log(usual), alpha)
        is_odd &= 2 * len(equals) * (ranks / len(equals)) ** len(times) <= alpha
        now = shown.of(kind)[equals][:, inside].sum(axis=1)
        for at in np.flatnonzero(is_odd).tolist():
            yield Outlier(
                layer=shown.layers[int(equals[at])],
                path=path,
                kind=kind,
                ns=int(now[at]),
                median_ns=float(np.median(now)),
                ratio=float(usual[at] / middle),
                passes=len(times),
                rank=int(ranks[at]),
                equals=len(equals),
                is_first=at == 0,
            )


def _worst_ranks(times: Int64) -> Int64:
    """Among how many of the longest, or of the shortest, each layer is in every pass.

    Args:
        times: int64[passes, layers]; of those that take the same each counts as the last of them.
    """
    longest = (times[:, :, None] <= times[:, None, :]).sum(axis=2).max(axis=0)
    shortest = (times[:, :, None] >= times[:, None, :]).sum(axis=2).max(axis=0)
    ranks: Int64 = np.minimum(longest, shortest)
    return ranks


def _is_large(usual: Float64, middle: float, whole: float) -> Bool:
    mask: Bool = np.abs(usual - middle) > max(LEAST_EXCESS * middle, LEAST_OF_LAYER * whole)
    return mask


def _is_outside(values: Float64, alpha: float) -> Bool:
    """The outliers by Rosner's test: the furthest is taken away, again and again; all up to the
    last one that lies too far from those that are left.
    """
    left = np.ones(len(values), bool)
    taken: list[int] = []
    outliers, most = 0, max(1, int(_MOST_ODD * len(values)))
    for _ in range(most):
        rest = values[left]
        distance = np.where(left, np.abs(values - rest.mean()), -1.0)
        at = int(distance.argmax())
        spread = float(rest.std(ddof=1))
        left[at] = False
        taken.append(at)
        # Of few values each look would find one as often, and all together more often.
        if _chance(float(distance[at]), spread, len(rest)) <= alpha / most:
            outliers = len(taken)
    mask = np.zeros(len(values), bool)
    mask[taken[:outliers]] = True
    return mask


def _chance(distance: float, spread: float, count: int) -> float:
    """How likely the furthest of so many normal values lies as far from their mean."""
    if spread <= 1e-12:
        return 1.0  # all alike, to the last digit
    share = distance / spread
    room = (count - 1) ** 2 - count * share**2
    if room <= 0:
        return 0.0  # all others are alike
    return count * two_sided((count * (count - 2) * share**2 / room) ** 0.5, count - 2)


def _passes_needed(alpha: float, equals: int) -> int:
    """How many passes it takes until the longest of all in each is so by chance too rarely."""
    return ceil(log(2 * equals / alpha) / log(equals) - 1e-9)
