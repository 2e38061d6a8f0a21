"""The report's data and its page: sums that add up, what stands out, and names that do no harm."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.commands import Commands, Done
from make.kineto import cpu_op, document, forward_pass, kernel, label, launch, write
from make.paths import DATA, DECODE, EXPERTS, SHARED
from make.report import HOSTILE, SCRIPTS, assert_rows_add_up, config_of, data_of, lone, one_layer
from make.roofs import MEMORY, bounded
from make.samples import decode_record, facts, lone_record, record

import qwen3_profile.views.report
from qwen3_profile.analysis.layer_times import layer_times
from qwen3_profile.analysis.median_pass import median_record
from qwen3_profile.analysis.part_rows import part_tree
from qwen3_profile.attribution.findings import NOTE, WARNING, Finding
from qwen3_profile.errors import OutputError, TraceError
from qwen3_profile.records.load import collect_trace, load
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.report import answers
from qwen3_profile.views.report.build import MOST_BYTES, build_report, render_page, report_path
from qwen3_profile.views.report.first_screen import first_screen
from qwen3_profile.views.report.kernel_rows import KernelStats
from qwen3_profile.views.report.page import content_policy
from qwen3_profile.views.report.page_json import document as page_data
from qwen3_profile.views.report.section_data import Config, ShownPass, gather
from qwen3_profile.views.report.shown_pass import read_shown_pass
from qwen3_profile.views.report.timeline import Bars, Lane, Queue, Timeline
from qwen3_profile.views.report.timeline_merge import downsample


def shown(path: Path) -> tuple[TimingRecord, ShownPass]:
    found = median_record(collect_trace(path))
    return found, read_shown_pass(path, found)


def assert_kernels_add_up(found: TimingRecord, trace: ShownPass) -> None:
    """Part by part, and what has no label."""
    device_ns: Counter[object] = Counter()
    events: Counter[object] = Counter()
    for use in trace.kernels:
        device_ns[use.part] += use.total_ns
        events[use.part] += use.calls
    leaves = [row for row in part_tree(found.times.forward) if row.is_leaf]
    assert [(row.path, row.times.device_ns, row.times.device_events) for row in leaves] == [
        (row.path, device_ns[row.path], events[row.path]) for row in leaves
    ]
    assert device_ns[()] == found.times.unattributed_ns
    assert sum(events.values()) == found.times.device_events


@pytest.mark.parametrize("path", [DECODE, EXPERTS], ids=["decode", "experts"])
class TestOnRealTraces:
    def test_leaves_add_up_to_the_pass(self, path: Path) -> None:
        forward = median_record(collect_trace(path)).times.forward
        leaves = [row.times for row in part_tree(forward) if row.is_leaf]
        assert sum(times.cpu_ns for times in leaves) == forward.total.cpu_ns
        assert sum(times.device_ns for times in leaves) == forward.total.device_ns
        assert sum(times.gap_ns for times in leaves) == forward.total.gap_ns

    def test_kernels_add_up_to_the_records_part_by_part(self, path: Path) -> None:
        found, trace = shown(path)
        assert_kernels_add_up(found, trace)

    def test_layers_add_up_to_the_rows(self, path: Path) -> None:
        forward = median_record(collect_trace(path)).times.forward
        rows = part_tree(forward)
        times = layer_times(forward, rows)
        by_path = {row.path: row.times for row in rows}
        for column, part in enumerate(times.paths):
            assert times.cpu_ns[:, column].sum() == by_path[part].cpu_ns
            assert times.device_ns[:, column].sum() == by_path[part].device_ns

    def test_the_time_line_has_every_label_and_event(self, path: Path) -> None:
        found, trace = shown(path)
        streams = [lane for lane in trace.timeline.lanes if lane.kind == "stream"]
        assert sum(len(lane.bars) for lane in streams) == found.times.device_events
        assert sum(lane.bars.dur_ns.sum() for lane in streams) == found.times.device_ns
        calls = sum(part.total.calls for _, part in found.times.forward.walk())
        assert trace.timeline.events == calls + found.times.device_events

    def test_the_page_has_the_records_numbers(self, path: Path) -> None:
        found, trace = shown(path)
        page = render_page([gather(collect_trace(path), trace)])
        assert len(page.encode()) < MOST_BYTES
        (config,) = data_of(page)["configs"]
        rows = part_tree(found.times.forward)
        assert [row["cpu_ns"] for row in config["rows"]] == [row.times.cpu_ns for row in rows]
        assert [row["device_ns"] for row in config["rows"]] == [row.times.device_ns for row in rows]
        busy = next(row for row in config["totals"] if row["name"] == "cuda_busy")
        assert busy["values"] == [each.times.busy_ns for each in collect_trace(path)]


def test_a_kernel_stands_under_its_part_with_the_innermost_operator() -> None:
    _, trace = lone(*one_layer())
    part = ("prefill", "layers", "attn", "q_proj")
    assert trace.kernels == (KernelStats(part, "k1", "aten::mm", 1, 20),)


def test_kernels_of_one_name_by_two_operators_are_two_rows() -> None:
    events = [*one_layer("same"), cpu_op("aten::add", 42, 48), launch(2, 43, 44)]
    _, trace = lone(*events, kernel(2, 75, 80, name="same"))
    assert [(use.name, use.op, use.total_ns) for use in trace.kernels] == [
        ("same", "aten::mm", 20), ("same", "aten::add", 5),
    ]  # fmt: skip


def test_what_a_container_launches_itself_is_its_other() -> None:
    found, trace = lone(*one_layer(), launch(2, 12, 13), kernel(2, 30, 37))
    other = ("prefill", "layers", "attn", "other")
    assert [use.part for use in trace.kernels if use.name == "k2"] == [other]
    assert {row.path: row.times.device_ns for row in part_tree(found.times.forward)}[other] == 7


def test_what_no_label_owns_is_a_part_of_its_own() -> None:
    _, trace = lone(*one_layer(), kernel(9, 92, 95, name="lost"))
    assert [use.part for use in trace.kernels if use.name == "lost"] == [()]


def test_on_a_cpu_the_operators_that_a_part_called_itself() -> None:
    events = [event for event in one_layer() if '"cpu_op"' in event or "annotation" in event]
    found, trace = lone(*events)
    part = ("prefill", "layers", "attn", "q_proj")
    assert trace.kernels == (KernelStats(part, "aten::linear", "", 1, 34),)
    config = gather([found], trace)
    assert not config.on_device
    assert [lane.kind for lane in trace.timeline.lanes] == ["labels"] * 4
    assert answers.waits_answer(config)[0].startswith("CPU-only run")
    (data,) = data_of(render_page([config]))["configs"]
    assert (data["on_device"], data["kernels"]["noun"]) == (False, "operator")


def test_the_time_line_by_hand() -> None:
    timeline = lone(*one_layer())[1].timeline
    *labels, stream = timeline.lanes
    assert [(lane.bars.start_ns.tolist(), lane.bars.dur_ns.tolist()) for lane in labels] == [
        ([0], [100]), ([10], [80]), ([10, 80], [70, 10]), ([15, 60], [45, 20]),
    ]  # fmt: skip
    assert stream.title == "device 0 stream 7"
    assert (stream.bars.start_ns.tolist(), stream.bars.launch_ns.tolist()) == ([50], [20])
    assert [timeline.names[at] for at in (*stream.bars.name, *stream.bars.op)] == ["k1", "aten::mm"]
    # In flight from its launch at 20 to its end at 70.
    assert timeline.queue == Queue((20, 70), (1, 0), False, 1, 50)
    assert timeline.span_ns == 100


def test_the_queue_counts_what_overlaps() -> None:
    more = [launch(2, 30, 32), kernel(2, 70, 90), launch(3, 90, 91), kernel(3, 95, 130)]
    queue = lone(*one_layer(), *more)[1].timeline.queue
    assert (queue.times_ns, queue.depth) == ((20, 30, 70, 90, 130), (1, 2, 1, 1, 0))
    assert (queue.deepest, queue.empty_ns) == (2, 20)


def bars(starts: Sequence[int], durs: Sequence[int], parts: Sequence[int]) -> Bars:
    count = len(starts)
    one, none = np.ones(count, np.int32), np.full(count, -1, np.int32)
    start, dur = np.array(starts, np.int64), np.array(durs, np.int64)
    return Bars(start, dur, none, np.array(parts, np.int32), none, none,
                none.astype(np.int64), one, dur)  # fmt: skip


def line_of(lane: Bars) -> Timeline:
    end = int((lane.start_ns + lane.dur_ns).max(initial=0))
    none = Queue((), (), False, 0, end)
    return Timeline(end, (), (Lane("stream", "s", lane),), none, len(lane))


def test_neighbours_of_one_part_are_joined_first() -> None:
    line = line_of(bars([0, 10, 20, 1000], [10, 10, 10, 10], [1, 1, 2, 2]))
    (lane,) = downsample(line, 3).lanes
    assert lane.bars.start_ns.tolist() == [0, 20, 1000]
    assert lane.bars.count.tolist() == [2, 1, 1]
    assert lane.bars.part.tolist() == [1, 2, 2]
    (lane,) = downsample(line, 1).lanes
    assert (lane.bars.part.tolist(), lane.bars.work_ns.tolist()) == ([-1], [40])


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 90), st.integers(0, 3)), min_size=1),
    st.integers(1, 30),
)
def test_joined_bars_stand_for_all(steps: list[tuple[int, int, int]], limit: int) -> None:
    starts = np.cumsum([gap for gap, _, _ in steps]).tolist()
    line = line_of(bars(starts, [dur for _, dur, _ in steps], [part for _, _, part in steps]))
    joined = downsample(line, limit)
    before, after = line.lanes[0].bars, joined.lanes[0].bars
    assert after.count.sum() == len(before)
    assert after.work_ns.sum() == before.dur_ns.sum()
    assert after.start_ns[0] == before.start_ns[0]
    ends = before.start_ns + before.dur_ns
    assert (after.start_ns + after.dur_ns).max() == ends.max()
    assert (np.diff(after.start_ns) >= 0).all()
    assert len(after) <= max(limit, 1) or len(after) < len(before)


def measured(**changes: Any) -> Config:
    values = {"total_ns": 10_000_000} | changes
    return gather([record(6, index=i, **values) for i in range(3)], None)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        pytest.param(measured(), "One prefill takes 10.000 ms without the profiler: median of "
                     "3 bare passes, from 10.000 to 10.000 ms.", id="three"),
        pytest.param(gather([record(2)], None), "One prefill takes 0.040 ms without the profiler "
                     "(one bare pass, so its noise is unknown).", id="one"),
        pytest.param(gather([lone_record()], None), "One prefill took 0.034 ms of CPU time, "
                     "including profiler overhead.", id="lone trace"),
        pytest.param(
            gather([decode_record(leaves_ns={0: 1000}, step_times_ns=(5000, 6000, 7000))], None),
            "One decode step takes 0.006 ms without the profiler: median of 3 bare passes, from "
            "0.005 to 0.007 ms.", id="decode",
        ),
    ],
)  # fmt: skip
def test_how_long_it_took(config: Config, sentence: str) -> None:
    assert answers.time_answer(config)[0] == sentence


def test_noise_is_told() -> None:
    steps = (5000, 6000, 7000)
    config = gather([decode_record(leaves_ns={0: 1000}, step_times_ns=steps)], None)
    assert answers.time_answer(config)[1:4] == (
        "That is noisy: IQR is 16.7% of the median, over 10%.",
        "333,333.3 tokens per second generated, whole batch.",
        "Steps: p90 0.007 ms, p99 0.007 ms.",
    )


@pytest.mark.parametrize(
    ("severities", "sentence"),
    [
        ((), "No findings: the traces pass all checks."),
        ((NOTE,), "No finding that puts a time in doubt; 1 note below."),
        ((WARNING,), "1 finding in the traces, listed below."),
        ((WARNING, WARNING), "2 findings in the traces, listed below."),
    ],
    ids=str,
)
def test_findings_are_counted(severities: tuple[str, ...], sentence: str) -> None:
    found = tuple(
        Finding(severity, f"code{at}", f"m{at}", 1, 0, "") for at, severity in enumerate(severities)
    )
    assert answers.time_answer(measured(findings=found))[-1] == sentence


@pytest.mark.parametrize(
    ("total_ns", "verdict"),
    [(100_000_000, "launch-bound"), (6_000, "GPU-bound"), (13_000, "mixed")],
    ids=str,
)
def test_the_verdict_is_the_terminals(total_ns: int, verdict: str) -> None:
    config = measured(total_ns=total_ns)
    (data,) = page_data([config], 0)["configs"]
    assert data["share"]["verdict"] == verdict
    busy = config.shown.times.busy_ns
    assert (data["share"]["busy_ns"], data["share"]["span_ns"]) == (busy, total_ns)
    assert data["answers"]["waits"][0]["en"] == answers.waits_answer(config)[0]


@pytest.mark.parametrize(
    ("wall_us", "verdict"),
    [(100, "memory-bound"), (130, "memory-bound"), (195, "mixed"), (300, "launch-bound")],
    ids=str,
)
def test_one_word_says_what_a_pass_is_bound_by(wall_us: int, verdict: str) -> None:
    """The first screen's is that of the sentence above the roofs, unless that leaves it open."""
    config = gather([bounded({"lm_head": MEMORY}, wall_us=wall_us)], None)
    assert config.explained
    first = first_screen(config)
    assert first.verdict == verdict
    told = config.explained.claims[0].sentence
    assert told.startswith("undecided" if verdict == "mixed" else verdict)
    by_work = verdict == "memory-bound"
    assert first.numbers[2].label.startswith("of GPU time in the" if by_work else "of its idle")


@pytest.mark.parametrize("count", [1, 2], ids=["one layer", "two layers"])
def test_few_layers_are_told_in_the_singular_or_plural(count: int) -> None:
    sentence = answers.layers_answer(gather([record(count)], None))[0]
    assert sentence.startswith("The only layer takes" if count == 1 else "The 2 layers take")


def test_labels_say_what_sets_configs_apart() -> None:
    first = record(1, total_ns=1)
    assert first.config
    other = replace(first, config=replace(first.config, batch_size=4))
    wide = replace(other, config=replace(first.config, dtype="float32"))
    configs = [gather([each], None) for each in (first, other, wide, wide)]
    assert [each["label"] for each in page_data(configs, 0)["configs"]] == [
        "prefill 2 x 256, bfloat16", "prefill 4 x 256, bfloat16", "prefill 2 x 256, float32",
        "prefill 2 x 256, float32 (2)",
    ]  # fmt: skip


def test_labels_say_how_the_passes_got_to_the_device() -> None:
    ways: list[dict[str, Any]] = [
        {"execution": "eager"},
        {"execution": "compiled", "compile_mode": "default", "compile_scope": "model"},
        {"execution": "compiled", "compile_mode": "max-autotune", "compile_scope": "layer"},
        {"execution": "cuda_graph"},
    ]
    first = record(1, total_ns=1)
    records = [replace(first, facts=replace(first.facts, **way)) for way in ways]
    configs = [gather([each], None) for each in records]
    assert [each["label"] for each in page_data(configs, 0)["configs"]] == [
        "prefill 2 x 256, eager", "prefill 2 x 256, compiled",
        "prefill 2 x 256, compiled by layer (max-autotune)", "prefill 2 x 256, CUDA graph",
    ]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_data(name: str) -> None:
    page = render_page([config_of(*one_layer(name, op=name))])
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert name not in markup
    assert page.count("<script") == page.count("</script>") == SCRIPTS
    found = data_of(page)["names"]
    assert any(text == name or text.startswith(name[:500]) for text in found)


def test_hostile_names_of_the_run_are_escaped() -> None:
    name = HOSTILE[0]
    evil = replace(record(2), facts=replace(facts(2), run=name))
    page = render_page([gather([evil], None)])
    assert "&lt;/script&gt;" in page
    assert name not in page
    assert data_of(page)["configs"][0]["run"] == name


def test_the_policy_allows_nothing_but_the_page_itself() -> None:
    policy = content_policy()
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    page = render_page([gather([record(2)], None)])
    assert f'content="{policy}"' in page
    assert not re.search(r"\son\w+=", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))


def test_the_charting_library_is_the_one_that_is_told() -> None:
    assets = Path(qwen3_profile.views.report.__file__).parent / "assets"
    (told,) = re.findall(r"sha256 (\w{64})", (assets / "echarts.md").read_text())
    assert hashlib.sha256((assets / "echarts.min.js").read_bytes()).hexdigest() == told
    assert '"6.1.0"' in (assets / "echarts.min.js").read_text()


def test_too_many_configs_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen3_profile.views.report.build.MOST_BYTES", 100_000)
    with pytest.raises(OutputError, match="does not fit one page"):
        render_page([gather([record(2)], None)])


def test_bars_are_joined_until_the_page_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    found, trace = shown(DECODE)
    config = gather([found], trace)
    whole = len(render_page([config]))
    monkeypatch.setattr("qwen3_profile.views.report.build.MOST_BYTES", whole - 1)
    monkeypatch.setattr("qwen3_profile.views.report.build._BARS", (60_000, 1000))
    line = data_of(render_page([config]))["configs"][0]["timeline"]
    assert line["bars"] <= 1000 < line["events"]
    assert (
        sum(sum(lane.get("count", [1] * len(lane["dur"]))) for lane in line["lanes"])
        == (line["events"])
    )


def test_a_trace_that_is_not_the_records_is_told() -> None:
    with pytest.raises(TraceError, match="is not the trace of this record"):
        read_shown_pass(EXPERTS, median_record(collect_trace(DECODE)))


@pytest.mark.parametrize(
    "name",
    [
        "tl_sglang_qwen3-8b_prefilldecode_eager", "tl_mi300_qwen1.5-0.5b",
        "ao_gtx1650_trace_stacks", "switch_a100_moe_stacks_old", "tl_vllm_decode_full_exec",
    ],
)  # fmt: skip
def test_traces_of_other_programs(name: str) -> None:
    path = SHARED / f"{name}.json.gz"
    if not path.exists():
        pytest.skip("needs ../shared/traces")
    found, trace = shown(path)
    assert_kernels_add_up(found, trace)
    assert len(build_report(path, load(path)).encode()) < MOST_BYTES


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_replays_have_the_parts_of_their_capture(
    commands: Commands, tmp_path: Path, phase: str
) -> None:
    replay, capture = (
        DATA / f"qwen3-0.6b_graph_{phase}_{k}.json.gz" for k in ("replay", "capture")
    )
    argv = (replay, "--capture", capture, "--report", "page.html")
    assert commands.export(tmp_path, *argv).code == 0
    (config,) = data_of((tmp_path / "page.html").read_text())["configs"]
    assert_rows_add_up(config)
    lanes = [lane for lane in config["timeline"]["lanes"] if lane["kind"] == "labels"]
    assert [len(lane["dur"]) for lane in lanes] == [1]


def test_where_a_report_goes(tmp_path: Path) -> None:
    there = Path("there")
    assert report_path(tmp_path, there) == tmp_path / "report.html"
    assert report_path(tmp_path / "a.b.json.gz", there) == there / "a.b.report.html"


def test_every_run_has_its_report(finished: Done) -> None:
    folder = finished.cwd / "traces/run1"
    data = data_of((folder / "report.html").read_text())
    labels = [config["label"] for config in data["configs"]]
    assert labels == ["prefill 2 x 8, bfloat16", "prefill 1 x 5, float32"]
    by_config = {0: [], 1: []}
    for entry in finished.records():
        by_config[entry["config_index"]].append(entry["total_time"])
    bare = [[ns / 1e9 for ns in config["bare_ns"]] for config in data["configs"]]
    assert bare == list(by_config.values())
    assert "report     traces/run1/report.html" in finished.out


def test_export_writes_the_same_report(commands: Commands, finished: Done, tmp_path: Path) -> None:
    run = finished.cwd / "traces/run1"
    done = commands.export(tmp_path, run, "--report", "new/page.html")
    assert done.code == 0
    assert (tmp_path / "new/page.html").read_text() == (run / "report.html").read_text()
    (raw, *_) = sorted((run / "raw").glob("*.kineto.json.gz"))
    done = commands.export(tmp_path, raw, "--report", "one.html")
    assert len(data_of((tmp_path / "one.html").read_text())["configs"]) == 1


def test_the_report_of_a_lone_trace_is_beside_its_records(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.export(tmp_path, EXPERTS, "--report")
    assert (done.code, done.errors) == (0, [])
    name = f"{EXPERTS.name.removesuffix('.json.gz')}.report.html"
    assert (tmp_path / "timing_results" / name).is_file()


def test_ranks_can_be_chosen(commands: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "ranks"
    folder.mkdir()
    for rank in range(2):
        write(folder / f"rank{rank}.json.gz", document(*forward_pass(1)))
    assert commands.export(tmp_path, folder, "--report").code == 0
    data = data_of((folder / "report.html").read_text())
    assert [config["label"] for config in data["configs"]] == [
        "rank0.json.gz, rank 0, prefill", "rank1.json.gz, rank 1, prefill",
    ]  # fmt: skip


def test_ranks_without_passes_have_their_ranges(commands: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "ranks"
    folder.mkdir()
    ranges = [label("## fwd.step ##", 0, 100), label("inner", 10, 60), launch(1, 20, 25)]
    for rank in range(2):
        events = [*ranges, kernel(1, 50, 70), launch(2, 70, 75), kernel(2, 80, 85)]
        write(folder / f"rank{rank}.json.gz", document(*events))
    assert commands.export(tmp_path, folder, "--report").code == 0
    data = data_of((folder / "report.html").read_text())
    first = data["configs"][0]
    names = ["trace", "## fwd_step ##", "inner", "other", "other"]
    assert [row["name"] for row in first["rows"]] == names
    assert [(row, total) for row, _, _, _, total in first["kernels"]["rows"]] == [(2, 20), (3, 5)]


def test_report_and_ledger_exclude_each_other(commands: Commands, tmp_path: Path) -> None:
    done = commands.export(tmp_path, EXPERTS, "--report", "--ledger", "ledger.json")
    assert done.code == 2
    assert len(done.errors) == 1
    assert not (tmp_path / "ledger.json").exists()


def test_a_report_that_cannot_be_written_is_one_line(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = commands.export(tmp_path, EXPERTS, "--report", "file/page.html")
    assert (done.code, len(done.errors)) == (2, 1)
    assert "page.html" in done.errors[0] or "file" in done.errors[0]


def test_a_run_goes_on_without_its_report(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(configs: object) -> str:
        raise OutputError("the report", "does not fit", "")

    monkeypatch.setattr("qwen3_profile.__main__.render_page", fail)
    done = commands.profile(tmp_path)
    assert (done.code, len(done.records())) == (1, 1)
    assert done.errors[0].startswith("error: the report")
    assert list((tmp_path / "traces/run1").glob("*.pt.trace.json.gz"))
