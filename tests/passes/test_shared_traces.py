"""The ledger on real traces of GPUs, against totals and tables that others made of them.

The traces are not part of the repository; where they are missing, these tests are skipped. Sums,
counts and links are held against a list of totals that came with the traces, tables against what
TraceLens and Kineto's TensorBoard plugin published, labels against Kineto's own GPU ranges.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make.kineto import self_cpu_ns, with_children
from make.paths import SHARED
from make.plain import plain

from qwen3_profile import export
from qwen3_profile.attribution.attribute import Attribution, attribute, union_ns
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.collectives import is_collective
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.attribution.selection import SCOPES, select
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.trace import Category, Trace, read_trace

OWN = SHARED / "own"
EXPECTED = SHARED / "expected"
DAMAGED = "damaged_zero_timestamps"


def load(path: Path) -> Any:
    return json.loads(path.read_text(), parse_float=Decimal) if path.is_file() else None


FACTS: list[dict[str, Any]] = load(SHARED / "MANIFEST.json") or []
TRUTH: dict[str, Any] = (load(OWN / "truth.json") or {"traces": {}})["traces"]
ALL = [facts["file"] for facts in FACTS] + [f"own/{name}.json.gz" for name in TRUTH]

pytestmark = pytest.mark.skipif(not FACTS, reason="the recorded traces are not here")


# Each file is read once for all that is asked of it, one file after the other.
@lru_cache(maxsize=4)
def trace_of(file: str) -> Trace:
    return read_trace(SHARED / file)


def params(files: list[str]) -> list[Any]:
    return [pytest.param(file, id=file.removesuffix(".json.gz")) for file in files]


def by_scope(trace: Trace, selected: np.ndarray) -> Attribution:
    return attribute(trace, build_scopes(trace, selected, name_gaps=False))


# --- totals -------------------------------------------------------------------------------------

# The listed unions were added up in float64, whose grid is 0.25 us at an epoch time: where files
# count nanoseconds they are off by so much at most. Ours is held against plain integers besides.
FLOAT64_NS = 140


@pytest.mark.parametrize("facts", [pytest.param(f, id=f["file"][:-8]) for f in FACTS])
def test_totals_links_and_graphs(facts: dict[str, Any]) -> None:
    trace = trace_of(facts["file"])
    found = make_ledger(trace)
    assert found.times.balances
    assert found.times.device_ns == facts["gpu_sum_total_us"] * 1000
    assert found.times.device_events == facts["with_launch"] + facts["without_launch"]
    assert found.linked_events == facts["with_launch"]
    unlinked = sum(
        each.events for each in found.times.unattributed if each.reason != "no label open"
    )
    assert unlinked == facts["without_launch"]
    annotated = by_scope(trace, trace.host.category == Category.USER_ANNOTATION)
    in_annotation = (annotated.owner >= 0) & ~annotated.cross_thread
    assert int(in_annotation.sum()) == facts["launch_in_user_annotation"]
    modules = by_scope(trace, select(trace, "modules"))
    in_module = (modules.owner >= 0) & ~modules.cross_thread
    assert int(in_module.sum()) == facts["launch_in_nn_module"]
    assert int(annotated.in_graph.sum()) == facts["gpu_from_graph_launch"]
    assert int(select(trace, "modules").sum()) == facts["n_nn_module"]
    assert int(is_collective(trace).sum()) == facts["nccl_kernels"]
    assert len(np.unique(trace.device.track)) == (facts.get("streams") or 0)


@pytest.mark.parametrize("facts", [pytest.param(f, id=f["file"][:-8]) for f in FACTS])
def test_busy_time_is_the_exact_union(facts: dict[str, Any]) -> None:
    trace = trace_of(facts["file"])
    found = {name: ns for (_, name), ns in make_ledger(trace).busy_ns.items()}
    assert found == swept(trace)
    listed = facts["gpu_busy_union_us"] or {}
    whole = all(start % 1000 == 0 for start in trace.device.start_ns.tolist())
    allowed = 0 if whole else FLOAT64_NS
    for device in found.keys() | listed.keys():
        assert abs(found[device] - listed[device] * 1000) <= allowed


def swept(trace: Trace) -> dict[str, int]:
    """The union of each device's intervals, edge by edge, in Python's integers."""
    edges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    device = trace.device
    for track, start, dur in zip(
        device.track.tolist(), device.start_ns.tolist(), device.dur_ns.tolist(), strict=True
    ):
        edges[trace.tracks[track].pid] += [(start, 1), (start + dur, -1)]
    found = {}
    for pid, changes in edges.items():
        busy = running = since = 0
        for time, change in sorted(changes):
            busy += time - since if running else 0
            running, since = running + change, time
        found[pid] = busy
    return found


@pytest.mark.parametrize("scopes", SCOPES)
@pytest.mark.parametrize("file", params(ALL))
def test_every_account_adds_up(file: str, scopes: str) -> None:
    found = make_ledger(trace_of(file), scopes)
    below: Counter[tuple[str, ...]] = Counter()
    for path, part in found.rows:
        below[path[:-1]] += part.total.device_ns
        assert min(*part.total, *part.own) >= 0
    assert all(
        part.total.device_ns == part.own.device_ns + below[path] for path, part in found.rows
    )
    assert below[()] + found.times.unattributed_ns == found.times.device_ns


SMALL = [
    file for file in ALL if (SHARED / file).is_file() and (SHARED / file).stat().st_size < 120_000
]


@pytest.mark.parametrize("file", params(SMALL))
def test_plain_reading_gives_each_label_the_same(file: str) -> None:
    truth = plain((SHARED / file).read_bytes())
    found = make_ledger(trace_of(file))
    by_label: Counter[str] = Counter()
    for path, part in found.rows:
        by_label[path[-1]] += part.own.device_ns
    assert +by_label == truth.self_ns()
    assert found.times.device_ns == sum(event.dur for event in truth.device)
    assert {name: ns for (_, name), ns in found.busy_ns.items()} == truth.busy()


# --- our own traces -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TRUTH if name != DAMAGED])
def test_rows_of_our_own_traces_are_the_truth_to_the_nanosecond(name: str) -> None:
    found, truth = make_ledger(trace_of(f"own/{name}.json.gz")), TRUTH[name]
    own_ns: Counter[str] = Counter()
    total_ns: Counter[str] = Counter()
    for path, part in found.rows:
        own_ns[path[-1]] += part.own.device_ns
        total_ns[path[-1]] += part.total.device_ns
    assert +own_ns == +Counter(truth["label_self_device_ns"])
    assert +total_ns == +Counter(truth["label_device_ns"])
    assert found.times.device_ns == truth["device_time_ns"]
    assert found.linked_events == truth["device_events"]
    assert truth["unlinked_events"] == 0
    assert found.times.unattributed_ns == truth["no_label_ns"]


def test_kernels_without_timestamps_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, file = OWN / f"{DAMAGED}.json.gz", tmp_path / "ledger.json"
    assert export.main([str(trace), "--ledger", str(file)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "neither a start nor a duration" in line
    assert not file.exists()
    assert export.main([str(trace), "--ledger", str(file), "--accept-damaged"]) == 0
    assert "no-timestamps" in file.read_text()


# --- TraceLens ----------------------------------------------------------------------------------

LENS = ["tl_h100_bert-small", "tl_mi300_bert-small", "tl_mi300_normalization_labels",
        "tl_mi300_qwen1.5-0.5b"]  # fmt: skip
# Its times were subtracted in float64: 0.25 us for each edge of an epoch time, less for sums.
LENS_NS = 500


def table(name: str, kind: str) -> Iterator[dict[str, str]]:
    with (EXPECTED / name / f"{kind}.csv").open(newline="") as file:
        yield from csv.DictReader(file)


def without_memsets(trace: Trace) -> Trace:
    """As TraceLens reads it: it has no place for memsets."""
    return replace(
        trace, device=trace.device.take(trace.device.category != Category.GPU_MEMSET)
    )  # fmt: skip


@pytest.mark.parametrize("name", LENS)
def test_tracelens_busy_time_is_the_union_of_linked_events(name: str) -> None:
    """It leaves out what has no launch (in Qwen1.5 463 kernels, 13.3 ms), and memsets."""
    trace = without_memsets(trace_of(f"{name}.json.gz"))
    device = trace.device
    linked = by_scope(trace, select_labels(trace)).launch != NO_LAUNCH_EVENT
    is_copy = device.category == Category.GPU_MEMCPY
    theirs = {row["type"]: float(row["time ms"]) * 1e6 for row in table(name, "gpu_timeline")}
    for kind, mine in (
        ("busy_time", linked),
        ("computation_time", linked & ~is_copy),
        ("total_memcpy_time", linked & is_copy),
    ):
        ours = union_ns(device.start_ns[mine], device.end_ns[mine])
        assert ours == pytest.approx(theirs[kind], abs=LENS_NS), kind


@pytest.mark.parametrize("name", LENS)
def test_tracelens_total_time_is_the_span_of_linked_events(name: str) -> None:
    trace = without_memsets(trace_of(f"{name}.json.gz"))
    linked = by_scope(trace, select_labels(trace)).launch != NO_LAUNCH_EVENT
    start, end = trace.device.start_ns[linked], trace.device.end_ns[linked]
    span = int(end.max() - start.min())
    theirs = {row["type"]: float(row["time ms"]) * 1e6 for row in table(name, "gpu_timeline")}
    assert span == pytest.approx(theirs["total_time"], abs=LENS_NS)
    assert span - union_ns(start, end) == pytest.approx(theirs["idle_time"], abs=2 * LENS_NS)


@pytest.mark.parametrize("name", LENS)
def test_tracelens_counts_and_times_the_same_kernels(name: str) -> None:
    """By operator, name and stream, to the nanosecond. It lists neither copies nor memsets.

    What has no launch has no operator, with both.
    """
    trace = trace_of(f"{name}.json.gz")
    found = by_scope(trace, trace.host.category == Category.CPU_OP)
    device, names, scopes = trace.device, trace.names, found.scopes
    ours: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for i in np.flatnonzero(device.category == Category.KERNEL).tolist():
        owner = int(found.owner[i])
        op = scopes.names[scopes.name[owner]] if owner >= 0 else ""
        key = op, names[device.name[i]], trace.tracks[device.track[i]].tid
        ours[key].append(int(device.dur_ns[i]))
    theirs = {
        (row["Parent cpu_op"], row["Kernel name"], row["Kernel stream"]): (
            round(float(row["Kernel duration (µs)_sum"]) * 1000),
            int(row["Kernel duration (µs)_count"]),
            round(float(row["Kernel duration (µs)_min"]) * 1000),
            round(float(row["Kernel duration (µs)_max"]) * 1000),
        )
        for row in table(name, "kernel_summary")
    }
    assert theirs == {
        key: (sum(times), len(times), min(times), max(times)) for key, times in ours.items()
    }


@pytest.mark.parametrize("name", LENS)
def test_tracelens_gives_each_operator_the_same_kernels(name: str) -> None:
    """Direct: launched by the operator itself. Subtree: of those of its calls that launched any."""
    trace = without_memsets(trace_of(f"{name}.json.gz"))
    found = by_scope(trace, trace.host.category == Category.CPU_OP)
    total = with_children(found.scopes, found.sum_of("device_ns"))
    direct, subtree, calls = Counter[str](), Counter[str](), Counter[str]()
    for i in np.flatnonzero(found.sum_of("device_events")).tolist():
        op = found.scopes.names[found.scopes.name[i]]
        direct[op] += int(found.sum_of("device_ns")[i])
        subtree[op] += int(total[i])
        calls[op] += 1
    rows = list(table(name, "ops_summary"))
    assert {row["name"]: int(row["Count"]) for row in rows} == calls
    for row in rows:
        for ours, column in ((direct, "direct"), (subtree, "subtree")):
            theirs = float(row[f"total_{column}_kernel_time_sum"]) * 1000
            assert ours[row["name"]] == pytest.approx(theirs, abs=LENS_NS), (row["name"], column)


# --- Kineto's TensorBoard plugin ----------------------------------------------------------------


@pytest.fixture(scope="module")
def plugin() -> list[Any]:
    """Overview, operator pie, operator table, kernel table, kernel pie: one JSON to a line."""
    return [json.loads(line) for line in (EXPECTED / "result_w0_OPEN.txt").open()]


RESNET = "kineto_v100_resnet50_w0_a.json.gz"


def test_the_plugin_counts_and_times_the_same_kernels(plugin: list[Any]) -> None:
    trace = trace_of(RESNET)
    kernels = trace.device.take(trace.device.category == Category.KERNEL)
    times: dict[str, list[int]] = defaultdict(list)
    for at, dur in zip(kernels.name.tolist(), kernels.dur_ns.tolist(), strict=True):
        times[trace.names[at]].append(dur // 1000)
    data = plugin[3]["data"]
    names = [column["name"] for column in data["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in data["rows"]]
    assert {row["Name"]: row["Calls"] for row in rows} == {k: len(v) for k, v in times.items()}
    for key, figure in (("Total", sum), ("Max", max), ("Min", min)):
        theirs = {row["Name"]: row[f"{key} Duration (us)"] for row in rows}
        assert theirs == {name: figure(values) for name, values in times.items()}


def test_the_plugin_gives_each_operator_the_same_times(plugin: list[Any]) -> None:
    """Its self time on the host is ours less the runtime calls, which are children to it.

    A call right inside one of the same name it counts and times with that one.
    """
    trace = trace_of(RESNET)
    found = by_scope(trace, trace.host.category == Category.CPU_OP)
    scopes = found.scopes
    device_ns = with_children(found.scopes, found.sum_of("device_ns"))
    host_ns = scopes.end_ns - scopes.start_ns
    host_self_ns = self_cpu_ns(found.scopes) - found.sum_of("launch_ns")
    ours: dict[str, Counter[str]] = defaultdict(Counter)
    for i, parent in enumerate(scopes.parent.tolist()):
        op = ours[scopes.names[scopes.name[i]]]
        op["device_self_duration"] += int(found.sum_of("device_ns")[i])
        op["host_self_duration"] += int(host_self_ns[i])
        if parent >= 0 and scopes.name[parent] == scopes.name[i]:
            continue
        op["calls"] += 1000
        op["device_total_duration"] += int(device_ns[i])
        op["host_total_duration"] += int(host_ns[i])
    columns = (
        "calls",
        *(f"{p}_{k}_duration" for p in ("device", "host") for k in ("self", "total")),
    )
    theirs = {row["name"]: {key: row[key] for key in columns} for row in plugin[2]["data"]}
    assert len(theirs) == 76
    assert {name: {key: ours[name][key] // 1000 for key in columns} for name in theirs} == theirs


def test_the_plugin_gives_each_step_the_same_kernels(plugin: list[Any]) -> None:
    """Kernels, copies and fills by the step that launched them, whenever they ran."""
    trace = trace_of(RESNET)
    found = by_scope(trace, select_labels(trace))
    ours = [
        [
            str(step.number),
            *(
                int(
                    trace.device.dur_ns[
                        (found.device_step == at) & (trace.device.category == kind)
                    ].sum()
                )
                // 1000
                for kind in (Category.KERNEL, Category.GPU_MEMCPY, Category.GPU_MEMSET)
            ),
        ]
        for at, step in enumerate(found.steps)
    ]
    # between the numbers it has the texts that its page shows
    assert ours == [[row[at] for at in (0, 1, 3, 5)] for row in plugin[0]["steps"]["rows"]]


# --- Kineto's own ranges of labels on the GPU ---------------------------------------------------

# Kineto widens the ranges that it draws: 1 ns at both ends; before nanoseconds came, 1 us in front,
# and in two builds of early 2024 half a microsecond more behind.
PADS = ((1, 1), (1000, 0), (1000, 500))
# One optimizer's range is drawn over kernels that another range launched.
WITHOUT_KERNELS = {"hta_gp100_gpu_user_annotation.json.gz": 1}


@pytest.mark.parametrize("file", params([file for file in ALL if DAMAGED not in file]))
def test_kinetos_gpu_ranges_are_the_hulls_of_our_innermost_labels(file: str) -> None:
    trace = trace_of(file)
    drawn = Counter(
        (trace.names[name], trace.tracks[track], start, end)
        for name, track, start, end in zip(
            *(getattr(trace.gpu_annotations, c).tolist() for c in ("name", "track", "start_ns")),
            trace.gpu_annotations.end_ns.tolist(),
            strict=True,
        )
    )
    if not drawn:
        pytest.skip("Kineto drew none")
    hulls = hulls_of(by_scope(trace, trace.host.category == Category.USER_ANNOTATION))
    fits = [pad for pad in PADS if not widened(hulls, pad) - drawn]
    assert len(fits) == 1
    assert (drawn - widened(hulls, fits[0])).total() == WITHOUT_KERNELS.get(file, 0)


Hull = tuple[str, Any, int, int]


def hulls_of(found: Attribution) -> list[Hull]:
    """(label, stream, first start, last end) of the events of each range and stream."""
    trace, scopes, device = found.trace, found.scopes, found.trace.device
    hulls: dict[tuple[int, int], tuple[int, int]] = {}
    for i in np.flatnonzero((found.owner >= 0) & ~found.cross_thread).tolist():
        key = int(found.owner[i]), int(device.track[i])
        start, end = hulls.get(key, (2**63, -(2**63)))
        hulls[key] = min(start, int(device.start_ns[i])), max(end, int(device.end_ns[i]))
    return [
        (scopes.names[scopes.name[scope]], trace.tracks[track], start, end)
        for (scope, track), (start, end) in hulls.items()
    ]


def widened(hulls: list[Hull], pad: tuple[int, int]) -> Counter[Hull]:
    return Counter(
        (name, track, start - pad[0], end + pad[1]) for name, track, start, end in hulls
    )  # fmt: skip
