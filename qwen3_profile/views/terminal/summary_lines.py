"""The lines below the tables of a config: its totals over the runs, and what is to be doubted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from qwen3_profile.analysis.distribution import shape_sentences
from qwen3_profile.analysis.median_pass import is_on_device
from qwen3_profile.analysis.pass_sentences import (
    all_findings,
    idle_classes,
    idle_sentences,
    noise,
    overhead_words,
)
from qwen3_profile.analysis.totals import Totals
from qwen3_profile.attribution.collectives import summed
from qwen3_profile.attribution.findings import Finding, counted
from qwen3_profile.attribution.idle import sum_idle
from qwen3_profile.records.impossible_rates import IMPOSSIBLE_RATE
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.summary import spread
from qwen3_profile.run_folder.ceilings import Ceilings
from qwen3_profile.views.names import PASS_NAMES
from qwen3_profile.views.terminal.cells import milliseconds, wrap, wrap_finding
from qwen3_profile.words import said

_NS_PER_US, _GIGA, _TERA = 1e3, 1e9, 1e12
_FIGURE = re.compile(r"\d[\d.,]*")


def total_lines(totals: Totals) -> str:
    """The wall-clock without and with the profiler, and the device's sums; each with its range."""
    lines = []
    phase = totals.passes[0].phase
    if totals.overhead is not None:
        what = f"bare {PASS_NAMES.get(phase, 'forward pass')}: no profiler, no labels"
        meaning = f"with both: {overhead_words(totals, totals.overhead.traced)}"
        meaning += " (same steps)" if totals.steps_ns else ""
        lines.append(_total("total_time", totals.all_bare_ns, what))
        lines.append(_total("profiled_time", totals.profiled_ns, meaning))
    if totals.tokens_per_second:
        lines.append(_rates(totals.tokens_per_second, phase))
    if is_on_device(totals.passes):
        lines += _device_totals(totals.passes)
    return "\n".join(lines)


def warning_lines(totals: Totals) -> str:
    """Noise, and the findings of the traces; "" where there are none."""
    lines: list[str] = []
    noisy = noise(totals.all_bare_ns)
    if noisy:
        lines.append(f"warning: total_time is noisy: {noisy}")
    lines += (f"warning: total_time: {text}" for text in shape_sentences(totals.runs_ns))
    if totals.incomplete:
        passes = totals.incomplete + len(totals.passes)
        lines.append(
            f"warning: the profiler lost device events of {totals.incomplete} of {passes} passes; "
            "these are left out of all rows and medians"
        )
    told = [wrap(line, style="yellow") for line in lines]
    # The table of parts shows impossible rates, of the pass that it shows.
    found = (each for each in all_findings(totals.passes) if each.code != IMPOSSIBLE_RATE)
    told += map(_finding_line, _alike(found))
    return "\n".join(told)


def _rates(rates: Sequence[float], phase: str) -> str:
    low, high = min(rates), max(rates)
    of = "generated, bare steps" if phase == "decode" else "input tokens, bare pass"
    head = _head("tokens/s", f"{median(rates):.1f}", f"[{low:.1f} .. {high:.1f}]")
    return wrap(head + said(f"{of}, whole batch"), indent=len(head))


def _device_totals(passes: Sequence[TimingRecord]) -> list[str]:
    def values(read: Callable[[TimingRecord], int]) -> list[int]:
        return [read(each) for each in passes]

    events = int(median(values(lambda each: each.times.device_events)))
    unattributed = values(lambda each: each.times.unattributed_ns)
    idle = sum_idle(each.times.idle for each in passes)
    crossed = values(lambda each: each.times.cross_thread_ns)
    lines = [
        _total("cuda_total", values(lambda e: e.times.device_ns), counted(events, "device event")),
        _total(
            "cuda_busy", values(lambda e: e.times.busy_ns), "time with at least one of them running"
        ),
        _total("cuda_gap", values(lambda e: e.times.gap_ns), idle_classes(idle)),
        _total("unattributed", unattributed, _reasons(passes)),
    ]
    carriers = summed(each.times.communication for each in passes)
    if carriers:
        carried = values(lambda each: each.times.communication_ns)
        lines.append(_total("communication", carried, ", ".join(kind for kind, _ in carriers)))
    if any(crossed):
        meaning = "launched by threads with no label open, counted under another thread's"
        lines.append(_total("cross_thread", crossed, meaning))
    return lines


def ceilings_line(ceilings: Ceilings | None) -> str:
    """What the device was measured to do at most."""
    if ceilings is None:
        return ""
    us = f"{ceilings.launch_ns / _NS_PER_US:.2f} us"
    kernel = f"{us} for the shortest {'kernel' if ceilings.is_of_gpu else 'operator'}"
    tera, giga = ceilings.flops_per_s / _TERA, ceilings.bytes_per_s / _GIGA
    return wrap(
        f"ceilings, measured: {tera:.2f} TFLOP/s in {ceilings.dtype}, {giga:.1f} GB/s, {kernel}; "
        f"ridge point {ceilings.ridge:.0f} FLOP/B"
    )


def idle_lines(shown: TimingRecord) -> str:
    """The longest idle times of the pass, and what the host did meanwhile."""
    return "\n".join(wrap(line) for line in idle_sentences(shown))


def _reasons(passes: Sequence[TimingRecord]) -> str:
    found = dict.fromkeys(item.reason for each in passes for item in each.times.unattributed)
    return ", ".join(found) or "all device events are attributed"


def _total(name: str, values: Sequence[float], meaning: str) -> str:
    stats = spread(values)
    low, high = milliseconds(stats["min"]), milliseconds(stats["max"])
    head = _head(name, milliseconds(stats["median"]), f"[{low} .. {high}]")
    return wrap(head + said(meaning), indent=len(head))


def _head(name: str, figure: str, span: str) -> str:
    return f"{name:<14}{figure:>12}  {span:<24}  "


def _alike(findings: Iterable[Finding]) -> Iterable[list[Finding]]:
    """Findings that differ in nothing but their figures together."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        key = (finding.severity, _FIGURE.sub("", finding.message))
        found.setdefault(key, []).append(finding)
    return found.values()


def _finding_line(alike: Sequence[Finding]) -> str:
    """The worst of those that are alike, and how many others there are."""
    worst = max(alike, key=lambda finding: finding.count)
    others = f"; {len(alike) - 1} more like this" if len(alike) > 1 else ""
    return wrap_finding(worst.severity, f"{worst.message}{others}")
