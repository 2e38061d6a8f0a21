"""Laws of growth, fitted to measured times: a constant, work per token, and a floor under both.

    constant    a
    linear      a + b n
    quadratic   a + b n + c q
    floor       the longer of f, and of one of the laws above with a below it

n are the tokens that a pass computes, q what attention does besides: batch x length^2 in a prefill,
batch x context in a decode step. Noise is a share of a time, so residuals are of logarithms, and
outliers count for less (soft L1). Which law the data can tell is decided by AICc; none has a
negative coefficient. Where the floor takes over is smooth: (f^8 + w^8)^(1/8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Form = Literal["constant", "linear", "quadratic", "floor"]

CONFIDENCE = 0.95
_TERMS: dict[Form, tuple[str, ...]] = {
    "constant": ("constant",),
    "linear": ("constant", "per_token"),
    "quadratic": ("constant", "per_token", "per_square"),
    "floor": ("constant", "per_token", "floor"),
}
_SHARPNESS = 8
# Times repeat no better than this, however well a few of them agree.
_LEAST_NOISE = 0.02
_CERTAIN = 1e-6
# A term that is less than this of every time is none.
_TRACE = 1e-3
# A law with one more term has to explain this much more, in units of AICc.
_BETTER = 2.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """One law with its coefficients, in ns, ns per token and ns per unit of q.

    values: of the terms of its form. covariance: float64[terms, terms]; 0 of a term that is at its
    bound, 0. error: standard deviation of the residuals, as a share. freedom: of that.
    """

    form: Form
    values: Float64
    covariance: Float64
    error: float
    freedom: int

    @property
    def terms(self) -> dict[str, Interval]:
        reach = _quantile(self.freedom) * np.sqrt(np.diag(self.covariance))
        each = zip(_TERMS[self.form], self.values.tolist(), reach.tolist(), strict=True)
        return {name: Interval(v, max(0.0, v - by), v + by) for name, v, by in each}

    @property
    def crossover(self) -> float | None:
        """How many tokens take as long as the floor; None without a floor, or below it."""
        if self.form != "floor":
            return None
        constant, per_token, floor = self.values.tolist()
        return (floor - constant) / per_token if per_token and floor > constant else None

    def at(self, tokens: float, square: float) -> Interval:
        """The time of a pass of this size, and where a measured one would lie."""
        point = np.array([[1.0, tokens, square]])
        time = float(_times(self.form, self.values, point)[0])
        slope = _slopes(self.form, self.values, point)[0]
        spread = np.sqrt(self.error**2 + slope @ self.covariance @ slope)
        by = float(np.exp(_quantile(self.freedom) * spread))
        return Interval(time, time / by, time * by)


def fit(tokens: Sequence[float], squares: Sequence[float], times: Sequence[float]) -> Law | None:
    """The law that the data can tell; None of fewer than three different sizes.

    Args:
        times: in ns, none of them 0.
    """
    points = np.stack([np.ones(len(times)), tokens, squares], axis=1)
    measured = np.array(times, np.float64)
    if len(np.unique(points, axis=0)) < 3:
        return None
    found = None
    for form in _TERMS:
        if not _can_tell(form, points):
            continue
        law = _fitted(form, points, measured)
        if form == "quadratic" and not _is_seen(law, points):
            continue
        if found is None or _aicc(law, len(measured)) < _aicc(found, len(measured)) - _BETTER:
            found = law
    return found


def fit_form(
    form: Form, tokens: Sequence[float], squares: Sequence[float], times: Sequence[float]
) -> Law | None:
    """The law of one form; None where the data cannot tell its terms apart."""
    points = np.stack([np.ones(len(times)), tokens, squares], axis=1)
    return _fitted(form, points, np.array(times, np.float64)) if _can_tell(form, points) else None


@dataclass(frozen=True, slots=True)
class Exponent:
    """The slope of log time on log tokens between two numbers of tokens."""

    first: float
    last: float
    exponent: Interval


def exponents(tokens: Sequence[float], times: Sequence[float]) -> tuple[Exponent, ...]:
    """The local exponents: of the smaller half of the sizes, and of the larger one.

    None of less than three different sizes; of less than six one of all.
    """
    order = np.argsort(tokens, kind="stable")
    n, t = np.array(tokens, np.float64)[order], np.array(times, np.float64)[order]
    sizes = np.unique(n)
    if len(sizes) < 3:
        return ()
    if len(sizes) < 6:
        return (_slope(n, t),)
    border = sizes[len(sizes) // 2]
    return (_slope(n[n <= border], t[n <= border]), _slope(n[n >= border], t[n >= border]))


def _slope(tokens: Float64, times: Float64) -> Exponent:
    from scipy.stats import linregress

    found = linregress(np.log(tokens), np.log(times))
    by = _quantile(len(tokens) - 2) * found.stderr
    interval = Interval(float(found.slope), float(found.slope - by), float(found.slope + by))
    return Exponent(float(tokens[0]), float(tokens[-1]), interval)


def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - (1 - CONFIDENCE) / 2, freedom))


def _can_tell(form: Form, points: Float64) -> bool:
    """Whether the sizes tell the terms of a form apart, with two to spare for the noise."""
    terms = _TERMS[form]
    columns = points[:, : 2 + (form == "quadratic")] if form != "constant" else points[:, :1]
    scaled = columns / columns.max(axis=0)
    different = len(np.unique(points, axis=0))
    return different >= len(terms) + 1 and np.linalg.matrix_rank(scaled) == columns.shape[1]


def _is_seen(law: Law, points: Float64) -> bool:
    """Whether the quadratic part is as large as the linear one anywhere near what was measured."""
    _, per_token, per_square = law.values.tolist()
    return bool(per_square * points[:, 2].max() > 0.1 * per_token * points[:, 1].max())


def _fitted(form: Form, points: Float64, times: Float64) -> Law:
    from scipy.optimize import least_squares, nnls

    unit = _units(form, points, times)
    columns = points[:, : len(unit) - (form == "floor")]
    weighted = columns * unit[: columns.shape[1]] / times[:, None]
    begin = np.maximum(nnls(weighted, np.ones(len(times)))[0], 1e-3)
    if form == "floor":
        begin = np.append(begin, 1.0)
    found = least_squares(
        lambda scaled: np.log(_times(form, scaled * unit, points) / times),
        begin, bounds=(0, np.inf), loss="soft_l1", f_scale=_LEAST_NOISE, x_scale="jac",
    )  # fmt: skip
    values = _without_traces(form, found.x * unit, points, times)
    return _with_errors(form, values, points, times)


def _without_traces(form: Form, values: Float64, points: Float64, times: Float64) -> Float64:
    """With 0 in place of what a search that ends near its bound leaves of a coefficient."""
    columns = points[:, : len(values)]
    if form == "floor":
        columns = np.concatenate([points[:, :2], np.ones((len(points), 1))], axis=1)
    return np.where((columns * values < _TRACE * times[:, None]).all(axis=0), 0.0, values)


def _units(form: Form, points: Float64, times: Float64) -> Float64:
    """What each coefficient is counted in, so that all are near 1."""
    top = points.max(axis=0)
    largest = {
        "constant": times.min(), "per_token": times.max() / top[1],
        "per_square": times.max() / top[2] if top[2] else 1.0, "floor": times.min(),
    }  # fmt: skip
    return np.array([largest[name] for name in _TERMS[form]])


def _with_errors(form: Form, values: Float64, points: Float64, times: Float64) -> Law:
    residuals = np.log(_times(form, values, points) / times)
    freedom = max(1, len(times) - len(values))
    error = max(float(np.sqrt((residuals**2).sum() / freedom)), _CERTAIN)
    slopes = _slopes(form, values, points)
    free = np.flatnonzero((values > 0) & (np.abs(slopes).max(axis=0) > _CERTAIN / values.max()))
    covariance = np.zeros((len(values), len(values)))
    scale = 1 / np.abs(slopes[:, free]).max(axis=0)
    scaled = slopes[:, free] * scale
    inverse = np.linalg.pinv(scaled.T @ scaled) * np.outer(scale, scale)
    covariance[np.ix_(free, free)] = error**2 * inverse
    return Law(form, values, covariance, error, freedom)


def _times(form: Form, values: Float64, points: Float64) -> Float64:
    if form != "floor":
        work: Float64 = points[:, : len(values)] @ values
        return np.maximum(work, 1e-9)
    work = np.maximum(points[:, :2] @ values[:2], 1e-9)
    top = np.maximum(work, values[2])
    found: Float64 = top * ((work / top) ** _SHARPNESS + (values[2] / top) ** _SHARPNESS) ** (
        1 / _SHARPNESS
    )
    return found


def _slopes(form: Form, values: Float64, points: Float64) -> Float64:
    """float64[points, terms]: by how much the logarithm grows with each coefficient."""
    times = _times(form, values, points)[:, None]
    if form != "floor":
        return points[:, : len(values)] / times
    work = points[:, :2] @ values[:2]
    by_work = (work[:, None] / times) ** (_SHARPNESS - 1) / times
    by_floor = (values[2] / times) ** (_SHARPNESS - 1) / times
    return np.concatenate([points[:, :2] * by_work, by_floor], axis=1)


def _aicc(law: Law, count: int) -> float:
    terms = len(law.values) + 1
    error = max(law.error**2 * law.freedom / count, _CERTAIN**2)
    spare = count - terms - 1
    extra: Any = 2 * terms * (terms + 1) / spare if spare > 0 else np.inf
    return float(count * np.log(error) + 2 * terms + extra)
