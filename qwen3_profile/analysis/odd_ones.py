"""What is odd in the passes of a config: layers that are not as their equals, drift, and a GPU that
was held back or shared.

One line each, and only what is rarer than a stated rate where nothing is odd; `benchmarks/
odd_ones.py` counts how often it is said of undisturbed runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from qwen3_profile.analysis.claims import Claim
from qwen3_profile.analysis.distribution import TREND_ALARMS, drift_of
from qwen3_profile.analysis.layer_times import CUDA
from qwen3_profile.analysis.median_pass import is_on_device, median_record
from qwen3_profile.analysis.odd_layers import (
    FALSE_ALARMS,
    Outlier,
    find_odd_layers,
    odd_layers,
)
from qwen3_profile.analysis.totals import Totals
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord

ODD_LAYER, FIRST_LAYER, DRIFT = "odd layer", "first layer", "drift"
THROTTLED, SHARED = "throttled", "shared GPU"
_NS_PER_MS, _MW_PER_W = 1e6, 1e3


def odd_ones(totals: Totals) -> tuple[Claim, ...]:
    """All that is odd in one config and phase: the verdict is `ODD_LAYER`, `FIRST_LAYER`, `DRIFT`,
    `THROTTLED` or `SHARED`.
    """
    return (*_layers(totals.passes), *_drifts(totals), *_gpu(totals.passes))


def _layers(passes: Sequence[TimingRecord]) -> Iterator[Claim]:
    found = find_odd_layers(median_record(passes), passes)
    if found.why_not:
        figures = {"passes": found.passes, "passes_needed": found.needed}
        yield Claim("layers", ODD_LAYER, "", dict(figures), withheld=found.why_not)
    for each in odd_layers(found.outliers, is_on_device(passes)).values():
        yield _layer(each)


def _layer(odd: Outlier) -> Claim:
    name = f"layer {odd.layer}"
    where = f"{name} (the first)" if odd.is_first else name
    what = f"{odd.part} in {where}" if odd.part else where
    kind = "CUDA" if odd.kind == CUDA else "CPU"
    place = "the longest" if odd.ratio > 1 else "the shortest"
    if odd.rank > 1:
        place = f"among the {odd.rank} {'longest' if odd.ratio > 1 else 'shortest'}"
    sentence = (
        f"{what} takes {odd.ratio:.2f} times the {kind} time of comparable layers "
        f"({odd.ns / _NS_PER_MS:.3f} ms beside {odd.median_ns / _NS_PER_MS:.3f}): {place} of "
        f"{odd.equals} in each of {odd.passes} passes."
    )
    return Claim(
        subject=f"{name} {odd.part}".strip(),
        verdict=FIRST_LAYER if odd.is_first else ODD_LAYER,
        sentence=sentence,
        rests_on={
            "time_ns": float(odd.ns),
            "equals_ns": odd.median_ns,
            "ratio": odd.ratio,
            "rank": odd.rank,
            "layers": odd.equals,
            "passes": odd.passes,
            "false_alarm_rate": FALSE_ALARMS,
        },
    )


def _gpu(passes: Sequence[TimingRecord]) -> Iterator[Claim]:
    """What the driver told after more than half of the runs: facts of its own, and no estimates."""
    states = list({each.run_index: each.gpu for each in passes if each.gpu is not None}.values())
    held = [each for each in states if each.throttled]
    if 2 * len(held) > len(states):
        why = ", ".join(dict.fromkeys(reason for each in held for reason in each.throttled))
        hottest = max((each.temperature_c or 0 for each in held), default=0)
        drawn = max((each.power_mw or 0 for each in held), default=0) / _MW_PER_W
        limit = max((each.power_limit_mw or 0 for each in held), default=0) / _MW_PER_W
        yield Claim(
            "GPU",
            THROTTLED,
            f"the driver held the clock back after {len(held)} of {len(states)} runs: {why} "
            f"(at most {hottest} C, {drawn:.0f} of {limit:.0f} W).",
            {"runs": len(states), "throttled_runs": len(held), "temperature_c": hottest,
             "power_w": drawn, "power_limit_w": limit},
        )  # fmt: skip
    shared = [each for each in states if each.others]
    if 2 * len(shared) > len(states):
        most = max(each.others or 0 for each in shared)
        yield Claim(
            "GPU",
            SHARED,
            f"{most} other {'process' if most == 1 else 'processes'} had the GPU open after "
            f"{len(shared)} of {len(states)} runs; times may be longer for what it did there.",
            {"runs": len(states), "shared_runs": len(shared), "processes": most},
        )


def _drifts(totals: Totals) -> Iterator[Claim]:
    """Whether later runs took longer than earlier ones: the bare passes, and the device's work."""
    bare = [median(run[1:] if len(run) > 1 else run) for run in totals.runs_ns]
    yield from _drift("bare passes", bare)
    if is_on_device(totals.passes):
        by_run = groupby(totals.passes, key=lambda each: each.run_index)
        busy = [median([each.times.busy_ns for each in passes]) for _, passes in by_run]
        yield from _drift("the device's work", busy)


def _drift(what: str, runs_ns: Sequence[float]) -> Iterator[Claim]:
    change = drift_of(runs_ns)
    if change is None:
        return
    longer = "longer" if change > 0 else "shorter"
    sentence = (
        f"{what} drift: the last third of {len(runs_ns)} runs takes {abs(change):.1%} {longer} "
        "than the first."
    )
    figures = {"change": change, "runs": len(runs_ns), "false_alarm_rate": TREND_ALARMS}
    yield Claim(what, DRIFT, sentence, figures)
