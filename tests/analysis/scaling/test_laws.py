"""Laws are found again in times that were made by them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qwen3_profile.analysis.scaling.laws import Form, exponents, fit, fit_form

BATCH, LENGTH = np.array(list(itertools.product([1, 2, 4, 8], [128, 256, 512, 1024])), float).T
TOKENS, SQUARES = BATCH * LENGTH, BATCH * LENGTH**2

# ns; of the H100's kind: a launch floor of 29 ms, 3.5 ms and 5.8 us a token under it.
LAWS: dict[Form, tuple[dict[str, float], np.ndarray]] = {
    "constant": ({"constant": 5e6}, np.full(16, 5e6)),
    "linear": ({"constant": 3.5e6, "per_token": 5800}, 3.5e6 + 5800 * TOKENS),
    "quadratic": (
        {"constant": 1e5, "per_token": 6.2, "per_square": 0.113},
        1e5 + 6.2 * TOKENS + 0.113 * SQUARES,
    ),
    "floor": (
        {"constant": 3.5e6, "per_token": 9000, "floor": 29e6},
        np.maximum(29e6, 3.5e6 + 9000 * TOKENS),
    ),
}
TIGHT = ("per_token", "per_square", "floor")


@pytest.mark.parametrize("form", LAWS)
def test_the_law_of_exact_times_is_found(form: Form) -> None:
    terms, times = LAWS[form]
    law = fit(TOKENS, SQUARES, times)
    assert law is not None
    assert law.form == form
    # Where a floor takes over, the law is smooth and the times have a corner.
    loose = 0.2 if form == "floor" else 0.01
    for name in TIGHT:
        if name in terms:
            assert law.terms[name].value == pytest.approx(terms[name], rel=loose)


@pytest.mark.parametrize("form", LAWS)
def test_the_law_of_noisy_times_is_mostly_the_same_one(form: Form) -> None:
    noise = np.exp(np.random.default_rng(3).normal(0, 0.02, (40, 16)))
    found = [fit(TOKENS, SQUARES, LAWS[form][1] * each) for each in noise]
    assert sum(law is not None and law.form == form for law in found) >= 34


@pytest.mark.parametrize(("form", "name"), [("linear", "per_token"), ("quadratic", "per_square")])
def test_coefficients_lie_within_their_intervals(form: Form, name: str) -> None:
    terms, times = LAWS[form]
    noise = np.exp(np.random.default_rng(4).normal(0, 0.05, (150, 16)))
    inside = 0
    for each in noise:
        law = fit_form(form, TOKENS, SQUARES, times * each)
        assert law is not None
        inside += law.terms[name].low <= terms[name] <= law.terms[name].high
    # 95 %, and three standard errors of that.
    assert inside / len(noise) >= 0.95 - 3 * (0.05 * 0.95 / len(noise)) ** 0.5


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0, 2.0])
def test_exponents_lie_within_their_intervals(exponent: float) -> None:
    noise = np.exp(np.random.default_rng(5).normal(0, 0.05, (200, 16)))
    found = [each for n in noise for each in exponents(TOKENS, 7.0 * TOKENS**exponent * n)]
    assert len(found) == 400
    inside = np.mean([each.exponent.low <= exponent <= each.exponent.high for each in found])
    assert inside == pytest.approx(0.95, abs=0.035)


def test_the_exponent_is_told_below_and_above_the_middle() -> None:
    below, above = exponents(TOKENS, LAWS["floor"][1])
    assert (below.first, below.last) == (128, 1024)
    assert (above.first, above.last) == (1024, 8192)
    assert below.exponent.value == pytest.approx(0, abs=1e-9)
    assert above.exponent.value > 0.3


def test_where_the_floor_ends() -> None:
    law = fit(TOKENS, SQUARES, LAWS["floor"][1])
    assert law is not None
    assert law.crossover == pytest.approx((29e6 - 3.5e6) / 9000, rel=0.15)


def test_the_next_size_lies_within_what_is_predicted() -> None:
    """The largest size is left out, and the interval of its time has it in 95 % of trials."""
    noise = np.exp(np.random.default_rng(6).normal(0, 0.05, (150, 16)))
    inside = 0
    for each in noise:
        times = LAWS["linear"][1] * each
        law = fit_form("linear", TOKENS[:-1], SQUARES[:-1], times[:-1])
        assert law is not None
        next_one = law.at(TOKENS[-1], SQUARES[-1])
        inside += next_one.low <= times[-1] <= next_one.high
    assert inside / len(noise) >= 0.95 - 3 * (0.05 * 0.95 / len(noise)) ** 0.5


@pytest.mark.parametrize(
    ("tokens", "squares", "forms"),
    [
        pytest.param([1, 1, 1], [5, 5, 5], {None}, id="one size"),
        pytest.param([1, 2], [1, 4], {None}, id="two sizes"),
        pytest.param([1, 2, 4], [1, 4, 16], {"constant", "linear"}, id="three sizes"),
        # At one length n and q are the same but for a factor, and nobody tells them apart.
        pytest.param([1, 2, 4, 8, 16], [7, 14, 28, 56, 112], {"linear", "constant"}, id="batch"),
    ],
)
def test_no_more_terms_than_the_sizes_tell(tokens: list, squares: list, forms: set) -> None:
    law = fit(tokens, squares, [3.0 + 2.0 * n for n in tokens])
    assert (law and law.form) in forms
