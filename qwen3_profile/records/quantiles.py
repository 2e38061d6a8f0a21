"""The one way in which medians and quantiles of times are taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Time per output token: the median step, and those that 90 % and 99 % do not exceed."""

    median: float
    p90: float
    p99: float


def token_times(steps: Sequence[float]) -> TokenTimes:
    """Of the times of decode steps, in their own unit."""
    ranked = sorted(steps)
    return TokenTimes(*(quantile(ranked, share) for share in (0.5, 0.9, 0.99)))


def median(values: Iterable[float]) -> float:
    """The middle of at least one value, or the mean of the two in the middle."""
    ranked = sorted(values)
    below, above = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    return below if len(ranked) % 2 else (below + above) / 2


def quantile(ranked: Sequence[Any], share: float) -> Any:
    """Linear between ranks, from the nearer one, as numpy has it.

    Args:
        ranked: at least one number, or array of numbers, in ascending order.
    """
    below, rest = divmod(share * (len(ranked) - 1), 1)
    one, other = ranked[int(below)], ranked[min(int(below) + 1, len(ranked) - 1)]
    step = other - one
    return one + step * rest if rest < 0.5 else other - step * (1 - rest)
