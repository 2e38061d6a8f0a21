"""A trace with labels in, its passes and what each device event belongs to out.

Of replays of a graph the labels are those of the eager pass beside them, of compiled passes those
of what they were compiled from; both are imported when there are such.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import Finding, refuse_damage
from qwen3_profile.attribution.scopes import build_scopes, select_labels
from qwen3_profile.passes.label_records import demand_balance, split_parts
from qwen3_profile.passes.pass_times import StepTimes, read_steps
from qwen3_profile.trace import Trace, read_trace

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.kernel_times import CompiledTimes
    from qwen3_profile.passes.compiled.read import CompiledPass
    from qwen3_profile.passes.cuda_graphs.assign import Relabel
    from qwen3_profile.run_folder.run_json import ConfigResult, EagerPass, Measurement


def read_passes(
    path: Path,
    trace: Trace,
    accept_damaged: bool,
    relabel: Relabel | None = None,
    known: CompiledPass | None = None,
) -> tuple[tuple[StepTimes, ...], tuple[Finding, ...]]:
    """The steps with our labels, and what is odd in the trace.

    Args:
        path: names the trace.
        relabel: gives the replays of graphs their labels.
        known: of the compiled passes in it.

    Raises:
        DamagedTraceError: a trace whose figures would be wrong, unless that is accepted.
    """
    compiled: tuple[CompiledTimes, ...] = ()
    told: tuple[Finding, ...] = ()
    if known is not None:
        from qwen3_profile.passes.compiled.read import attribute_compiled

        matched = attribute_compiled(path, trace, known)
        attribution, compiled, told = matched.found, matched.times, matched.findings
    else:
        attribution = attribute(trace, build_scopes(trace, select_labels(trace)))
    findings = (*check_trace(attribution), *told)
    if not accept_damaged:
        refuse_damage(str(path), findings)
    if relabel is not None:
        attribution, more = relabel(attribution)
        findings += more
    steps = read_steps(split_parts(attribution), compiled)
    demand_balance(path, steps)
    return steps, findings


def attribute_labels(trace: Trace, relabel: Relabel | None = None) -> tuple[Attribution, int]:
    """What the records of a trace with our labels are sums of.

    Returns:
        The attribution, and how many of its scopes are ranges of the trace: the first ones. Those
        behind them were made to hold sums, and lie on no time line.
    """
    found = attribute(trace, build_scopes(trace, select_labels(trace)))
    ranges = len(found.scopes)
    if relabel is not None:
        found, _ = relabel(found)
    return split_parts(found), ranges


def attribute_measured(
    folder: Path, result: ConfigResult, measurement: Measurement
) -> tuple[Attribution, int]:
    """What the record of one traced forward pass of a run is sums of; as `attribute_labels`."""
    path = folder / measurement.trace
    # What is damaged was refused, or accepted, when the record was made.
    trace = read_trace(path, accept_damaged=True)
    if result.compiled is not None:
        from qwen3_profile.passes.compiled.read import attribute_compiled, read_compiled

        known = read_compiled(folder, result.compiled, result.phase, accept=True)
        matched = attribute_compiled(path, trace, known)
        return split_parts(matched.found), matched.ranges
    relabel = replay_labels(folder, result, measurement, accept_damaged=True)
    return attribute_labels(trace, relabel)


def replay_labels(
    folder: Path, result: ConfigResult, measurement: Measurement, *, accept_damaged: bool = False
) -> Relabel | None:
    """What gives a replay of a graph the labels that its record has; None for an eager pass.

    Args:
        accept_damaged: read what is left of a damaged trace of the eager pass.
    """
    beside = measurement.eager
    if beside is None:
        return None

    def relabel(found: Attribution) -> tuple[Attribution, tuple[Finding, ...]]:
        path = folder / measurement.trace
        eager = read_trace(folder / beside.trace, accept_damaged=accept_damaged)
        return labels_of_eager(folder, path, found.trace, result.phase, beside, eager)(found)

    return relabel


def labels_of_eager(
    folder: Path, path: Path, trace: Trace, phase: str, beside: EagerPass, eager: Trace
) -> Relabel:
    """What gives a replay's device events the labels of the eager pass beside it.

    Where that launched other kernels, the pass on the code for captures is looked at.
    """
    from qwen3_profile.passes.cuda_graphs.assign import label_replays
    from qwen3_profile.passes.cuda_graphs.reference import read_step_reference
    from qwen3_profile.run_folder.run_json import read_nodes
    from qwen3_profile.trace.launch_args import read_geometry

    geometry = read_geometry(path, trace)
    eager_path, captured_path = folder / beside.trace, folder / beside.captured_trace
    nodes = read_nodes(folder / beside.nodes) if beside.nodes else {}

    def relabel(found: Attribution) -> tuple[Attribution, tuple[Finding, ...]]:
        first = read_step_reference(eager_path, eager, beside.step, phase, "the eager pass")
        references = [] if first is None else [first]
        labelled, told = label_replays(found, geometry, references)
        if not told:
            return label_replays(found, geometry, references, nodes) if nodes else (labelled, ())
        captured = read_trace(captured_path)
        what = "the eager pass on the code for captures"
        other = read_step_reference(captured_path, captured, beside.captured_step, phase, what)
        references += [] if other is None else [other]
        return label_replays(found, geometry, references, nodes)

    return relabel
