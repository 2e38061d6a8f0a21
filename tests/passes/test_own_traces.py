"""Real traces of GPUs, against sums that were made by plain reading, to the nanosecond.

The traces are not part of the repository; where they are missing, these tests are skipped.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make.kineto import with_children
from make.paths import SHARED

from qwen3_profile.attribution.attribute import Attribution, Reason, attribute, union_ns
from qwen3_profile.attribution.attribute import device_number as number_devices
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.records.load import collect_trace
from qwen3_profile.trace import read_trace

TRACES = SHARED
OWN = TRACES / "own"
DAMAGED = "damaged_zero_timestamps"


def load(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


TRUTH: dict[str, dict[str, Any]] = (load(OWN / "truth.json") or {"traces": {}})["traces"]
MANIFEST: list[dict[str, Any]] = load(TRACES / "MANIFEST.json") or []

pytestmark = pytest.mark.skipif(not TRUTH, reason="the recorded traces are not here")


@cache
def attributed(path: Path) -> Attribution:
    trace = read_trace(path)
    return attribute(trace, build_scopes(trace, select_labels(trace)))


def own(name: str) -> Attribution:
    return attributed(OWN / f"{name}.json.gz")


def by_label(found: Attribution, values: np.ndarray, *, fold_gaps: bool) -> dict[str, int]:
    """Sums by name that are not 0; what lies between labels is their container's own."""
    scopes, sums = found.scopes, Counter[str]()
    for i, value in enumerate(values.tolist()):
        scope = int(scopes.parent[i]) if fold_gaps and scopes.is_gap[i] else i
        sums[scopes.names[scopes.name[scope]]] += value
    return {name: value for name, value in sums.items() if value}


def known(times: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in times.items() if value}


@pytest.mark.parametrize("name", [name for name in TRUTH if name != DAMAGED])
def test_each_label_has_its_device_time_to_the_nanosecond(name: str) -> None:
    found, truth = own(name), TRUTH[name]
    dur_ns = found.trace.device.dur_ns
    assert int(dur_ns.sum()) == truth["device_time_ns"]
    assert len(dur_ns) == truth["device_events"]
    own_ns = by_label(found, found.sum_of("device_ns"), fold_gaps=True)
    assert own_ns == known(truth["label_self_device_ns"])
    total = by_label(found, with_children(found.scopes, found.sum_of("device_ns")), fold_gaps=False)
    assert {label: total.get(label, 0) for label in truth["label_device_ns"]} == {
        **truth["label_device_ns"]
    }
    unlabelled = int(dur_ns[found.owner < 0].sum())
    assert unlabelled == truth["no_label_ns"]
    assert sum(own_ns.values()) + unlabelled == truth["device_time_ns"]
    assert int((found.launch == NO_LAUNCH_EVENT).sum()) == truth["unlinked_events"]


@pytest.mark.parametrize("name", [name for name in TRUTH if name != DAMAGED])
def test_each_step_balances(name: str) -> None:
    for step in read_steps(own(name)):
        assert step.balances, step.number
        assert step.busy_ns <= step.device_ns


def test_the_damaged_trace_is_refused() -> None:
    with pytest.raises(
        DamagedTraceError, match=r"1600 of 1600 device events have neither a start nor"
    ):
        collect_trace(OWN / f"{DAMAGED}.json.gz")


@pytest.mark.parametrize(
    "facts", [pytest.param(m, id=m["file"].removesuffix(".json.gz")) for m in MANIFEST]
)
def test_foreign_traces_are_read_to_the_last_event(facts: dict[str, Any]) -> None:
    path = TRACES / facts["file"]
    if not path.is_file():
        pytest.skip("this trace is not here")
    trace = read_trace(path)
    device = trace.device
    # the listed sum was rounded to a float's microseconds
    assert int(device.dur_ns.sum()) == pytest.approx(facts["gpu_sum_total_us"] * 1000, abs=1)
    linked = int(np.isin(device.correlation, trace.launches.correlation).sum())
    assert (linked, len(device) - linked) == (facts["with_launch"], facts["without_launch"])
    numbers = number_devices(trace)
    busy = sum(
        union_ns(device.start_ns[numbers == n], device.end_ns[numbers == n])
        for n in np.unique(numbers)
    )
    # the listed union was summed in floats of the epoch, a quarter of a microsecond apart
    listed = sum((facts["gpu_busy_union_us"] or {}).values()) * 1000
    assert busy == pytest.approx(listed, abs=250)
    found = attribute(trace, build_scopes(trace, select_labels(trace)))
    assert int((found.launch != NO_LAUNCH_EVENT).sum()) == linked
    spare = sum(int(device.dur_ns[found.owner == reason].sum()) for reason in Reason)
    assert int(found.sum_of("device_ns").sum()) + spare == int(device.dur_ns.sum())
