"""The dashboard itself, on real traces: what it lists, and the times that it shows."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Done
from make.dashboard import Dashboard, running, wait_until
from make.paths import DATA
from torch._C._profiler import _RecordFunctionFast
from torch.profiler import ProfilerActivity, profile, record_function

from qwen3_profile import load_trace, to_records
from qwen3_profile.analysis.layer_times import BlockTimes, LayerBlocks
from qwen3_profile.views.tensorboard.event_files import (
    layer_tag,
    text_tag,
    write_config,
    write_session,
)
from qwen3_profile.views.tensorboard.hparams import Session
from qwen3_profile.views.tensorboard.tracks import QUEUE_TRACK
from qwen3_profile.views.tensorboard.viewer_trace import normalised_trace, trace_name

# Our own recording on an H100, torch 2.11: Qwen3-30B-A3B cut to 2 layers, 3 prefills of 2 x 256.
GPU_TRACE = DATA / "qwen3-30b-a3b_2layers_prefill_b2_l256.json.gz"

SESSION = Session((("batch_size", 2), ("dtype", "bfloat16")), (("total_time_ms", 4.5),))


def one(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found = [row for row in rows if row["name"] == name]
    assert len(found) == 1, (name, found)
    return found[0]


def record_cpu_session(path: Path, k: int) -> int:
    """Records one labelled step of small ops; returns the duration of layer.0.attn in ns."""
    a = torch.ones(8, 8)
    with profile(activities=[ProfilerActivity.CPU]) as session:  # noqa: SIM117
        with record_function(f"ProfilerStep#{k}"), record_function("prefill"):
            with record_function("layer.0"), record_function("layer.0.attn"):
                with _RecordFunctionFast("layer.0.attn.q_proj"):
                    a @ a
                a + a
    session.export_chrome_trace(str(path))
    events = json.loads(path.read_text(), parse_float=Decimal)["traceEvents"]
    return int(one(events, name="layer.0.attn")["dur"] * 1000)


@pytest.fixture(scope="module")
def attn_ns() -> list[int]:
    """Filled by `dashboard`: how long layer.0.attn took in each step of the run "cpu"."""
    return []


@pytest.fixture(scope="module")
def dashboard(
    tmp_path_factory: pytest.TempPathFactory, attn_ns: list[int], finished: Done
) -> Iterator[Dashboard]:
    """TensorBoard on the runs "cpu", of two sessions recorded just now, "gpu", and "run1", which
    the main job has just made.
    """
    logdir = tmp_path_factory.mktemp("logdir")
    raws = [tmp_path_factory.mktemp("raw") / f"{k}.json" for k in (0, 1)]
    attn_ns.extend(record_cpu_session(path, k) for k, path in enumerate(raws))
    for run, paths in (("cpu", raws), ("gpu", [GPU_TRACE])):
        (logdir / run).mkdir()
        text = normalised_trace(paths)
        (logdir / run / trace_name("w", 1_700_000_000_000_000_000)).write_bytes(gzip.compress(text))
    (logdir / "run1").mkdir()
    for trace in (finished.cwd / "traces/run1").glob("*.pt.trace.json.gz"):
        shutil.copy(trace, logdir / "run1")
    write_config(
        logdir / "gpu",
        "w",
        [LayerBlocks("0", BlockTimes(6, 4), BlockTimes(4, 3), BlockTimes(), BlockTimes(2, 1))],
        "# Report",
        time_ns=10**18,
    )
    write_session(logdir / "gpu", SESSION, time_ns=10**18 + 1)
    with running(logdir, tmp_path_factory.mktemp("log") / "log") as dashboard:
        wait_until(lambda: _has_loaded(dashboard, {"cpu", "gpu", "run1"}), dashboard.log)
        yield dashboard
        for bad in (
            "Traceback",
            "should not intersect",
            "different external id",
            "Remove the last",
        ):
            assert bad not in dashboard.log.read_text()


def _has_loaded(dashboard: Dashboard, runs: set[str]) -> bool:
    native = len(dashboard.ask("tags", plugin="scalars").get("gpu", ())) == 5
    native = native and bool(dashboard.ask("tags", plugin="text"))
    return native and runs <= set(dashboard.ask("runs")["runs"])


@pytest.mark.parametrize(
    ("run", "views"),
    [
        pytest.param("cpu", ["Overview", "Operator", "Trace", "Module"], id="CPU only"),
        pytest.param("gpu", ["Overview", "Operator", "Kernel", "Trace", "Module"], id="with a GPU"),
    ],
)
def test_dashboard_shows_the_views(dashboard: Dashboard, run: str, views: list[str]) -> None:
    assert dashboard.ask("views", run=run) == views
    assert dashboard.ask("workers", run=run, view="Module") == ["w"]
    assert dashboard.ask("spans", run=run, worker="w") == ["1"]


@pytest.mark.parametrize(
    ("run", "steps"),
    [
        pytest.param("cpu", ["0", "1"], id="one step a session"),
        pytest.param("gpu", ["1", "2", "3"], id="three steps of one session"),
    ],
)
def test_dashboard_counts_each_step_once(dashboard: Dashboard, run: str, steps: list[str]) -> None:
    rows = dashboard.profile("overview", run)["steps"]["rows"]
    assert [row[0] for row in rows] == steps


def modules(dashboard: Dashboard, run: str, worker: str = "w") -> dict[str, Any]:
    """The rows of the Module view by their names, each with its parent's."""
    rows: dict[str, Any] = {}

    def visit(children: list[Any], parent: str | None) -> None:
        for row in children:
            assert row["name"] not in rows, f"{row['name']} is there twice"
            rows[row["name"]] = {**row, "parent": parent}
            visit(row["children"], row["name"])

    visit(dashboard.profile("module", run, worker)["data"], None)
    return rows


def test_module_view_has_the_host_time_of_the_labels(
    dashboard: Dashboard, attn_ns: list[int]
) -> None:
    rows = modules(dashboard, "cpu")
    assert {name: row["parent"] for name, row in rows.items()} == {
        "prefill": None,
        "layer.0": "prefill",
        "layer.0.attn": "layer.0",
        "layer.0.attn.q_proj": "layer.0.attn",
    }
    attn = rows["layer.0.attn"]
    assert attn["occurences"] == 2
    # The dashboard adds floats of 4e12 us, whose last bit is worth a nanosecond.
    assert attn["host_duration"] * 1000 == pytest.approx(sum(attn_ns), abs=4)
    assert 0 < attn["self_host_duration"] < attn["host_duration"]
    assert attn["device_duration"] == 0


def test_module_view_has_the_times_of_the_traced_passes(
    dashboard: Dashboard, finished: Done
) -> None:
    """A trace has one time line; what the clock read in other passes is in the records."""
    worker = "bs1_len5_float32_prefill"
    assert dashboard.ask("views", run="run1") == ["Overview", "Operator", "Trace", "Module"]
    assert worker in dashboard.ask("workers", run="run1", view="Module")
    rows = modules(dashboard, "run1", worker)
    raw = (finished.cwd / "traces/run1/raw").glob(f"{worker}.*.kineto.json.gz")
    records = [record.to_json() for path in raw for record in to_records(load_trace(path))]
    assert len(records) == 2
    for layer in (0, 1):
        for block in ("attn", "ffn"):
            row = rows[f"layer.{layer}.{block}"]
            seconds = sum(record["layer_details"][layer][block] for record in records)
            assert row["occurences"] == 2
            assert row["host_duration"] == pytest.approx(seconds * 1e6, abs=0.004)


# Device time and events launched inside each label, by a plain reading of the trace in integer
# nanoseconds that was made apart from this program: correlation id -> call -> innermost label.
DEVICE_NS = {
    "prefill": 6069199,
    "layer.0": 2775359,
    "layer.0.attn": 490479,
    "layer.0.attn.q_proj": 42592,
    "layer.0.attn.rope": 153256,
    "layer.0.ffn": 2110986,
    "layer.0.ffn.experts": 2019434,
    "layer.1.attn": 492916,
    "layer.1.ffn": 1808903,
    "lm_head": 675053,
}
DEVICE_EVENTS = 612


@pytest.mark.parametrize(("label", "device_ns"), DEVICE_NS.items(), ids=DEVICE_NS)
def test_device_time_is_that_of_the_kernels_launched(
    dashboard: Dashboard, label: str, device_ns: int
) -> None:
    row = modules(dashboard, "gpu")[label]
    table = dashboard.profile("operation/table", "gpu", group_by="Operation")["data"]
    operator = one(table, name=label)
    # Two floats a device event, each right to half a nanosecond.
    slack_ns = min(DEVICE_EVENTS, device_ns / 1000)
    assert row["device_duration"] * 1000 == pytest.approx(device_ns, abs=slack_ns)
    # The Operator view rounds to whole microseconds.
    assert operator["device_total_duration"] == pytest.approx(device_ns / 1000, abs=0.6)
    assert row["occurences"] == operator["calls"] == 3


def test_operators_have_the_device_time_that_they_launched(dashboard: Dashboard) -> None:
    table = dashboard.profile("operation/table", "gpu", group_by="Operation")["data"]
    launching = {row["name"] for row in table if row["device_self_duration"] > 0}
    assert {"aten::mm", "aten::mul", "aten::copy_"} <= launching
    total = sum(row["device_self_duration"] for row in table)
    # Each row is rounded to a whole microsecond.
    assert total == pytest.approx(DEVICE_NS["prefill"] / 1000, abs=0.5 * len(table))


def test_trace_view_gets_valid_json(dashboard: Dashboard) -> None:
    shown = dashboard.profile("trace", "gpu")["traceEvents"]
    assert any(event["name"] == "layer.0.attn" for event in shown)
    counters = {event["name"] for event in shown if event["ph"] == "C"}
    assert QUEUE_TRACK in counters
    assert counters != {QUEUE_TRACK}, "the dashboard's own counters are not there"
    names = {e["args"]["name"] for e in shown if e["name"] == "thread_name"}
    assert "labels over stream 7" in names


def test_native_tabs_show_the_scalars_beside_the_trace(dashboard: Dashboard) -> None:
    tags = dashboard.ask("tags", plugin="scalars")
    assert {run: set(found) for run, found in tags.items()} == {
        "gpu": {
            "totals/total_time_ms",
            *(layer_tag("w", block, kind) for block in ("attn", "ffn") for kind in ("cpu", "cuda")),
        }
    }
    assert dashboard.ask("tags", plugin="text") == {"gpu": [text_tag("w")]}


def test_hparams_tab_compares_runs(dashboard: Dashboard) -> None:
    experiment = dashboard.ask("experiment", plugin="hparams", request="{}")
    assert {info["name"] for info in experiment["hparamInfos"]} == {"batch_size", "dtype"}
    # What it asks for by itself, with every session and nothing filtered.
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    columns = [{"metric": {"tag": "totals/total_time_ms"}}]
    request = {"allowedStatuses": statuses, "colParams": columns, "startIndex": 0, "sliceSize": 9}
    groups = dashboard.ask("session_groups", plugin="hparams", request=json.dumps(request))
    (group,) = groups["sessionGroups"]
    assert group["hparams"] == {"batch_size": 2, "dtype": "bfloat16"}
    (measure,) = group["metricValues"]
    assert (measure["name"]["tag"], measure["value"]) == ("totals/total_time_ms", 4.5)
