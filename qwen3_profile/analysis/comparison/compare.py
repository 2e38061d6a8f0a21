"""Holds NEW against BASE, config by config and row by row, and says how sure each difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwen3_profile.analysis.comparison.cycles import SideClocks, Times, side_clocks
from qwen3_profile.analysis.comparison.kernel_changes import (
    PartChange,
    kernel_changes,
    mean_kernels,
)
from qwen3_profile.analysis.comparison.rows import (
    WHOLE,
    Chances,
    Row,
    Rules,
    judge,
    make_rows,
    order_of,
)
from qwen3_profile.analysis.comparison.samples import ProcessSamples, samples_of
from qwen3_profile.analysis.comparison.settings import (
    Pair,
    Setting,
    differences,
    different_work,
    pair_configs,
)
from qwen3_profile.analysis.comparison.statistics import adjusted
from qwen3_profile.analysis.median_pass import is_on_device
from qwen3_profile.errors import ConfigError
from qwen3_profile.records.process import Process, ReadKernels

# Of fewer passes a median says little of its process; and two processes agree by chance so often
# that some of many rows look sure: of 13 on an H200, two a side called one different in 23 % of
# comparisons, three in 5 %.
FEWEST_PASSES, FEWEST_PROCESSES = 3, 3


@dataclass(frozen=True, slots=True)
class ConfigComparison:
    """One config and phase on both sides.

    undecided: why nothing of it can be decided; empty where it can.
    is_same_work: whether a difference between the sides could be a regression at all.
    whole: of the bare passes; None where none were measured. rows: of parts, layers or kernels.
    on_device: whether the rows are times of the device.
    kernels: why parts differ; empty where kernels are not known.
    bare_clocks, row_clocks: the SM clocks of the whole passes and of those of the rows; None where
        they are not known of both sides, or the times do not follow them.
    """

    pair: Pair
    settings: tuple[Setting, ...]
    undecided: str
    is_same_work: bool
    whole: Row | None
    rows: tuple[Row, ...]
    on_device: bool
    kernels: tuple[PartChange, ...] = ()
    bare_clocks: SideClocks | None = None
    row_clocks: SideClocks | None = None

    @property
    def is_on_gpu(self) -> bool:
        """Whether a clock of SMs has to do with its times."""
        records = (
            record for side in (self.pair.base, self.pair.new) for _, g in side for record in g
        )
        return self.on_device or all((r.facts.device or "").startswith("cuda") for r in records)

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
    return bool(config.undecided) or row.sees is None or row.sees > rules.margin


def compare(
    base: Sequence[Process], new: Sequence[Process], rules: Rules, kernels_of: ReadKernels
) -> Comparison:
    """The comparison of two sides.

    Args:
        kernels_of: reads the kernels of a process, which only rows of the device have.

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
    found = [_compare_pair(pair, rules, itself, kernels_of) for pair in pairing.pairs]
    decided = _judged(found, rules, itself)
    return Comparison(rules, itself, decided, pairing.base_alone, pairing.new_alone)


def _some(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else "".join(names)


def _compare_pair(
    pair: Pair, rules: Rules, itself: bool, kernels_of: ReadKernels
) -> ConfigComparison:
    records = [[r for _, group in side for r in group] for side in (pair.base, pair.new)]
    on_device = rules.times == "cuda" and all(map(is_on_device, records))
    base, new = (
        [samples_of(process, group, rules.by, on_device, kernels_of) for process, group in side]
        for side in (pair.base, pair.new)
    )
    bare_clocks = side_clocks([each.bare_mhz for each in base], [each.bare_mhz for each in new])
    row_clocks = side_clocks([each.rows_mhz for each in base], [each.rows_mhz for each in new])
    whole = _whole(base, new, rules, bare_clocks) if _have_bare(base, new) else None
    paths = order_of([each.rows for each in (*base, *new)])
    times = [each.rows for each in base], [each.rows for each in new]
    rows = make_rows(paths, *times, rules, row_clocks)
    settings = differences(pair)
    unlike = different_work(pair, settings)
    found = ConfigComparison(
        pair=pair,
        settings=settings,
        undecided="" if itself else unlike or _why_undecided(base, new, rules),
        is_same_work=not unlike,
        whole=whole,
        rows=rows,
        on_device=on_device,
        bare_clocks=bare_clocks,
        row_clocks=row_clocks,
    )
    return _explained(found, rules, kernels_of)


def _have_bare(base: Sequence[ProcessSamples], new: Sequence[ProcessSamples]) -> bool:
    return all(each.bare_ns for each in (*base, *new))


def _whole(
    base: Sequence[ProcessSamples],
    new: Sequence[ProcessSamples],
    rules: Rules,
    clocks: SideClocks | None,
) -> Row:
    times = _bare(base), _bare(new)
    (row,) = make_rows([WHOLE], *times, rules, clocks)
    return row


def _bare(side: Sequence[ProcessSamples]) -> list[Times]:
    return [{WHOLE: each.bare_ns} for each in side]


def _why_undecided(
    base: Sequence[ProcessSamples], new: Sequence[ProcessSamples], rules: Rules
) -> str:
    """What forbids a verdict on a config; empty where nothing does."""
    if min(len(base), len(new)) < 2:
        return "one process a side: processes differ, and nobody knows by how much"
    if min(len(base), len(new)) < FEWEST_PROCESSES:
        return (
            f"{min(len(base), len(new))} processes a side agree by chance too often: run "
            f"{FEWEST_PROCESSES} at least, better 5"
        )
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
    tested = [row.chances for each in found for row in each.rows if row.test is not None]
    # All chances of one kind together.
    columns = zip(*tested, strict=True) if tested else ()
    of_rows = map(Chances._make, zip(*(adjusted(each) for each in columns), strict=True))

    def judged(config: ConfigComparison, row: Row, clocks: SideClocks | None) -> Row:
        if row.test is None:
            return replace(row, state="same") if itself and row.state == "undecided" else row
        chances = row.chances if row is config.whole else next(of_rows)
        told = "" if clocks is None else clocks.words
        return judge(row, chances, rules, itself=itself, can=not config.undecided, clocks=told)

    return tuple(
        replace(
            each,
            whole=None if each.whole is None else judged(each, each.whole, each.bare_clocks),
            rows=tuple(judged(each, row, each.row_clocks) for row in each.rows),
        )
        for each in found
    )


def _explained(config: ConfigComparison, rules: Rules, kernels_of: ReadKernels) -> ConfigComparison:
    """With the kernels of each part, where both sides have them and the rows are of the device."""
    if not config.on_device or rules.by != "part":
        return config
    base, new = (mean_kernels(side, kernels_of) for side in (config.pair.base, config.pair.new))
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
