"""A trace that shows no forward passes, as one pass with its own ranges as parts.

The ranks of a training job have `record_function` ranges of their framework and their authors, and
no layers. So ranks can be compared range by range.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.fold import fold
from qwen3_profile.attribution.scopes import ScopeTree, whole_trace
from qwen3_profile.attribution.selection import select
from qwen3_profile.passes.pass_times import enclosing, whole_times
from qwen3_profile.passes.reading import Origin, Reading, reading_of
from qwen3_profile.trace import Trace


def read_ranges(path: Path, trace: Trace, findings: tuple[Finding, ...]) -> Reading | None:
    """The whole trace as one pass; None where it has no ranges but those of frameworks.

    Args:
        findings: what is odd in the trace.
    """
    selected = select(trace, "labels")
    if not selected.any():
        return None
    scopes = _without_dots(build_scopes(trace, selected, name_gaps=False))
    attribution = split_collectives(attribute(trace, scopes, whole_trace(trace)))
    # The ranges of all threads side by side; what is in none is unattributed.
    times = whole_times(attribution, enclosing(labels.WHOLE_TRACE, fold(attribution)))
    origins = [Origin(phase_source="unknown")]
    return reading_of(path, "range", attribution, len(scopes), [times], findings, origins)


def _without_dots(scopes: ScopeTree) -> ScopeTree:
    """Dots part the names of our grammar; in a name of others they part nothing."""
    return replace(scopes, names=tuple(name.replace(".", "_") for name in scopes.names))
