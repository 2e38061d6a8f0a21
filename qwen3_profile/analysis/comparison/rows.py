"""The rows of a comparison: their times on both sides, their tests, and the state of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np

from qwen3_profile.analysis.comparison.cycles import SideClocks, Times, as_cycles
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


class Chances(NamedTuple):
    """That a difference is none, that a regression is none, and the first of times alone."""

    p: float = 1.0
    p_slower: float = 1.0
    p_in_time: float = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a comparison; times in ns.

    base_ns, new_ns: the geometric mean of the processes' medians; 0 where the row is not there.
    base, new: of each process every pass.
    test: None where there is nothing to be tested. in_cycles: the same test of cycles of the SM
        clock; None where that is not known, or the row is of the host.
    unconfirmed: why nothing is claimed though times alone would allow it; else empty.
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
    in_cycles: TTest | None = None
    unconfirmed: str = ""

    @property
    def change_ns(self) -> float:
        return self.new_ns - self.base_ns

    @property
    def chances(self) -> Chances:
        """Of no difference and of no regression; what is below the tick of a device's clock is
        none. A claim has to hold of times and of cycles, and its chance is the greater one.
        """
        if self.test is None or self._is_below_tick:
            return Chances()
        test, cycles = self.test, self.in_cycles
        if cycles is None:
            return Chances(test.p, test.p_slower, test.p)
        same_way = (test.ratio > 1) == (cycles.ratio > 1)
        p = max(test.p, cycles.p) if same_way else 1.0
        return Chances(p, max(test.p_slower, cycles.p_slower), test.p)

    @property
    def sees(self) -> float | None:
        """The smallest slowdown that would be found with 80 %, as a share."""
        if self.test is None or self.in_cycles is None:
            return None if self.test is None else self.test.sees
        # Where NEW's clock is the lower one, a slowdown has to make up for it first.
        clock = self.in_cycles.ratio / self.test.ratio
        return max(self.test.sees, (1 + self.in_cycles.sees) / clock - 1)

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
    paths: Sequence[PartPath],
    base: Sequence[Times],
    new: Sequence[Times],
    rules: Rules,
    clocks: SideClocks | None = None,
) -> tuple[Row, ...]:
    """The rows with their tests, of which none is judged yet.

    Args:
        clocks: of the same passes; None where they are not known.
    """
    medians = _medians(paths, base), _medians(paths, new)
    tests = _tests(medians, rules)
    cycles: dict[int, TTest] = {}
    if clocks is not None:
        sides = as_cycles(base, clocks.base), as_cycles(new, clocks.new)
        cycles = _tests((_medians(paths, sides[0]), _medians(paths, sides[1])), rules)
    return tuple(
        _row(
            path,
            (base, new),
            (medians[0][at], medians[1][at]),
            (tests.get(at), cycles.get(at)),
            rules,
        )
        for at, path in enumerate(paths)
    )


def _tests(medians: tuple[Float64, Float64], rules: Rules) -> dict[int, TTest]:
    """Of each row that all processes have; none where a side has but one process."""
    if min(each.shape[1] for each in medians) < 2:
        return {}
    here = np.flatnonzero((medians[0] > 0).all(axis=1) & (medians[1] > 0).all(axis=1))
    logs = np.log(medians[0][here]), np.log(medians[1][here])
    return dict(zip(here.tolist(), t_tests(*logs, rules.alpha, rules.margin), strict=True))


def _medians(paths: Sequence[PartPath], side: Sequence[Times]) -> Float64:
    """float64[rows, processes]: the median over the passes of each process."""
    medians = [middle(times.get(path, ())) for path in paths for times in side]
    return np.array(medians, np.float64).reshape(len(paths), len(side))


def _row(
    path: PartPath,
    sides: tuple[Sequence[Times], Sequence[Times]],
    medians: tuple[Float64, Float64],
    tests: tuple[TTest | None, TTest | None],
    rules: Rules,
) -> Row:
    base_ns, new_ns = (mean_time(np.log(each)) if (each > 0).all() else 0.0 for each in medians)
    base, new = (tuple(times.get(path, ()) for times in side) for side in sides)
    state: State = "undecided"
    if not medians[0].any():
        state = "appeared"
    elif not medians[1].any():
        state = "vanished"
    test, cycles = tests
    spread = _spread_of_passes(base, new) if test is None else test.spread
    needed = None if spread is None else processes_needed(spread, rules.margin, rules.alpha)
    if test is not None and cycles is not None and needed is not None:
        margin = (1 + rules.margin) * cycles.ratio / test.ratio - 1
        found = processes_needed(cycles.spread, margin, rules.alpha) if margin > 0 else None
        needed = None if found is None else max(needed, found)
    return Row(path, state, base_ns, new_ns, base, new, test, needed=needed, in_cycles=cycles)


def _spread_of_passes(*sides: Sequence[Sequence[float]]) -> float | None:
    """How much the passes of a process differ; None where there are too few to tell."""
    known = (p for side in sides for p in side if len(p) > 1 and min(p) > 0)
    each = [np.log(passes) for passes in known]
    return sqrt(sum(logs.var(ddof=1) for logs in each) / len(each)) if each else None


def judge(
    row: Row, chances: Chances, rules: Rules, *, itself: bool, can: bool, clocks: str = ""
) -> Row:
    """The row with its state.

    Args:
        chances: with all rows in mind.
        itself: both sides are the same processes. can: nothing forbids a verdict.
        clocks: what keeps a claim of times from being one of cycles.
    """
    test, cycles = row.test, row.in_cycles
    assert test is not None
    within = test.p_same < rules.alpha
    confirmed = within and (cycles is None or cycles.p_same < rules.alpha)
    state: State = "same" if confirmed or itself else "undecided"
    if chances.p < rules.alpha:
        state = "slower" if test.ratio > 1 else "faster"
    if not can:
        state = "undecided"
    in_time = within or chances.p_in_time < rules.alpha
    return replace(
        row,
        state=state,
        adjusted_p=chances.p,
        slower_p=chances.p_slower,
        is_regression=chances.p_slower < rules.alpha and can,
        is_within=confirmed,
        unconfirmed=clocks if can and in_time and state == "undecided" else "",
    )
