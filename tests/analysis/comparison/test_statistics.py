"""Tests over processes, held against figures that were worked out by hand and by tables."""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile.analysis.comparison.statistics import (
    adjusted,
    processes_needed,
    smallest_change,
    t_tests,
)

# Student's t with 4 degrees of freedom, from printed tables: two-sided 5 %, and one-sided 20 %.
T_4, T_4_POWER = 2.776, 0.941


def test_three_processes_a_side_by_hand() -> None:
    base, new = np.array([[0.00, 0.02, 0.04]]), np.array([[0.10, 0.12, 0.14]])
    (found,) = t_tests(base, new, alpha=0.05, margin=0.05)
    # Both variances are 0.0004, and the standard error is sqrt(2 * 0.0004 / 3).
    se = sqrt(2 * 0.0004 / 3)
    assert found.ratio == pytest.approx(exp(0.10))
    assert (log(found.low), log(found.high)) == pytest.approx(
        (0.10 - T_4 * se, 0.10 + T_4 * se), abs=1e-5
    )
    assert found.sees == pytest.approx(exp((T_4 + T_4_POWER) * se) - 1, rel=1e-3)
    assert found.spread == pytest.approx(0.02)
    # t = 0.1 / se = 6.12: between the tables' 4.604 for 1 % and 7.173 for 0.2 %.
    assert 0.002 < found.p < 0.01
    assert found.p_slower < 0.05 < found.p_same


def test_sides_of_unequal_numbers_are_tested_as_welch_does() -> None:
    base, new = np.array([[0.0, 0.1]]), np.array([[0.0, 0.02, 0.04, 0.06]])
    (found,) = t_tests(base, new, alpha=0.05, margin=0.05)
    shares = 0.005 / 2, 0.002 / 3 / 4
    df = sum(shares) ** 2 / (shares[0] ** 2 / 1 + shares[1] ** 2 / 3)
    assert df == pytest.approx(1.1353, abs=1e-3)
    # With so few degrees of freedom 5 % is beyond 9.1 standard errors; with 4 it would be 2.8.
    reach = (log(found.high) - log(found.low)) / 2 / sqrt(sum(shares))
    assert 8.5 < reach < 10


def test_processes_that_agree_to_the_last_digit() -> None:
    base = np.full((2, 3), 1.0)
    new = np.array([[1.0] * 3, [1.1] * 3])
    same, slower = t_tests(base, new, alpha=0.05, margin=0.05)
    assert (same.ratio, same.p, same.sees) == (1.0, 1.0, 0.0)
    assert same.p_same == 0
    assert slower.p == slower.p_slower == 0
    assert slower.p_same == 1


times = st.lists(st.floats(-0.5, 0.5).map(lambda x: round(x, 3)), min_size=2, max_size=6)


@given(times, times)
def test_swapped_sides_invert_the_ratio(base: list[float], new: list[float]) -> None:
    rows = np.array([base]), np.array([new])
    (there,), (back,) = t_tests(*rows, 0.05, 0.05), t_tests(*rows[::-1], 0.05, 0.05)
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)
    assert (there.p, there.p_same) == pytest.approx((back.p, back.p_same), abs=1e-9)


@pytest.mark.parametrize(
    ("p", "wanted"),
    [
        ([], []),
        ([0.04], [0.04]),
        # 5 p values: the i-th smallest times 5 / i, and never less than one before it.
        ([0.01, 0.5, 0.02, 0.03, 0.9], [0.05, 0.625, 0.05, 0.05, 0.9]),
    ],
)
def test_many_rows_at_once(p: list[float], wanted: list[float]) -> None:
    assert adjusted(p) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("spread", "change", "needed"),
    [
        (0.002, 0.01, 3), (0.01, 0.01, 17), (0.02, 0.05, 4), (0.05, 0.05, 18), (0.05, 0.02, 102),
        (0.25, 0.20, 31), (0.0, 0.05, 2), (0.25, 0.02, None),
    ],
)  # fmt: skip
def test_processes_that_a_change_needs(spread: float, change: float, needed: int | None) -> None:
    assert processes_needed(spread, change, 0.05) == needed


def test_what_so_many_processes_see_is_what_a_test_of_them_says() -> None:
    rows = np.array([[0.00, 0.02, 0.04]]), np.array([[0.10, 0.12, 0.14]])
    (found,) = t_tests(*rows, alpha=0.05, margin=0.05)
    assert smallest_change(0.02, 3, 0.05) == pytest.approx(found.sees)


@pytest.mark.parametrize("count", [3, 5])
def test_equal_sides_are_called_different_as_often_as_asked_for(count: int) -> None:
    draws = np.random.default_rng(7).normal(0, 0.03, (4000, 2 * count))
    found = t_tests(draws[:, :count], draws[:, count:], 0.05, 0.05)
    # Three standard errors of 5 % in 4000 draws are 1 %.
    assert np.mean([each.p < 0.05 for each in found]) == pytest.approx(0.05, abs=0.011)


def test_a_change_as_large_as_announced_is_found_in_four_of_five() -> None:
    draws = np.random.default_rng(8).normal(0, 0.03, (4000, 10))
    sees = exp(np.mean([log(1 + t.sees) for t in t_tests(draws[:, :5], draws[:, 5:], 0.05, 0.05)]))
    found = t_tests(draws[:, :5], draws[:, 5:] + log(sees), 0.05, 0.05)
    assert np.mean([each.p < 0.05 for each in found]) == pytest.approx(0.80, abs=0.04)
