"""The one way in which medians and quantiles of times are taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


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
