"""Which kernels explain a difference: worked out by hand, and adding up exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile.analysis.comparison.kernel_changes import PartChange, kernel_changes
from qwen3_profile.views.terminal.two_sides import _reason

PART = ("prefill", "layers", "attn", "rope")


def test_the_two_terms_of_a_kernel() -> None:
    base, new = (
        {(PART, "mul"): (Fraction(2), Fraction(20))},
        {(PART, "mul"): (Fraction(3), Fraction(36))},
    )
    (change,) = kernel_changes(base, new)[PART]
    # One more run at the 10 ns of BASE, and three runs that take 2 ns longer each.
    assert (change.by_count_ns, change.by_mean_ns, change.change_ns) == (10, 6, 16)
    assert change.what == "count"


@pytest.mark.parametrize(
    ("base", "new", "what"),
    [
        ({}, {(PART, "mul"): (Fraction(1), Fraction(5))}, "appeared"),
        ({(PART, "mul"): (Fraction(1), Fraction(5))}, {}, "vanished"),
        (
            {(PART, "mul"): (Fraction(1), Fraction(5))},
            {(PART, "mul"): (Fraction(1), Fraction(6))},
            "mean",
        ),
    ],
)
def test_what_became_of_a_kernel(base: dict, new: dict, what: str) -> None:
    (change,) = kernel_changes(base, new)[PART]
    assert change.what == what
    if what != "mean":
        assert change.by_mean_ns == 0


counts = st.tuples(st.integers(1, 50), st.integers(1, 10**9), st.integers(1, 7))
sides = st.dictionaries(st.sampled_from("abcdef"), counts, max_size=6)


@given(sides, sides, st.integers(-(10**9), 10**9))
def test_explained_and_unexplained_add_up(base: dict, new: dict, change_ns: int) -> None:
    def means(side: dict) -> dict:
        return {(PART, k): (Fraction(n, p), Fraction(ns, p)) for k, (n, ns, p) in side.items()}

    kernels = kernel_changes(means(base), means(new)).get(PART, ())
    difference = sum(v[1] for v in means(new).values()) - sum(v[1] for v in means(base).values())
    assert sum(k.by_count_ns + k.by_mean_ns for k in kernels) == difference
    part = PartChange(PART, change_ns, kernels)
    assert part.explained_ns == round(difference)
    assert part.explained_ns + part.unexplained_ns == change_ns


def test_a_rest_that_is_nothing_to_the_microsecond_has_no_row() -> None:
    def tables(change_ns: int) -> str:
        base = {(PART, "mul"): (Fraction(1), Fraction(10**6, 3))}
        kernels = kernel_changes(base, {(PART, "mul"): (Fraction(1), Fraction(10**7, 3))})[PART]
        return _reason(PartChange(PART, change_ns, kernels), {"mul": "mul"})

    assert "other kernels" not in tables(3_000_001)
    assert "unexplained" not in tables(3_000_001)
    assert "unexplained: medians above, means here" in tables(3_002_000)
