"""How often something is called odd in runs in which nothing was, and finds what was planted.

    python benchmarks/odd_ones.py PLACE...

Each PLACE is a folder of runs or of files of records, as `false_alarms.py collect` makes them. Of
each config and phase of each process, how often it shows

    odd layers    any but the first, by the times that count: the device's, and the host's where
                  they are of passes without the profiler; at most 5 % are promised
    first layer   the first layer apart from the others, which it is in truth: so in most of them
    traced        as odd layers, by the host's times of profiled passes, which do not count
    rank, spread  as odd layers, if one of the two tests were left out
    drift         of bare passes or the device's work; at most 2 % are promised, 1 % each

with the interval of 95 %, binomial. Before that the same of layers that were drawn 400 times, in
which nothing is odd. In the processes' own one layer, drawn at random, is made slower by so much
in each pass, as a whole or in one part, and counted how often it is found.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.stats import binomtest

from qwen3_profile.analysis import odd_layers
from qwen3_profile.analysis.layer_times import CPU, CUDA, LayerTimes, layer_times
from qwen3_profile.analysis.odd_ones import DRIFT, odd_ones
from qwen3_profile.analysis.part_rows import part_tree
from qwen3_profile.analysis.totals import Totals, totals_of
from qwen3_profile.records.sides import load_side

_PLANTED = (0.06, 0.10, 0.20, 0.50)
_PART = "down_proj"
_DRAWS = 400


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", type=Path, nargs="+", metavar="PLACE")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    _simulated(np.random.default_rng(options.seed))
    for place in options.places:
        processes = load_side(place)
        groups = [totals_of(group) for process in processes for group in process.groups]
        print(f"{place.name}: {len(processes)} processes, {len(groups)} configs and phases")
        by_phase = defaultdict(list)
        for group in groups:
            by_phase[group.passes[0].phase].append(group)
        for phase, mine in by_phase.items():
            _table(phase, mine, np.random.default_rng(options.seed))
    return 0


def _simulated(random: np.random.Generator) -> None:
    """5 passes of 28 layers of 20 parts, whose times differ by 10 % in several ways."""
    shape = (5, 28, 20)
    draws = {
        "normal": lambda: random.normal(0, 0.1, shape),
        "heavy tails": lambda: 0.1 * random.standard_t(2, shape),
        "lasting": lambda: random.normal(0, 0.01, shape) + random.normal(0, 0.1, (1, *shape[1:])),
        "both": lambda: 0.03 * random.standard_t(2, shape) + random.normal(0, 0.1, (1, *shape[1:])),
    }
    print(f"drawn: {shape[0]} passes of {shape[1]} layers of {shape[2]} parts, {_DRAWS} times each")
    for name, draw in draws.items():
        _rates(name, [_shows_any(draw()) for _ in range(_DRAWS)])
    print()


def _shows_any(logs: np.ndarray) -> bool:
    layers, parts = logs.shape[1:]
    paths = tuple(("prefill", "layers", f"part{at}") for at in range(parts))
    ones = np.ones((layers, parts), np.int64)
    passes = [
        LayerTimes(tuple(range(layers)), paths, ns, ones, ones)
        for ns in np.round(1e6 * np.exp(np.clip(logs, -5, 5))).astype(np.int64)
    ]
    return bool(odd_layers.find_outliers(passes[0], passes, (CPU,)).outliers)


def _table(phase: str, groups: Sequence[Totals], random: np.random.Generator) -> None:
    each = [_times(group) for group in groups]
    kinds = odd_layers.kinds_that_count(groups[0].passes)
    passes, layers = len(each[0]), len(each[0][0].layers)
    needed = odd_layers.find_outliers(each[0][0], each[0], kinds or (CPU,)).needed
    named = " and ".join({CUDA: "device", CPU: "host"}[kind] for kind in kinds)
    print(f"\n  {phase}: {passes} passes of {layers} layers ({needed} are needed); {named} times")
    if kinds:
        _rates("odd layers", [_others(times, kinds) for times in each])
        _rates("first layer", [_firsts(times, kinds) for times in each])
    if CPU not in kinds:
        _rates("traced", [_others(times, (CPU,)) for times in each])
    if kinds:
        for name, left_out in (("rank", "_is_outside"), ("spread", "_worst_ranks")):
            with Without(left_out):
                _rates(name, [_others(times, kinds) for times in each])
    _rates("drift", [any(o.verdict == DRIFT for o in odd_ones(group)) for group in groups])
    for kind in kinds:
        _planted(each, kind, kinds, random)


def _times(group: Totals) -> list[LayerTimes]:
    chosen = [group.passes[at] for at in odd_layers.some_passes(len(group.passes))]
    return [layer_times(one.times.forward, part_tree(one.times.forward)) for one in chosen]


def _found(times: Sequence[LayerTimes], kinds: Sequence[str]) -> Iterator[odd_layers.Outlier]:
    yield from odd_layers.find_outliers(times[0], times, kinds).outliers


def _others(times: Sequence[LayerTimes], kinds: Sequence[str]) -> bool:
    return any(not each.is_first for each in _found(times, kinds))


def _firsts(times: Sequence[LayerTimes], kinds: Sequence[str]) -> bool:
    return any(each.is_first for each in _found(times, kinds))


class Without:
    """Leaves out one of the two tests in the block."""

    def __init__(self, name: str) -> None:
        self._name, self._was = name, getattr(odd_layers, name)

    def __enter__(self) -> None:
        one = {"_is_outside": _all, "_worst_ranks": _ranks_of_one}[self._name]
        setattr(odd_layers, self._name, one)

    def __exit__(self, *_: object) -> None:
        setattr(odd_layers, self._name, self._was)


def _all(values: np.ndarray, _: float) -> np.ndarray:
    return np.ones(len(values), bool)


def _ranks_of_one(times: np.ndarray) -> np.ndarray:
    return np.zeros(times.shape[1], np.int64)


def _rates(name: str, found: Sequence[bool]) -> None:
    interval = binomtest(sum(found), len(found)).proportion_ci()
    told = f"[{100 * interval.low:.1f} .. {100 * interval.high:.1f}]"
    print(f"    {name:<14}{sum(found):>4} of {len(found):<5}{100 * mean(found):>6.1f}% {told}")


def _planted(
    each: Sequence[Sequence[LayerTimes]],
    kind: str,
    kinds: Sequence[str],
    random: np.random.Generator,
) -> None:
    for part in ("", _PART):
        cells = []
        for change in _PLANTED:
            found = [_is_found(times, kind, kinds, part, change, random) for times in each]
            cells.append(f"{change:.0%}: {100 * mean(found):.0f}%")
        where = f"{'device' if kind == CUDA else 'host'}'s {part or 'whole layer'}"
        print(f"    planted in the {where}: {', '.join(cells)}")


def _is_found(
    times: Sequence[LayerTimes],
    kind: str,
    kinds: Sequence[str],
    part: str,
    change: float,
    random: np.random.Generator,
) -> bool:
    at = int(random.integers(1, len(times[0].layers)))
    slower = [_slower(one, kind, at, part, change) for one in times]
    return any(each.layer == times[0].layers[at] for each in _found(slower, kinds))


def _slower(times: LayerTimes, kind: str, at: int, part: str, change: float) -> LayerTimes:
    inside = np.array([not part or path[-1] == part for path in times.paths])
    grown = times.of(kind).copy()
    grown[at, inside] = np.round(grown[at, inside] * (1 + change))
    return replace(times, **{f"{'device' if kind == CUDA else 'cpu'}_ns": grown})


if __name__ == "__main__":
    sys.exit(main())
