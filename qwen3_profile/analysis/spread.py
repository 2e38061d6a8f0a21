"""How far the ranks of a distributed run lie apart in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.records.quantiles import median


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum over the ranks, in ns.

    slowest, fastest: the ranks of the maximum and of the minimum; None where all have the same.
    """

    least_ns: int
    median_ns: int
    most_ns: int
    slowest: int | None = None
    fastest: int | None = None


def spread_of(values: Sequence[int], ranks: Sequence[int]) -> Spread:
    """Over the ranks of these numbers, of which each has a value."""
    least, most = min(values), max(values)
    if least == most:
        return Spread(least, least, most)
    slowest, fastest = (ranks[values.index(value)] for value in (most, least))
    return Spread(least, round(median(values)), most, slowest, fastest)
