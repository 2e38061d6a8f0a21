"""The passes of a trace with our labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.backward import split_backward
from qwen3_profile.attribution.build_scopes import build_scopes, label_scopes, select_labels
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.findings import Finding, refuse_damage
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.passes.reading import Reading, Source, demand_balance, reading_of
from qwen3_profile.trace import Trace

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.kernel_times import CompiledTimes
    from qwen3_profile.passes.cuda_graphs.assign import Reassign
    from qwen3_profile.passes.undisturbed import Undisturbed


def read_labels(
    path: Path,
    trace: Trace,
    *,
    accept_damaged: bool = False,
    reassign: Reassign | None = None,
    beside: Undisturbed | None = None,
    quantised: Collection[str] = (),
) -> Reading:
    """The steps that hold a forward pass with our labels; there may be none.

    Args:
        path: names the trace.
        reassign: gives the replays of graphs their labels.
        beside: what was measured in less disturbed passes, whose times are taken.
        quantised: the labels of Linears of packed weights, whose stages are scopes of their own.

    Raises:
        DamagedTraceError: a trace whose figures would be wrong, unless that is accepted.
    """
    attribution = attribute(trace, label_scopes(trace, quantised))
    ranges, findings = len(attribution.scopes), check_trace(attribution)
    if not accept_damaged:
        refuse_damage(str(path), findings)
    if reassign is not None:
        attribution, told = reassign(attribution)
        findings += told
    source: Source = "label" if reassign is None else "replay"
    return split_reading(path, source, attribution, ranges, findings, beside=beside)


def split_reading(
    path: Path,
    source: Source,
    attribution: Attribution,
    ranges: int,
    findings: tuple[Finding, ...],
    compiled: Sequence[CompiledTimes] = (),
    beside: Undisturbed | None = None,
) -> Reading:
    """The passes with our labels, their backwards and collectives as parts of their own.

    Args:
        compiled: what ran in compiled graphs, one entry per step; empty where nothing was compiled.
        beside: what was measured in less disturbed passes, whose times are taken.

    Raises:
        DamagedTraceError: they do not balance.
    """
    attribution = split_parts(attribution)
    if beside is not None:
        return _undisturbed(path, attribution, ranges, findings, beside)
    passes = read_steps(attribution, compiled)
    demand_balance(path, passes)
    return reading_of(path, source, attribution, ranges, passes, findings)


def _undisturbed(
    path: Path,
    attribution: Attribution,
    ranges: int,
    findings: tuple[Finding, ...],
    beside: Undisturbed,
) -> Reading:
    """The passes with the times of less disturbed ones, as far as these did the same."""
    from qwen3_profile.passes.undisturbed import retime  # for passes of a run alone

    found = retime(attribution, ranges, beside)
    passes = tuple(
        replace(each, has_clock=found.has_clock, has_device=found.has_device)
        for each in read_steps(found.attribution, traced=attribution)
    )
    demand_balance(path, passes)
    findings = (*findings, *found.findings)
    times = found.attribution
    return reading_of(path, "label", times, ranges, passes, findings, traced=attribution)


def read_label_ranges(path: Path, trace: Trace, reassign: Reassign | None = None) -> Reading:
    """The attribution by the labels as they lie in the trace alone, and no passes."""
    scopes = build_scopes(trace, select_labels(trace), name_gaps=False)
    attribution = attribute(trace, scopes)
    if reassign is not None:
        attribution, _ = reassign(attribution)
    return reading_of(path, "label", attribution, len(scopes), (), ())


def split_parts(attribution: Attribution) -> Attribution:
    """Gives backwards and collectives parts of their own."""
    return split_collectives(split_backward(attribution))
