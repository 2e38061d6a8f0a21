"""Medians and quantiles are those of numpy, to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile.records.quantiles import median, quantile

VALUES = st.lists(st.integers(0, 10**15).map(float), min_size=1, max_size=30)


@given(VALUES)
def test_median(values: list[float]) -> None:
    assert median(values) == np.median(values)


@given(VALUES, st.sampled_from((0.25, 0.5, 0.75, 0.9, 0.99)))
def test_quantile(values: list[float], share: float) -> None:
    assert quantile(sorted(values), share) == np.quantile(values, share)
    columns = np.sort(np.array([values, values[::-1]]).T, axis=0)
    assert quantile(columns, share).tolist() == [np.quantile(values, share)] * 2
