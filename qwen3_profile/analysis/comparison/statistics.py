"""What can be said of two sides of processes: ratio, interval, and what could have been seen.

The unit is the process: all passes of one share what made it fast or slow, and tests that take
passes for independent call half of all comparisons of equal sides different. So each process
counts once, by the logarithm of the median over its passes, and Student's t is taken between the
two sides; Welch's where they are of unequal numbers. Ratios follow from differences of logarithms.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

# How often a change as large as that which "could be seen" is found.
POWER = 0.80
_MOST_PROCESSES = 1000


@dataclass(frozen=True, slots=True)
class TTest:
    """One row of two sides, of which each has at least two processes.

    ratio: NEW over BASE, of the means of logarithms. low, high: its interval at 1 - alpha.
    p: of no difference, two-sided. p_same: of a difference beyond the margin, either way.
    p_slower: of NEW being slower by no more than the margin.
    sees: the smallest slowdown that would be found with 80 %, as a share.
    spread: the standard deviation of the processes of a side, as a share of their time.
    """

    ratio: float
    low: float
    high: float
    p: float
    p_same: float
    p_slower: float
    sees: float
    spread: float


def t_tests(base: Float64, new: Float64, alpha: float, margin: float) -> tuple[TTest, ...]:
    """The test of each row.

    Args:
        base, new: float64[rows, processes], logarithms of times; two processes a side at least.
        margin: what counts as the same, as a share.
    """
    if not len(base):
        return ()
    from scipy.stats import t  # takes a third of a second to import

    grow = log(1 + margin)
    whole = _t_test(new, base)
    low, high = whole.confidence_interval(1 - alpha)
    quantile = t.ppf(1 - alpha / 2, whole.df)
    se = (high - low) / 2 / quantile
    columns = (
        np.exp((low + high) / 2),
        np.exp(low),
        np.exp(high),
        np.where(np.isnan(whole.pvalue), 1.0, whole.pvalue),  # equal to the last digit
        np.maximum(
            _t_test(new - grow, base, "less").pvalue, _t_test(new + grow, base, "greater").pvalue
        ),
        _t_test(new, base + grow, "greater").pvalue,
        np.expm1((quantile + t.ppf(POWER, whole.df)) * se),
        np.sqrt((base.var(axis=1, ddof=1) + new.var(axis=1, ddof=1)) / 2),
    )
    return tuple(TTest(*row) for row in np.stack(columns, axis=1).tolist())


def _t_test(new: Float64, base: Float64, alternative: str = "two-sided") -> Any:
    """Student's test of each row, or Welch's where the sides are of unequal numbers."""
    from scipy.stats import ttest_ind

    equal = new.shape[1] == base.shape[1]
    with warnings.catch_warnings():
        # Of processes that agree to the last digits, as short kernels do.
        warnings.simplefilter("ignore", RuntimeWarning)
        return ttest_ind(new, base, axis=1, equal_var=equal, alternative=alternative)


def adjusted(p: Sequence[float]) -> tuple[float, ...]:
    """Benjamini and Hochberg's: of the rows below a limit no more than that share is by chance."""
    if not p:
        return ()
    from scipy.stats import false_discovery_control

    return tuple(false_discovery_control(list(p), method="bh").tolist())


def smallest_change(spread: float, count: int, alpha: float) -> float:
    """The smallest slowdown, as a share, that so many processes a side find with 80 %.

    Args:
        spread: standard deviation of the logarithms of the processes.
        count: of each side; two at least.
    """
    from scipy.stats import t

    df = 2 * (count - 1)
    return exp((t.ppf(1 - alpha / 2, df) + t.ppf(POWER, df)) * spread * sqrt(2 / count)) - 1


@lru_cache(maxsize=4096)
def processes_needed(spread: float, change: float, alpha: float) -> int | None:
    """Processes a side that find a change with 80 %; None where a thousand would not.

    Args:
        spread: standard deviation of the logarithms of the processes.
        change: as a share.
    """
    from scipy.stats import nct, t

    def finds(count: int) -> bool:
        df, shift = 2 * (count - 1), log(1 + change) / (spread * sqrt(2 / count))
        # That the change is found the wrong way round is less than a thousandth of it.
        return bool(nct.sf(t.ppf(1 - alpha / 2, df), df, shift) >= POWER)

    if spread <= 0:
        return 2
    low, high = 1, 2
    while not finds(high):
        if high == _MOST_PROCESSES:
            return None
        low, high = high, min(2 * high, _MOST_PROCESSES)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if finds(middle) else (middle, high)
    return high


def mean_time(logs: Float64) -> float:
    """The time that stands for a side: the geometric mean of its processes'."""
    return exp(float(logs.mean()))
