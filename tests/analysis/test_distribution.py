"""Drift, slow first steps and two speeds, in times that have them and in times that do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qwen3_profile.analysis.distribution import Shape, _trend_chance, shape_of, shape_sentences

NOISE = np.random.default_rng(1).normal(1e6, 2e4, 60)
NOTHING = Shape(None, None, None)


def one_run_each(times: np.ndarray) -> list[list[float]]:
    return [[each] for each in times.tolist()]


def test_noise_alone_is_nothing() -> None:
    found = [
        shape_of(one_run_each(np.random.default_rng(seed).normal(1e6, 1e5, 40)))
        for seed in range(60)
    ]
    assert sum(each == NOTHING for each in found) >= 57


def test_drift() -> None:
    found = shape_of(one_run_each(NOISE * np.linspace(1, 1.3, 60)))
    # A third of the way is a tenth: from 1.05 in the middle of the first to 1.25 in the last.
    assert found.drift == pytest.approx(1.25 / 1.05 - 1, abs=0.02)
    back = shape_of(one_run_each(NOISE * np.linspace(1.3, 1, 60)))
    assert back.drift == pytest.approx(1.05 / 1.25 - 1, abs=0.02)


def test_a_slow_first_step_is_no_drift_and_no_mode() -> None:
    runs = [[3e6, *NOISE[at : at + 5].tolist()] for at in range(0, 60, 5)]
    found = shape_of(runs)
    assert found.first == pytest.approx(3.0, abs=0.05)
    assert (found.drift, found.modes) == (None, None)


def test_one_slow_step_of_one_run_is_chance() -> None:
    assert shape_of([[3e6, *NOISE.tolist()]]) == NOTHING


def test_two_speeds() -> None:
    times = NOISE.copy()
    times[::3] += 5e5
    found = shape_of(one_run_each(times)).modes
    assert found is not None
    assert found.fast_share == pytest.approx(2 / 3)
    assert (found.fast_ns, found.slow_ns) == pytest.approx((1e6, 1.5e6), rel=0.01)
    (sentence,) = shape_sentences(one_run_each(times))
    assert sentence.startswith("It has two speeds: 67% of the passes near ")


def test_the_steps_of_a_decode_grow_and_do_not_drift() -> None:
    grows = np.linspace(1e6, 2e6, 30).tolist()
    assert shape_of([grows]).drift is None
    assert shape_of([grows] * 8).drift is None
    slower = [[ns * (1 + 0.1 * run) for ns in grows] for run in range(8)]
    # The medians of the first two of eight runs are 1 and 1.1 times the first, of the last two 1.6
    # and 1.7 times.
    assert shape_of(slower).drift == pytest.approx(1.65 / 1.05 - 1)


def test_how_often_a_trend_is_chance() -> None:
    random = np.random.default_rng(3)
    for count in (2, 5, 8):
        values = random.normal(size=count).tolist()
        expected = stats.kendalltau(range(count), values, method="exact").pvalue
        assert _trend_chance(values) == pytest.approx(expected)
    assert _trend_chance([1.0, 2.0, 3.0]) == 2 / 6
    assert _trend_chance([1.0, 1.0, 1.0]) == 1.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_passes_say_nothing(count: int) -> None:
    assert shape_of(one_run_each(np.linspace(1e6, 2e6, count))) == NOTHING


def test_equal_times_say_nothing() -> None:
    assert shape_of([[1e6] * 30]) == NOTHING


def test_a_part_without_time_but_in_first_steps_says_nothing() -> None:
    """As a collective that the first step of each run alone has on the device."""
    assert shape_of([[5.0, 0.0, 0.0]] * 4) == Shape(None, None, None)


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=12))
def test_whatever_parts_take_is_looked_at(runs: list[list[int]]) -> None:
    """Parts without any device time among them."""
    assert all(isinstance(each, str) for each in shape_sentences(runs))
