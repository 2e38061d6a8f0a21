"""A trace that shows no forward passes in, one record of all of it by its own ranges out.

The ranks of a training job have `record_function` ranges of their framework and their authors, and
no layers. Their record has these ranges as its parts, so that ranks can be compared range by range.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.fold import fold
from qwen3_profile.attribution.parts import Times, make_part, sum_times
from qwen3_profile.attribution.scopes import ScopeTree, build_scopes, whole_trace
from qwen3_profile.attribution.selection import select
from qwen3_profile.passes.nn_modules.read import unique_name
from qwen3_profile.passes.pass_times import StepTimes, step_times
from qwen3_profile.records.record import RunFacts, TimingRecord
from qwen3_profile.trace import Trace


def collect_whole(
    path: Path, trace: Trace, facts: RunFacts, findings: tuple[Finding, ...]
) -> tuple[TimingRecord, ...]:
    """The one record of the trace; none where it has no ranges but those of frameworks.

    Args:
        facts: what the trace says of its run.
        findings: what is odd in the trace.
    """
    attributed = attribute_whole(trace)
    if attributed is None:
        return ()
    times = _times(attributed[0])
    return (
        TimingRecord(
            id=f"{unique_name(path, trace.info, [times])}-c0-r0-{labels.WHOLE_TRACE}",
            timestamp="",
            config_index=0,
            run_index=0,
            phase=labels.WHOLE_TRACE,
            config=None,
            total_ns=None,
            profiled_ns=None,
            times=times,
            findings=findings,
            facts=facts,
            phase_source="unknown",
        ),
    )


def attribute_whole(trace: Trace) -> tuple[Attribution, int] | None:
    """What the record of a whole trace is sums of; None where the trace has no ranges.

    Returns:
        The attribution, and how many of its scopes are ranges of the trace: the first ones.
    """
    selected = select(trace, "labels")
    if not selected.any():
        return None
    scopes = _without_dots(build_scopes(trace, selected, name_gaps=False))
    return split_collectives(attribute(trace, scopes, whole_trace(trace))), len(scopes)


def _without_dots(scopes: ScopeTree) -> ScopeTree:
    """Dots part the names of our grammar; in a name of others they part nothing."""
    return replace(scopes, names=tuple(name.replace(".", "_") for name in scopes.names))


def _times(found: Attribution) -> StepTimes:
    """The ranges of all threads side by side; what is in none is unattributed."""
    parts = fold(found)
    total = sum_times(part.total for part in parts)._replace(calls=1)
    return step_times(found, 0, make_part(labels.WHOLE_TRACE, total, Times(calls=1), parts))
