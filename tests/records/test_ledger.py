"""The ledger: whose time is whose, on paper and by law, and the letters of its file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.fuzz_cases import check_against_plain, check_ledger
from make.kineto import (
    cpu_op,
    document,
    driver,
    host,
    kernel,
    label,
    launch,
    memset,
    read,
    step,
    write,
)
from make.random_traces import traces

from qwen3_profile import export
from qwen3_profile.attribution.selection import SCOPES, is_framework
from qwen3_profile.records.ledger import Ledger, make_ledger

ATTN = "layer.0.attn"
BLOCK = "nn.Module: Block_0"

# Each device event lasts for another power of two, so that every sum says what is in it.
EVENTS = [
    step(1, 0, 1000),
    label("mine", 100, 900),
    host("python_function", BLOCK, 200, 800),
    cpu_op(ATTN, 300, 500),
    cpu_op("aten::mm", 310, 490),
    label("nccl:all_reduce", 600, 700),
    launch(10, 150, 160),
    launch(20, 250, 260),
    launch(30, 350, 360),
    host("cuda_runtime", "cudaGraphLaunch", 400, 410, correlation=40),
    launch(50, 650, 660),
    driver(51, 652, 655),
    launch(60, 950, 960),
    launch(70, 350, 355, thread=2),
    kernel(10, 200, 201),
    kernel(20, 300, 302),
    kernel(30, 400, 404),
    kernel(40, 500, 508),
    memset(40, 504, 520, stream=8),
    kernel(51, 700, 732),
    kernel(60, 960, 1024),
    kernel(70, 400, 528, device=1),
    kernel(99, 2000, 2256),
    kernel(5, 3000, 3512),
]
WHOLE = 1023  # 1 + 2 + ... + 512
UNLINKED = {"no launch record": (256, 1), "launched before the window": (512, 1)}


def ledger(*events: str, scopes: str = "labels") -> Ledger:
    return make_ledger(read(*events), scopes)


def device_self(found: Ledger) -> dict[tuple[str, ...], int]:
    return {path: part.own.device_ns for path, part in found.rows}


def rest(found: Ledger) -> dict[str, tuple[int, int]]:
    return {each.reason: (each.ns, each.events) for each in found.times.unattributed}


# --- on paper -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "rows", "no_label", "crossed"),
    [
        pytest.param(
            "labels",
            {("mine",): 1 + 2 + 32, ("mine", ATTN): 4 + 8 + 16 + 128},
            (64, 1), 1, id="labels: ranges by name or by category",
        ),
        pytest.param(
            "modules",
            {(BLOCK,): 2 + 4 + 8 + 16 + 32 + 128}, (1 + 64, 2), 1, id="modules, without labels",
        ),
        pytest.param(
            "both",
            {("mine",): 1, ("mine", BLOCK): 2 + 32, ("mine", BLOCK, ATTN): 4 + 8 + 16 + 128},
            (64, 1), 1, id="both, one inside the other",
        ),
    ],
)  # fmt: skip
def test_every_nanosecond_is_in_one_row_or_has_a_reason(
    scopes: str, rows: dict[tuple[str, ...], int], no_label: tuple[int, int], crossed: int
) -> None:
    found = ledger(*EVENTS, scopes=scopes)
    assert device_self(found) == rows
    assert rest(found) == UNLINKED | {"no label open": no_label}
    assert (found.times.device_ns, found.times.device_events) == (WHOLE, 10)
    assert found.times.balances
    assert found.times.cross_thread_events == crossed


def test_what_frameworks_write_is_kept_apart() -> None:
    found = ledger(*EVENTS)
    apart = {p: (part.own.device_ns, part.total.device_ns) for p, part in found.framework_rows}
    inside = WHOLE - 256 - 512
    assert apart == {
        ("ProfilerStep#1",): (inside - 32, inside),
        ("ProfilerStep#1", "nccl:all_reduce"): (32, 32),
    }


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        pytest.param("ProfilerStep#12", True, id="step"),
        pytest.param("nccl:all_gather", True, id="collective"),
        pytest.param("gloo:all_reduce", True, id="collective of the CPU"),
        pytest.param("Optimizer.step#Adam.step", True, id="optimizer"),
        pytest.param("Optimizer.zero_grad#SGD.zero_grad", True, id="optimizer's zero_grad"),
        pytest.param("## Call CompiledFxGraph fabc ##", True, id="compiled graph"),
        pytest.param("Torch-Compiled Region: 0/1", True, id="compiled region"),
        pytest.param("TorchDynamo Cache Lookup", True, id="compiler's cache"),
        pytest.param("enumerate(DataLoader)#_Iter.__next__", True, id="data loader"),
        pytest.param("PyTorch Profiler (0)", True, id="the profiler"),
        pytest.param("prefill", False, id="a phase of ours"),
        pytest.param("step[DECODE bs=4]", False, id="a server's step, which tells something"),
        pytest.param("my nccl:thing", False, id="only its end looks so"),
        pytest.param("OptimizerState", False, id="only its beginning looks so"),
    ],
)
def test_framework_noise_by_name(name: str, noise: bool) -> None:
    assert is_framework(name) is noise
    found = ledger(label(name, 0, 50), launch(1, 10, 12), kernel(1, 20, 27))
    rows, apart = dict(found.rows), dict(found.framework_rows)
    assert ((name,) in rows, (name,) in apart) == (not noise, noise)


def test_all_figures_of_a_row() -> None:
    (path, whole), (_, part) = ledger(*EVENTS).rows
    outer, inner = whole.total, part.total
    assert (path, outer.calls) == (("mine",), 1)
    assert (outer.cpu_ns, whole.own.cpu_ns) == (800, 600)
    assert outer.device_ns == whole.own.device_ns + inner.device_ns == 191
    assert (outer.device_events, outer.graph_events) == (7, 2)
    # device 0 is idle in the step to 200, 300, 400, 500 and 700; device 1 up to 400
    assert outer.gap_ns == 200 + 99 + 98 + 96 + 180 + 400
    assert outer.launch_ns == 5 * 10
    assert (inner.device_events, inner.graph_events) == (4, 2)
    assert (inner.gap_ns, inner.launch_ns) == (98 + 96 + 400, 20)


def test_calls_of_one_name_are_one_row() -> None:
    found = ledger(
        label("a", 0, 10), label("b", 20, 40), label("a", 25, 30), label("a", 50, 57),
        launch(1, 1, 2), launch(2, 26, 27), launch(3, 51, 52),
        kernel(1, 100, 101), kernel(2, 200, 202), kernel(3, 300, 304),
    )  # fmt: skip
    assert {p: (r.total.calls, r.total.cpu_ns, r.own.device_ns) for p, r in found.rows} == {
        ("a",): (2, 17, 5), ("b",): (1, 20, 0), ("b", "a"): (1, 5, 2),
    }  # fmt: skip


def test_busy_is_a_union_of_each_device_and_of_all() -> None:
    found = ledger(
        kernel(1, 0, 100), kernel(2, 50, 150, stream=8), kernel(3, 140, 200, device=1),
        kernel(4, 300, 310, device=1),
    )  # fmt: skip
    assert found.busy_ns == {(0, "0"): 150, (1, "1"): 70}
    assert found.times.busy_ns == 210
    assert found.times.device_ns == 270


def test_linked_is_what_has_a_launch_whether_or_not_a_label() -> None:
    found = ledger(*EVENTS)
    assert (found.linked_ns, found.linked_events) == (WHOLE - 256 - 512, 8)


def test_a_trace_without_any_device_has_an_account_too() -> None:
    found = ledger(label("mine", 0, 10), cpu_op("aten::mm", 1, 2))
    assert (found.times.device_ns, found.times.unattributed, found.findings) == (0, (), ())
    assert [(path, part.total.cpu_ns) for path, part in found.rows] == [(("mine",), 10)]


def test_ranges_that_were_never_closed_nest_by_thousands() -> None:
    deep = [label(f"leaked {i}", i, 20_000 - i) for i in range(1500)]
    found = ledger(*deep, launch(1, 5000, 5001), kernel(1, 6000, 6007))
    assert [(len(path), part.own.device_ns) for path, part in found.rows[-1:]] == [(1500, 7)]


# --- the file -----------------------------------------------------------------------------------

KEYS = {
    "schema_version", "trace", "device_time_ns", "device_events", "device_busy_ns", "linked_ns",
    "span_ns", "idle_ns", "idle_stretches",
    "linked_events", "unattributed", "cross_thread_events", "findings", "steps", "rows",
    "cross_thread_ns", "apart_ns", "apart_events",
    # beside what a reader of the format is promised:
    "scopes", "framework",
}  # fmt: skip
ROW_KEYS = {
    "path", "calls", "cpu_ns", "cpu_self_ns", "device_ns", "device_self_ns", "device_events",
    "gap_ns", "starved_ns", "launching_ns", "queued_ns", "blocked_ns", "launch_ns",
    "graph_events",
}  # fmt: skip


def export_ledger(folder: Path, data: bytes, *flags: str) -> tuple[int, dict[str, Any]]:
    trace = write(folder / "some.pt.trace.json.gz", data)
    file = folder / "below/ledger.json"
    code = export.main([str(trace), "--ledger", str(file), *flags])
    return code, json.loads(file.read_text()) if file.is_file() else {}


@pytest.mark.parametrize("scopes", SCOPES)
def test_the_file_is_what_it_says(tmp_path: Path, scopes: str) -> None:
    code, found = export_ledger(tmp_path, document(*EVENTS), "--scopes", scopes)
    assert code == 0
    assert set(found) == KEYS
    assert (found["schema_version"], found["scopes"]) == (1, scopes)
    assert {key for row in found["rows"] + found["framework"] for key in row} == ROW_KEYS
    assert {key for each in found["unattributed"] for key in each} == {"reason", "ns", "events"}
    assert found["steps"] == [{"number": 1, "start_ns": 0, "end_ns": 1000}]
    assert found["device_busy_ns"] == {"all": 995, "0": 891, "1": 128}
    attributed = sum(row["device_self_ns"] for row in found["rows"])
    spare = sum(each["ns"] for each in found["unattributed"])
    assert attributed + spare == found["device_time_ns"] == WHOLE


def test_the_file_says_what_its_trace_says_of_itself(tmp_path: Path) -> None:
    data = document(kernel(1, 0, 5), base_time_ns=1_700_000_000_000_000_000).replace(
        b'"schemaVersion": 1',
        b'"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "NVIDIA H100"}],'
        b'"cuda_runtime_version": 13000, "cuda_driver_version": 13010,'
        b'"distributedInfo": {"backend": "nccl", "rank": 3, "world_size": 8}',
    )
    _, found = export_ledger(tmp_path, data)
    name = found["trace"].pop("name")
    assert name.endswith("some.pt.trace.json.gz")
    assert found["trace"] == {
        "base_time_ns": 1_700_000_000_000_000_000,
        "devices": ["NVIDIA H100"],
        "versions": {"cuda_runtime_version": 13000, "cuda_driver_version": 13010},
        "rank": 3,
        "world_size": 8,
    }


def test_findings_have_their_count_time_and_example(tmp_path: Path) -> None:
    _, found = export_ledger(tmp_path, document(*EVENTS))
    keys = {"severity", "code", "message", "count", "ns", "example"}
    assert all(set(finding) == keys for finding in found["findings"])
    codes = {finding["code"]: finding for finding in found["findings"]}
    assert (codes["event-without-launch"]["ns"], codes["before-window"]["ns"]) == (256, 512)


def test_the_page_shows_totals_rows_and_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_ledger(tmp_path, document(*EVENTS))
    page = capsys.readouterr().out
    for line in ("device time", "in labels", "no label open", "mine/layer.0.attn", "warning: "):
        assert line in page
    assert max(map(len, page.splitlines()[2:])) <= 200


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        pytest.param(["{trace}", "--ledger", "{folder}"], "", id="a folder as the file"),
        pytest.param(["{folder}", "--ledger", "x.json"], "one trace file", id="of a folder"),
        pytest.param(["{folder}/no.json", "--ledger", "x.json"], "No such file", id="no trace"),
        pytest.param(
            ["{trace}", "--ledger", "{folder}/l.json", "--config", "0"], "--config", id="a config"
        ),
        pytest.param(["{trace}", "--scopes", "both"], "goes with --ledger", id="scopes alone"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    trace = write(tmp_path / "t.json", document(*EVENTS))
    code = export.main([word.format(trace=trace, folder=tmp_path) for word in argv])
    errors = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(errors) == 1
    assert told in errors[0]


# --- laws, over random traces -------------------------------------------------------------------


@given(traces(), st.sampled_from(SCOPES))
@settings(max_examples=50)
def test_it_balances_and_no_row_is_negative(events: list[str], scopes: str) -> None:
    check_ledger(ledger(*events, scopes=scopes))


@given(traces())
@settings(max_examples=40)
def test_it_is_what_plain_reading_finds(events: list[str]) -> None:
    check_against_plain(ledger(*events), document(*events))


@given(traces(), st.sampled_from(SCOPES), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_the_file_changes_not_a_letter(
    events: list[str], scopes: str, chance: random.Random
) -> None:
    shuffled = list(events)
    chance.shuffle(shuffled)
    first, second = ledger(*events, scopes=scopes), ledger(*shuffled, scopes=scopes)
    assert without_path(first) == without_path(second)


def without_path(found: Ledger) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(found.to_bytes())
    del text["trace"]["name"]
    return text
