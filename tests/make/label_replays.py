"""Replays that get the labels of what they repeat."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from make.graphs import Op, capture, eager
from make.kineto import document, write
from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.passes.cuda_graphs.assign import label_replays
from qwen3_profile.passes.cuda_graphs.reference import Reference, capture_references, step_reference
from qwen3_profile.trace import read_trace


def load(events: Sequence[str]) -> Attribution:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "trace.json"), document(*events))
        trace = read_trace(path, launch_columns=True)
        return attribute(trace, build_scopes(trace, select_labels(trace)))


def of_step(ops: Sequence[Op], phase: str = "decode") -> tuple[Reference, ...]:
    found = load(eager(ops, phase))
    return (step_reference(found, 0),)


def of_capture(ops: Sequence[Op], *, named: bool = False) -> tuple[Reference, ...]:
    found = load(capture(ops, named=named))
    return capture_references(found.trace, found.scopes)


def labelled(
    events: Sequence[str], references: Sequence[Reference]
) -> tuple[Attribution, tuple[Finding, ...]]:
    found = load(events)
    after, findings = label_replays(found, references)
    assert after.sum_of("device_ns").sum() == found.trace.device.dur_ns.sum()
    assert after.sum_of("device_events").sum() == len(found.trace.device)
    return after, findings


def names(found: Attribution) -> list[str]:
    """The label of each device event, in time order."""
    return [found.scopes.names[found.scopes.name[scope]] for scope in found.owner.tolist()]
