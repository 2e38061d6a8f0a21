"""How often the comparison calls equal sides different, and finds what was planted.

    python benchmarks/false_alarms.py collect FOLDER --processes 160 --run '--model-name DIR ...'
    python benchmarks/false_alarms.py table FOLDER [--processes-a-side 3,5] [--draws 200]

`collect` measures one config in fresh processes, with the arguments of a run. `table`
takes all processes of a folder, or files of records, and lets the tool compare sides of them:

    disjoint   sides from successive processes in the order A B B A; no process serves twice, so
               that the interval of the rate, 95 % and binomial, is an honest one
    drawn      sides drawn at random, many more of them; their rates are of dependent draws
    planted    as drawn, with one part of NEW slower by so much in every pass, and with it all
               that holds it; how often its row is called slower, against how often the spread of
               all processes predicts, and against 80 % for a change as large as the row's own
               announcement, the "sees" of its table

The changes of `table` are planted into what was measured. Those of

    python benchmarks/false_alarms.py collect-delays FOLDER --turns 13 --run '--model-name DIR ...'
    python benchmarks/false_alarms.py delays FOLDER [--processes-a-side 3,5] [--draws 200]

are real: `planted_delay.py` lets the host wait in every MLP for 0, 2, 5, 10 or 20 % of its time,
each in a fresh process, all five in each turn and in an order drawn anew. `delays` holds each
share's processes against those without a delay, and the rows that no delay is in as equal sides.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import log, sqrt
from pathlib import Path
from statistics import mean, median

import numpy as np
from scipy.stats import binomtest, nct, t

from qwen3_profile.analysis.comparison import compare as comparing
from qwen3_profile.analysis.comparison.compare import Comparison, compare
from qwen3_profile.analysis.comparison.rows import Row, Rules
from qwen3_profile.analysis.comparison.samples import ProcessSamples, middle, samples_of
from qwen3_profile.cli.fresh_processes import Side, run_in_turn
from qwen3_profile.records.process import Process
from qwen3_profile.records.sides import load_side

ALPHA = 0.05
PLANTED = (0.02, 0.05, 0.10, 0.20)
# Drawn sides follow each other by chance alone.
RULES, DRAWN = Rules(ALPHA), Rules(ALPHA, blocks=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("collect", "table", "collect-delays", "delays"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=160)
    parser.add_argument("--processes-a-side", default="3,5")
    parser.add_argument("--turns", type=int, default=13, help="processes of each delay")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--part", default="attn_forward", help="in which a change is planted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", default="", help="arguments of the run")
    options = parser.parse_args(argv)
    if options.what == "collect":
        arguments = (*shlex.split(options.run), "--output-dir", str(options.folder))
        run_in_turn([Side("", arguments, options.folder)], options.processes, print)
        return 0
    if options.what == "collect-delays":
        collect_delays(options.folder, options.turns, shlex.split(options.run), options.seed)
        return 0
    sizes = [int(word) for word in options.processes_a_side.split(",")]
    if options.what == "delays":
        comparing.samples_of = cached_samples
        delays(options.folder, sizes, options.draws, options.seed)
        return 0
    processes = sorted(load_side(options.folder), key=lambda each: each.span)
    comparing.samples_of = cached_samples
    table(processes, sizes, options.draws, options.part, options.seed)
    return 0


def collect_delays(folder: Path, turns: int, arguments: Sequence[str], seed: int) -> None:
    """FOLDER/0, FOLDER/0.02, ...: the runs of each delay. What is there already stays."""
    random = np.random.default_rng(seed)
    program = Path(__file__).with_name("planted_delay.py")
    for turn in range(turns):
        for share in random.permutation((0.0, *PLANTED)).tolist():
            place, name = folder / f"{share:g}", f"process{turn + 1}"
            if (place / name).exists():
                continue
            where = ["--trace-dir", place, "--run-name", name, "--output-dir", place]
            command = [sys.executable, program, str(share), *arguments, "--quiet", *where]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
            print(f"turn {turn + 1} of {turns}: {share:.0%}", flush=True)


def cached_samples(process: Process, *rest: object) -> ProcessSamples:
    """A process is on many sides, and its rows are the same in all of them."""
    key = (process.id, rest[0][0].phase, process.name)
    if key not in _KNOWN:
        _KNOWN[key] = samples_of(process, *rest)
    return replace(_KNOWN[key], process=process)


_KNOWN: dict[tuple[str, ...], ProcessSamples] = {}


@dataclass(frozen=True)
class Alarms:
    """What was called different in one comparison of equal sides."""

    whole: list[bool]
    rows: list[bool]
    gate: bool


def alarms_of(found: Comparison) -> Alarms:
    wholes = [config.whole for config in found.configs if config.whole is not None]
    rows = [row for config in found.configs for row in config.rows]
    return Alarms(
        whole=[row.state in ("slower", "faster") for row in wholes],
        rows=[row.state in ("slower", "faster") for row in rows],
        gate=bool(found.regressions),
    )


def table(
    processes: Sequence[Process], sizes: Sequence[int], draws: int, part: str, seed: int
) -> None:
    print(f"{len(processes)} processes; alpha {ALPHA:.0%}")
    random = np.random.default_rng(seed)
    for count in sizes:
        sides = list(disjoint(processes, count))
        if not sides:
            continue
        print(f"\n{count} v {count}")
        _alarms("disjoint", [compare(*each, RULES, no_kernels) for each in sides])
        drawn = [draw(processes, count, random) for _ in range(draws)]
        _alarms("drawn", [compare(*each, DRAWN, no_kernels) for each in drawn])
        _planted(processes, drawn, part)


def no_kernels(*_: object) -> tuple[()]:
    return ()


def disjoint(
    processes: Sequence[Process], count: int
) -> Iterator[tuple[list[Process], list[Process]]]:
    """Sides in turn: A B B A A B ..., each process on one side of one comparison."""
    for begin in range(0, len(processes) - 2 * count + 1, 2 * count):
        window = processes[begin : begin + 2 * count]
        pairs = [window[at : at + 2] for at in range(0, len(window), 2)]
        turned = [pair if at % 2 == 0 else pair[::-1] for at, pair in enumerate(pairs)]
        yield [pair[0] for pair in turned], [pair[1] for pair in turned]


def draw(
    processes: Sequence[Process], count: int, random: np.random.Generator
) -> tuple[list[Process], list[Process]]:
    chosen = [processes[at] for at in random.permutation(len(processes))[: 2 * count]]
    return chosen[:count], chosen[count:]


def _alarms(name: str, found: Sequence[Comparison]) -> None:
    each = [alarms_of(one) for one in found]
    wholes = list(chain.from_iterable(one.whole for one in each))
    rows = list(chain.from_iterable(one.rows for one in each))
    anything = [any(one.rows) for one in each]
    print(
        f"  {name:<9}{len(each):>5} comparisons   total_time {rate(wholes)}   a row "
        f"{100 * mean(rows):.1f}%   any row {rate(anything)}   gate {rate([a.gate for a in each])}"
    )


def rate(found: Sequence[bool]) -> str:
    interval = binomtest(sum(found), len(found)).proportion_ci()
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * mean(found):.1f}% [{low:.1f}..{high:.1f}]"


def _planted(
    processes: Sequence[Process], sides: Sequence[tuple[list[Process], list[Process]]], part: str
) -> None:
    count, phases = len(sides[0][0]), [group[0].phase for group in processes[0].groups]
    for phase in phases:
        spread = _spread(processes, phase, part)
        cells = []
        for change in PLANTED:
            found = mean(_is_found(base, new, phase, part, change) for base, new in sides)
            told = predicted(spread, change, count)
            cells.append(f"{change:.0%}: {100 * found:.0f} ({100 * told:.0f})")
        sees = [_sees(base, new, phase, part) for base, new in sides]
        own = mean(
            _is_found(base, new, phase, part, each)
            for (base, new), each in zip(sides, sees, strict=True)
        )
        print(
            f"  planted  {phase} / {part}, processes differ by {spread:.2%}: found (predicted) "
            f"{', '.join(cells)}; as announced, {median(sees):.2%} in the middle: {100 * own:.0f}"
        )


def predicted(spread: float, change: float, count: int) -> float:
    df, shift = 2 * (count - 1), log(1 + change) / (spread * sqrt(2 / count))
    found = nct.sf(t.ppf(1 - ALPHA / 2, df), df, shift)
    return 1.0 if np.isnan(found) else float(found)


def _row(found: Comparison, phase: str, part: str):
    (config,) = (each for each in found.configs if each.phase == phase)
    return next(row for row in config.rows if row.path[-1] == part)


def _is_found(
    base: list[Process], new: list[Process], phase: str, part: str, change: float
) -> bool:
    slower = [planted(each, phase, part, change) for each in new]
    row = _row(compare(base, slower, DRAWN, no_kernels), phase, part)
    return _is_slower(row)


def _sees(base: list[Process], new: list[Process], phase: str, part: str) -> float:
    return _row(compare(base, new, DRAWN, no_kernels), phase, part).sees


def planted(process: Process, phase: str, part: str, change: float) -> Process:
    """The process with one part slower in every pass, and all rows that hold the part."""
    slower = replace(process, name=f"{process.name} {phase} {part} +{change}")
    for group in process.groups:
        known = _KNOWN[process.id, group[0].phase, process.name]
        rows = dict(known.rows)
        if group[0].phase == phase:
            path = next(path for path in rows if path[-1] == part)
            more = [change * ns for ns in rows[path]]
            for depth in range(1, len(path) + 1):
                rows[path[:depth]] = tuple(map(sum, zip(rows[path[:depth]], more, strict=True)))
        _KNOWN[process.id, group[0].phase, slower.name] = replace(known, rows=rows)
    return slower


def _spread(processes: Sequence[Process], phase: str, part: str) -> float:
    logs = []
    for process in processes:
        rows = _KNOWN[process.id, phase, process.name].rows
        logs.append(log(middle(next(ns for path, ns in rows.items() if path[-1] == part))))
    return float(np.std(logs, ddof=1))


# Where `planted_delay.py` waits: in the part that no label below it explains, which holds little
# else, so that the wait is many times as long as it; and in what holds that.
_SLOWED = (("ffn",), ("ffn", "other"))

Sides = tuple[list[Process], list[Process]]


def delays(folder: Path, sizes: Sequence[int], draws: int, seed: int) -> None:
    """Real delays in every MLP: how often they are found, and what of the other rows alarms."""
    sides = {share: _in_time(folder / f"{share:g}") for share in (0.0, *PLANTED)}
    random = np.random.default_rng(seed)
    everyone = [each for side in sides.values() for each in side]
    compare(everyone[::2], everyone[1::2], DRAWN, no_kernels)  # so that all of them are known
    print(f"{len(everyone)} processes, in turn; alpha {ALPHA:.0%}")
    for ending in _SLOWED:
        spread, told = _spread_of(sides, ending), []
        for share in PLANTED:
            change = mean(_logs(sides[share], ending)) - mean(_logs(sides[0.0], ending))
            told.append(f"{share:.0%}: {np.expm1(change):+.0%}")
        print(f"  {' / '.join(ending)}: processes differ by {spread:.0%}; with a delay of "
              f"{', '.join(told)}")  # fmt: skip
    for count in sizes:
        print(f"\n{count} v {count}")
        alike = [pair for side in sides.values() for pair in disjoint(side, count)]
        if alike:
            _alarms("disjoint", [compare(*each, RULES, no_kernels) for each in alike])
        many = [side for side in sides.values() if len(side) >= 2 * count]
        alike = [draw(side, count, random) for side in many for _ in range(draws // len(many))]
        if alike:
            _alarms("drawn", [compare(*each, DRAWN, no_kernels) for each in alike])
        for share in PLANTED:
            _delayed(sides, share, count, draws, random)


def _in_time(folder: Path) -> list[Process]:
    """Of their records, which are read faster than their traces."""
    return sorted(load_side(folder / "timing_records.json"), key=lambda each: each.span)


def _delayed(
    sides: dict[float, list[Process]],
    share: float,
    count: int,
    draws: int,
    random: np.random.Generator,
) -> None:
    base, slower = sides[0.0], sides[share]
    turns = min(len(base), len(slower))
    begins = range(0, turns - count + 1, count)
    apart: list[Sides] = [(base[at : at + count], slower[at : at + count]) for at in begins]
    drawn: list[Sides] = []
    for _ in range(draws):
        chosen = [random.permutation(turns)[:count] for _ in range(2)]
        drawn.append(([base[at] for at in chosen[0]], [slower[at] for at in chosen[1]]))
    one, many = ([compare(*each, DRAWN, no_kernels) for each in some] for some in (apart, drawn))
    words = []
    for ending in _SLOWED:
        change = mean(_logs(slower, ending)) - mean(_logs(base, ending))
        told = predicted(_spread_of(sides, ending), float(np.expm1(change)), count)
        found = [_is_slower(_ending(each, ending)) for each in one]
        often = mean(_is_slower(_ending(each, ending)) for each in many)
        sees = median(_ending(each, ending).sees for each in many)
        words.append(
            f"{' / '.join(ending)} {sum(found)} of {len(found)} disjoint, {often:.0%} of drawn "
            f"(predicted {told:.0%}; sees {sees:.0%})"
        )
    others = [row.state in ("slower", "faster") for each in many for row in _others(each)]
    print(
        f"  {share:>4.0%} slower, found in: {'; '.join(words)}; rows without the delay called "
        f"different: {mean(others):.1%}"
    )


def _is_slower(row: Row) -> bool:
    """By itself, as its announcement is: other rows take some of its power."""
    return row.test.p < ALPHA and row.test.ratio > 1


def _ending(found: Comparison, ending: tuple[str, ...]) -> Row:
    return next(row for row in found.configs[0].rows if row.path[-len(ending) :] == ending)


def _logs(side: Sequence[Process], ending: tuple[str, ...]) -> list[float]:
    """The logarithm of each process's median time of a row."""
    known = (_KNOWN[each.id, "prefill", each.name].rows for each in side)
    return [
        log(middle(next(ns for path, ns in rows.items() if path[-len(ending) :] == ending)))
        for rows in known
    ]


def _spread_of(sides: dict[float, list[Process]], ending: tuple[str, ...]) -> float:
    """How much processes differ that wait for the same share."""
    return sqrt(mean(float(np.var(_logs(side, ending), ddof=1)) for side in sides.values()))


def _others(found: Comparison) -> Iterator[Row]:
    """The rows that neither hold the slower part nor lie in it."""
    slowed = _ending(found, _SLOWED[0]).path
    for row in found.configs[0].rows:
        shorter = min(len(row.path), len(slowed))
        if row.path[:shorter] != slowed[:shorter]:
            yield row


if __name__ == "__main__":
    sys.exit(main())
