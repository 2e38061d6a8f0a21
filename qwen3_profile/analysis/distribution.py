"""What a median hides: drift over the run, slow first steps, and two speeds instead of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial, sqrt

import numpy as np
import numpy.typing as npt

from qwen3_profile.records.quantiles import median, quantile

Float64 = npt.NDArray[np.float64]

# Of fewer passes nothing is said of their speeds.
_FEWEST = 10
_FEWEST_RUNS = 3
# How often a drift is seen where there is none.
TREND_ALARMS = 0.01
# With fewer no trend would be so rare; more than these are never needed.
_FEWEST_BLOCKS, _MOST_BLOCKS = 6, 8
# What is smaller than this share of a time is not worth a sentence.
_SMALL = 0.05
_SLOW_FIRST = 1.2
# Two speeds lie so many standard deviations apart; halves of one bell 2.7, of a plateau 3.5.
_APART = 5.0
_LEAST_MODE = 0.15


@dataclass(frozen=True, slots=True)
class Modes:
    """Two speeds, in ns, and the share of the passes that run at the first, faster one."""

    fast_ns: float
    slow_ns: float
    fast_share: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What is odd in the times of passes, in their order; None of what is not.

    drift: how much longer the last third took than the first, as a share.
    first: how many times as long the first step of a run takes as the others.
    """

    drift: float | None
    first: float | None
    modes: Modes | None


def shape_of(runs: Sequence[Sequence[float]]) -> Shape:
    """The shape of bare times.

    Args:
        runs: of each run its passes, in order, in ns: of a decode the steps, else one pass.
    """
    rest = [run[1:] if len(run) > 1 else run for run in runs]
    # The steps of a decode grow with their context, so that only runs can be held together.
    drift = drift_of([median(run) for run in rest])
    times = np.array([ns for run in rest for ns in run], np.float64)
    has_modes = len(times) >= _FEWEST and bool(times.any())
    return Shape(drift, _slow_first(runs), _modes(times) if has_modes else None)


def shape_sentences(runs: Sequence[Sequence[float]]) -> Iterator[str]:
    """What is odd, in words."""
    shape = shape_of(runs)
    if shape.first is not None:
        yield f"The first step of a run takes {shape.first:.2f} times as long as the others."
    if shape.drift is not None:
        longer = "longer" if shape.drift > 0 else "shorter"
        yield f"It drifts: the last third takes {abs(shape.drift):.1%} {longer} than the first."
    if shape.modes is not None:
        modes = shape.modes
        yield (
            f"It has two speeds: {modes.fast_share:.0%} of the passes near "
            f"{modes.fast_ns / 1e6:.3f} ms, the others near {modes.slow_ns / 1e6:.3f} ms; a median "
            "of both is neither."
        )


def _slow_first(runs: Sequence[Sequence[float]]) -> float | None:
    """Of several runs, for of one run any step may be slow; and slower than most others."""
    firsts = [run[0] for run in runs if len(run) > 2]
    others = sorted(ns for run in runs if len(run) > 2 for ns in run[1:])
    if len(firsts) < _FEWEST_RUNS or median(firsts) < quantile(others, 0.9):
        return None
    # A part may have no device time in most passes.
    if not median(others):
        return None
    ratio = median(firsts) / median(others)
    return ratio if ratio > _SLOW_FIRST else None


def drift_of(times: Sequence[float]) -> float | None:
    """By how much later passes are longer than earlier ones, as a share; None where it is chance.

    Kendall's test of a trend over the medians of blocks, for passes beside each other are alike
    where the machine's other work comes and goes: exact, and seen in one of a hundred series
    without a trend at most.

    Args:
        times: in order, each of the same work.
    """
    blocks = min(len(times), _MOST_BLOCKS)
    if blocks < _FEWEST_BLOCKS:
        return None
    middles = [float(np.median(block)) for block in np.array_split(np.array(times), blocks)]
    third = len(times) // 3
    first, last = median(times[:third]), median(times[-third:])
    if not first:
        return None
    change = last / first - 1
    return change if _trend_chance(middles) <= TREND_ALARMS and abs(change) > _SMALL else None


def _trend_chance(values: Sequence[float]) -> float:
    """How likely values in any order have as strong a trend, up or down (Kendall 1938)."""
    pairs = list(combinations(values, 2))
    score = abs(sum((one < other) - (one > other) for one, other in pairs))
    # Orders by their number of pairs that are the wrong way round, each value put among the others.
    orders = [1]
    for count in range(2, len(values) + 1):
        orders = np.convolve(orders, [1] * count).tolist()
    strong = sum(ways for wrong, ways in enumerate(orders) if abs(len(pairs) - 2 * wrong) >= score)
    return strong / factorial(len(values))


def _modes(times: Float64) -> Modes | None:
    """The two groups that are tightest, if they are far apart and neither is small."""
    ranked = np.sort(times)
    least = max(2, round(_LEAST_MODE * len(ranked)))
    splits = range(least, len(ranked) - least + 1)
    within = [_squares(ranked[:at]) + _squares(ranked[at:]) for at in splits]
    at = least + int(np.argmin(within))
    fast, slow = ranked[:at], ranked[at:]
    spread = sqrt((fast.var(ddof=1) + slow.var(ddof=1)) / 2)
    distance = float(slow.mean() - fast.mean())
    if distance < _APART * spread or distance < _SMALL * fast.mean():
        return None
    return Modes(float(np.median(fast)), float(np.median(slow)), at / len(ranked))


def _squares(values: Float64) -> float:
    return float(((values - values.mean()) ** 2).sum())
