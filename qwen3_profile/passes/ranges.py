"""A trace that shows no forward passes, as one pass with its own ranges as parts.

The ranks of a training job have `record_function` ranges of their framework and their authors, and
no layers. So ranks can be compared range by range.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.fold import fold
from qwen3_profile.attribution.scopes import ScopeTree, whole_trace
from qwen3_profile.attribution.selection import select, select_framework
from qwen3_profile.passes.pass_times import enclosing, whole_times
from qwen3_profile.passes.reading import Origin, Reading, reading_of
from qwen3_profile.trace import Category, Trace
from qwen3_profile.trace.columns import Bool, which


def read_ranges(path: Path, trace: Trace, findings: tuple[Finding, ...]) -> Reading | None:
    """The whole trace as one pass, what frameworks wrote of themselves among its ranges.

    None where it has no ranges.

    Args:
        findings: what is odd in the trace.
    """
    selected = select(trace, "labels") | _of_frameworks(trace)
    if not selected.any():
        return None
    scopes = _renamed(build_scopes(trace, selected, name_gaps=False))
    attribution = split_collectives(attribute(trace, scopes, whole_trace(trace)))
    # The ranges of all threads side by side; what is in none is unattributed.
    times = whole_times(attribution, enclosing(labels.WHOLE_TRACE, fold(attribution)))
    origins = [Origin(phase_source="unknown")]
    return reading_of(path, "range", attribution, len(scopes), [times], findings, origins)


def _of_frameworks(trace: Trace) -> Bool:
    """The ranges of frameworks, without the operators around them, and steps whatever they are."""
    is_range = trace.host.category == Category.USER_ANNOTATION
    is_range |= which(trace.names, _is_step)[trace.host.name]
    mask: Bool = select_framework(trace) & is_range
    return mask


def _is_step(name: str) -> bool:
    return name.startswith(labels.STEP_PREFIX)


def _renamed(scopes: ScopeTree) -> ScopeTree:
    """Dots part the names of our grammar; in a name of others they part nothing.

    The steps of a profiler are one row, however many they are.
    """
    texts = [_range_name(name) for name in scopes.names]
    place = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    name = np.array([place[text] for text in texts], np.int32)[scopes.name]
    return replace(scopes, names=tuple(place), name=name)


def _range_name(name: str) -> str:
    if _is_step(name):
        return labels.STEP_PREFIX.rstrip("#")
    return name.replace(".", "_")
