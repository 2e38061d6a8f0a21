"""The rows of a comparison: their times on both sides, their tests, and the state of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

import numpy as np

from qwen3_profile.analysis.comparison.samples import By, middle
from qwen3_profile.analysis.comparison.statistics import (
    Float64,
    TTest,
    mean_time,
    processes_needed,
    t_tests,
)
from qwen3_profile.analysis.part_rows import PartPath

State = Literal["faster", "slower", "same", "undecided", "appeared", "vanished"]

# Of one process each row in every pass, in ns.
Times = dict[PartPath, tuple[float, ...]]

# Two ticks of the clock by which an H100 and an H200 time their kernels. Short kernels of several
# processes often take the same number of ticks, and then look as if they never differed.
RESOLUTION_NS = 64
WHOLE: PartPath = ("total_time",)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of a comparison.

    alpha: how often equal sides may be called different. margin: what counts as the same, and how
    much slower NEW may be before that is a regression; both as shares.
    by: what the rows are. times: of the device where there is one, or always of the host.
    blocks: judge sides of which one ended before the other began.
    """

    alpha: float = 0.05
    margin: float = 0.05
    by: By = "part"
    times: Literal["cuda", "cpu"] = "cuda"
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a comparison; times in ns.

    base_ns, new_ns: the geometric mean of the processes' medians; 0 where the row is not there.
    base, new: of each process every pass.
    test: None where there is nothing to be tested.
    adjusted_p: of no difference, and slower_p of no regression, with all rows of the table in mind.
    needed: how many processes a side would find a difference of the margin, if processes differ as
        these do; where there is one a side, as its passes do. None where a thousand would not.
    """

    path: PartPath
    state: State
    base_ns: float
    new_ns: float
    base: tuple[tuple[float, ...], ...]
    new: tuple[tuple[float, ...], ...]
    test: TTest | None = None
    adjusted_p: float | None = None
    slower_p: float | None = None
    is_regression: bool = False
    is_within: bool = False
    needed: int | None = None

    @property
    def change_ns(self) -> float:
        return self.new_ns - self.base_ns

    @property
    def p(self) -> float:
        """Of no difference; what is below the tick of a device's clock is none."""
        return 1.0 if self.test is None or self._is_below_tick else self.test.p

    @property
    def p_slower(self) -> float:
        """Of no regression, in the same way."""
        return 1.0 if self.test is None or self._is_below_tick else self.test.p_slower

    @property
    def _is_below_tick(self) -> bool:
        return abs(self.change_ns) < RESOLUTION_NS

    @property
    def ratio(self) -> float | None:
        return self.new_ns / self.base_ns if self.base_ns and self.new_ns else None


def order_of(several: Sequence[Times]) -> list[PartPath]:
    """Every row that takes any time, each next to the one that it follows where it occurs."""
    found: list[PartPath] = []
    for rows in several:
        behind = 0
        for path in rows:
            if path in found:
                behind = found.index(path) + 1
            else:
                found.insert(behind, path)
                behind += 1
    return [path for path in found if any(any(rows.get(path, ())) for rows in several)]


def make_rows(
    paths: Sequence[PartPath], base: Sequence[Times], new: Sequence[Times], rules: Rules
) -> tuple[Row, ...]:
    """The rows with their tests, of which none is judged yet."""
    medians = _medians(paths, base), _medians(paths, new)
    here = np.flatnonzero((medians[0] > 0).all(axis=1) & (medians[1] > 0).all(axis=1))
    tests: dict[int, TTest] = {}
    if min(len(base), len(new)) > 1:
        logs = np.log(medians[0][here]), np.log(medians[1][here])
        found = t_tests(*logs, rules.alpha, rules.margin)
        tests = dict(zip(here.tolist(), found, strict=True))
    return tuple(
        _row(path, (base, new), (medians[0][at], medians[1][at]), tests.get(at), rules)
        for at, path in enumerate(paths)
    )


def _medians(paths: Sequence[PartPath], side: Sequence[Times]) -> Float64:
    """float64[rows, processes]: the median over the passes of each process."""
    medians = [middle(times.get(path, ())) for path in paths for times in side]
    return np.array(medians, np.float64).reshape(len(paths), len(side))


def _row(
    path: PartPath,
    sides: tuple[Sequence[Times], Sequence[Times]],
    medians: tuple[Float64, Float64],
    test: TTest | None,
    rules: Rules,
) -> Row:
    base_ns, new_ns = (mean_time(np.log(each)) if (each > 0).all() else 0.0 for each in medians)
    base, new = (tuple(times.get(path, ()) for times in side) for side in sides)
    state: State = "undecided"
    if not medians[0].any():
        state = "appeared"
    elif not medians[1].any():
        state = "vanished"
    spread = _spread_of_passes(base, new) if test is None else test.spread
    needed = None if spread is None else processes_needed(spread, rules.margin, rules.alpha)
    return Row(path, state, base_ns, new_ns, base, new, test, needed=needed)


def _spread_of_passes(*sides: Sequence[Sequence[float]]) -> float | None:
    """How much the passes of a process differ; None where there are too few to tell."""
    known = (p for side in sides for p in side if len(p) > 1 and min(p) > 0)
    each = [np.log(passes) for passes in known]
    return sqrt(sum(logs.var(ddof=1) for logs in each) / len(each)) if each else None


def judge(row: Row, chances: tuple[float, float], rules: Rules, *, itself: bool, can: bool) -> Row:
    """The row with its state.

    Args:
        chances: that there is no difference, and no regression, with all rows in mind.
        itself: both sides are the same processes. can: nothing forbids a verdict.
    """
    p, slower_p = chances
    test = row.test
    assert test is not None
    within = test.p_same < rules.alpha
    state: State = "same" if within or itself else "undecided"
    if p < rules.alpha:
        state = "slower" if test.ratio > 1 else "faster"
    if not can:
        state = "undecided"
    return replace(
        row,
        state=state,
        adjusted_p=p,
        slower_p=slower_p,
        is_regression=slower_p < rules.alpha and can,
        is_within=within,
    )
