"""The wall-clock of decode steps in, the time per output token out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Time per output token: the median step, and those that 90 % and 99 % do not exceed."""

    median: float
    p90: float
    p99: float


def token_times(steps: Sequence[float]) -> TokenTimes:
    """Percentiles, linear between ranks, of the times of decode steps, in their own unit."""
    return TokenTimes(*(float(p) for p in np.percentile(np.array(steps, float), [50, 90, 99])))
