"""Holds NEW against BASE, config by config and row by row, and says how sure each difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

import numpy as np

from qwen3_profile.analysis.comparison.kernel_changes import (
    PartChange,
    kernel_changes,
    mean_kernels,
)
from qwen3_profile.analysis.comparison.samples import By, ProcessSamples, middle, samples_of
from qwen3_profile.analysis.comparison.settings import (
    Pair,
    Setting,
    differences,
    pair_configs,
)
from qwen3_profile.analysis.comparison.statistics import (
    Float64,
    TTest,
    adjusted,
    mean_time,
    processes_needed,
    t_tests,
)
from qwen3_profile.analysis.median_pass import is_on_device
from qwen3_profile.analysis.part_rows import PartPath
from qwen3_profile.errors import ConfigError
from qwen3_profile.records.sides import Process

State = Literal["faster", "slower", "same", "undecided", "appeared", "vanished"]

# Of one process each row in every pass, in ns.
Times = dict[PartPath, tuple[float, ...]]

WHOLE: PartPath = ("total_time",)
# Of fewer passes a median says little of its process.
FEWEST_PASSES = 3


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
    def ratio(self) -> float | None:
        return self.new_ns / self.base_ns if self.base_ns and self.new_ns else None


@dataclass(frozen=True, slots=True)
class ConfigComparison:
    """One config and phase on both sides.

    undecided: why nothing of it can be decided; empty where it can.
    whole: of the bare passes; None where none were measured. rows: of parts, layers or kernels.
    on_device: whether the rows are times of the device.
    kernels: why parts differ; empty where kernels are not known.
    """

    pair: Pair
    settings: tuple[Setting, ...]
    undecided: str
    whole: Row | None
    rows: tuple[Row, ...]
    on_device: bool
    kernels: tuple[PartChange, ...] = ()

    @property
    def phase(self) -> str:
        return self.pair.base[0][1][0].phase

    @property
    def every_row(self) -> tuple[Row, ...]:
        return self.rows if self.whole is None else (self.whole, *self.rows)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it.

    itself: both sides are the same processes. base_alone, new_alone: configs without a partner, in
        words.
    """

    rules: Rules
    itself: bool
    configs: tuple[ConfigComparison, ...]
    base_alone: tuple[str, ...]
    new_alone: tuple[str, ...]

    @property
    def regressions(self) -> tuple[tuple[ConfigComparison, Row], ...]:
        """What is slower by more than the margin, and more than noise."""
        return tuple(
            (config, row)
            for config in self.configs
            for row in config.every_row
            if row.is_regression
        )

    @property
    def blind(self) -> tuple[tuple[ConfigComparison, Row], ...]:
        """The whole passes in which a regression of just over the margin would not have shown."""
        return tuple(
            (config, row)
            for config in self.configs
            for row in config.every_row[:1]
            if not self.itself and not row.is_regression and _is_blind(config, row, self.rules)
        )


def _is_blind(config: ConfigComparison, row: Row, rules: Rules) -> bool:
    return bool(config.undecided) or row.test is None or row.test.sees > rules.margin


def compare(base: Sequence[Process], new: Sequence[Process], rules: Rules) -> Comparison:
    """The comparison of two sides.

    Raises:
        ConfigError: a process is on both sides, or the sides have nothing in common.
    """
    both = {each.id for each in base} & {each.id for each in new}
    itself = {each.id for each in base} == {each.id for each in new}
    if both and not itself:
        name = next(each.name for each in base if each.id in both)
        raise ConfigError(name, "is on both sides", "leave it out of one")
    pairing = pair_configs(base, new)
    if not pairing.pairs:
        what = f"has {_some(pairing.base_alone)}, NEW {_some(pairing.new_alone)}"
        raise ConfigError("BASE", what, "give sides with a phase in common")
    found = [_compare_pair(pair, rules, itself) for pair in pairing.pairs]
    decided = _judged(found, rules, itself)
    return Comparison(rules, itself, decided, pairing.base_alone, pairing.new_alone)


def _some(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else "".join(names)


def _compare_pair(pair: Pair, rules: Rules, itself: bool) -> ConfigComparison:
    records = [[r for _, group in side for r in group] for side in (pair.base, pair.new)]
    on_device = rules.times == "cuda" and all(map(is_on_device, records))
    base, new = (
        [samples_of(process, group, rules.by, on_device) for process, group in side]
        for side in (pair.base, pair.new)
    )
    whole = _rows([WHOLE], _bare(base), _bare(new), rules) if _have_bare(base, new) else ()
    paths = _ordered([each.rows for each in (*base, *new)])
    rows = _rows(paths, [each.rows for each in base], [each.rows for each in new], rules)
    found = ConfigComparison(
        pair=pair,
        settings=differences(pair),
        undecided="" if itself else _why_undecided(base, new, rules),
        whole=whole[0] if whole else None,
        rows=rows,
        on_device=on_device,
    )
    return _explained(found, rules)


def _have_bare(base: Sequence[ProcessSamples], new: Sequence[ProcessSamples]) -> bool:
    return all(each.bare_ns for each in (*base, *new))


def _bare(side: Sequence[ProcessSamples]) -> list[Times]:
    return [{WHOLE: each.bare_ns} for each in side]


def _ordered(several: Sequence[Times]) -> list[PartPath]:
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


def _rows(
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


def _why_undecided(
    base: Sequence[ProcessSamples], new: Sequence[ProcessSamples], rules: Rules
) -> str:
    """What forbids a verdict on a config; empty where nothing does."""
    if min(len(base), len(new)) < 2:
        return "one process a side: processes differ, and nobody knows by how much"
    fewest = min(each.passes for each in (*base, *new))
    if fewest < FEWEST_PASSES:
        passes = "pass" if fewest == 1 else "passes"
        return (
            f"{fewest} {passes} in a process, of which the median says little: run {FEWEST_PASSES}"
        )
    if not rules.blocks and _are_blocks(base, new):
        return (
            "one side ended before the other began, and drift of the machine looks like a "
            "difference: run them in turn (--run), or accept it with --accept-blocks"
        )
    return ""


def _are_blocks(base: Sequence[ProcessSamples], new: Sequence[ProcessSamples]) -> bool:
    """Whether all of one side began before all of the other; also where none says when."""
    begins = [sorted(each.process.span[0] for each in side) for side in (base, new)]
    return not (begins[0][0] < begins[1][-1] and begins[1][0] < begins[0][-1])


def _judged(
    found: Sequence[ConfigComparison], rules: Rules, itself: bool
) -> tuple[ConfigComparison, ...]:
    """The states, with all rows of all configs in mind; each whole pass is judged by itself."""
    tested = [row.test for each in found for row in each.rows if row.test is not None]
    p = iter(adjusted([test.p for test in tested]))
    slower_p = iter(adjusted([test.p_slower for test in tested]))

    def judge(config: ConfigComparison, row: Row, alone: bool) -> Row:
        if row.test is None:
            return replace(row, state="same") if itself and row.state == "undecided" else row
        chances = (row.test.p, row.test.p_slower) if alone else (next(p), next(slower_p))
        return _judged_row(config, row, chances, rules, itself)

    return tuple(
        replace(
            each,
            whole=None if each.whole is None else judge(each, each.whole, True),
            rows=tuple(judge(each, row, False) for row in each.rows),
        )
        for each in found
    )


def _judged_row(
    config: ConfigComparison, row: Row, chances: tuple[float, float], rules: Rules, itself: bool
) -> Row:
    p, slower_p = chances
    test = row.test
    assert test is not None
    within = test.p_same < rules.alpha
    state: State = "same" if within or itself else "undecided"
    if p < rules.alpha:
        state = "slower" if test.ratio > 1 else "faster"
    if config.undecided:
        state = "undecided"
    return replace(
        row,
        state=state,
        adjusted_p=p,
        slower_p=slower_p,
        is_regression=slower_p < rules.alpha and not config.undecided,
        is_within=within,
    )


def _explained(config: ConfigComparison, rules: Rules) -> ConfigComparison:
    """With the kernels of each part, where both sides have them and the rows are of the device."""
    if not config.on_device or rules.by != "part":
        return config
    base, new = mean_kernels(config.pair.base), mean_kernels(config.pair.new)
    if base is None or new is None:
        return config
    changes = kernel_changes(base, new)
    rows = {row.path: row for row in config.rows}
    return replace(
        config,
        kernels=tuple(
            PartChange(path, round(rows[path].change_ns), kernels)
            for path, kernels in changes.items()
            if path in rows
        ),
    )
