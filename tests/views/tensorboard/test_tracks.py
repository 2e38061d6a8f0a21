"""What the trace for viewers adds of the device: labels over kernels, the queue, tracks apart."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.kineto import cpu_op, document, event, kernel, label, launch, step, us, write

from qwen3_profile.views.tensorboard.nesting import lanes
from qwen3_profile.views.tensorboard.tracks import QUEUE_TRACK
from qwen3_profile.views.tensorboard.viewer_trace import normalised_trace

Event = dict[str, Any]


def shown(folder: Path, *sessions: list[str], base_time_ns: int | None = None) -> list[Event]:
    paths = [
        write(folder / f"{number}.json", document(*events, base_time_ns=base_time_ns))
        for number, events in enumerate(sessions)
    ]
    document_ = json.loads(normalised_trace(paths), parse_float=Decimal)
    return list(document_["traceEvents"])


def thread_names(events: list[Event]) -> dict[tuple[Any, Any], str]:
    return {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}


def ranges(events: list[Event], track: str) -> list[tuple[str, int, int]]:
    """(name, start, end) in ns of what lies on the track of this name."""
    names = thread_names(events)
    return [
        (e["name"], int(e["ts"] * 1000), int((e["ts"] + e["dur"]) * 1000))
        for e in events
        if e["ph"] == "X" and names.get((e["pid"], e["tid"])) == track
    ]


def queue(events: list[Event], pid: int = 0) -> list[tuple[int, int]]:
    return [
        (int(e["ts"] * 1000), e["args"]["events"])
        for e in events
        if e["ph"] == "C" and e["name"] == QUEUE_TRACK and e["pid"] == pid
    ]


PASS = [
    step(0, 0, 900),
    label("prefill", 0, 800),
    label("layer.0", 10, 400),
    label("layer.0.attn", 20, 200),
    cpu_op("layer.0.attn.q_proj", 30, 100),
    launch(1, 40, 50),
    launch(2, 150, 160),
    label("layer.0.ffn", 210, 390),
    launch(3, 300, 310),
    launch(4, 820, 830),
    kernel(1, 1000, 1100),
    kernel(2, 1200, 1300),
    kernel(3, 1300, 1450),
    kernel(4, 1450, 1500),
]


def test_labels_reach_from_their_first_kernel_to_their_last(tmp_path: Path) -> None:
    assert ranges(shown(tmp_path, PASS), "labels over stream 7") == [
        ("prefill", 1000, 1450),
        ("layer.0", 1000, 1450),
        ("layer.0.attn", 1000, 1300),
        ("layer.0.attn.q_proj", 1000, 1100),
        ("layer.0.ffn", 1300, 1450),
    ]


def test_each_stream_has_its_labels_right_above_it(tmp_path: Path) -> None:
    """Viewers sort tracks by their numbers: labels get the next free one below their stream."""
    events = [
        label("layer.0", 0, 100),
        *(launch(number, 10 * number, 10 * number + 5) for number in range(1, 5)),
        kernel(1, 200, 300, stream=7),
        kernel(2, 250, 350, stream=6),
        kernel(3, 250, 350, stream=0),
        kernel(4, 250, 350, stream=7, device=1),
    ]
    names = thread_names(shown(tmp_path, events))
    assert {place: name for place, name in names.items() if name.startswith("labels")} == {
        (0, 5): "labels over stream 6",
        (0, 4): "labels over stream 7",
        (0, 8): "labels over stream 0",
        (1, 6): "labels over stream 7",
    }


def test_labels_that_overlap_on_the_device_are_both_whole(tmp_path: Path) -> None:
    events = [
        label("layer.0", 0, 50),
        launch(1, 10, 20),
        label("layer.1", 50, 100),
        launch(2, 60, 70),
        kernel(1, 200, 300),
        kernel(2, 290, 400),
    ]
    found = shown(tmp_path, events)
    assert ranges(found, "labels over stream 7") == [("layer.0", 200, 300)]
    assert ranges(found, "labels over stream 7 (2)") == [("layer.1", 290, 400)]


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        pytest.param(
            [launch(1, 10, 20), kernel(1, 100, 200), launch(2, 50, 60), kernel(2, 200, 300)],
            [(10, 1), (50, 2), (200, 1), (300, 0)],
            id="from the call's start to the kernel's end",
        ),
        pytest.param(
            [launch(1, 10, 20), kernel(1, 100, 200), kernel(1, 200, 300)],
            [(10, 2), (200, 1), (300, 0)],
            id="a graph's launch queues all its kernels",
        ),
        pytest.param(
            [kernel(None, 100, 200)], [(100, 1), (200, 0)], id="no launch: from its own start"
        ),
        pytest.param(
            [launch(1, 10, 20), kernel(1, 20, 30), launch(2, 30, 40), kernel(2, 45, 50)],
            [(10, 1), (30, 1), (50, 0)],
            id="one ends as the next is launched",
        ),
    ],
)
def test_queue_depth(tmp_path: Path, events: list[str], wanted: list[tuple[int, int]]) -> None:
    assert queue(shown(tmp_path, [cpu_op("aten::mm", 0, 60), *events])) == wanted


def test_each_device_has_its_queue(tmp_path: Path) -> None:
    events = [launch(1, 10, 20), kernel(1, 30, 40), launch(2, 15, 25), kernel(2, 50, 60, device=1)]
    found = shown(tmp_path, events)
    assert queue(found, 0) == [(10, 1), (40, 0)]
    assert queue(found, 1) == [(15, 1), (60, 0)]


def test_a_cpu_trace_gets_no_tracks(tmp_path: Path) -> None:
    events = shown(tmp_path, [label("layer.0", 0, 50), cpu_op("aten::mm", 10, 20)])
    assert not [e for e in events if e["ph"] == "C" or "over stream" in str(e.get("args"))]


def test_times_of_two_sessions_lie_on_one_time_line(tmp_path: Path) -> None:
    paths = []
    for number, base in enumerate((1_790_000_000_000_000_000, 1_790_000_000_000_000_007)):
        events = [label("layer.0", 0, 50), launch(number + 1, 1, 2), kernel(number + 1, 100, 200)]
        data = document(*events, base_time_ns=base)
        paths.append(write(tmp_path / f"{number}.json", data))
    events = json.loads(normalised_trace(paths), parse_float=Decimal)["traceEvents"]
    assert ranges(events, "labels over stream 7") == [
        ("layer.0", 100, 200),
        ("layer.0", 107, 207),
    ]
    assert [time for time, _ in queue(events)] == [1, 200, 8, 207]


# --- device events that overlap -------------------------------------------------------------------


def arrow(ph: str, correlation: int, time_ns: int, pid: int, tid: int) -> str:
    head = {"ph": ph, "id": correlation, "pid": pid, "tid": tid, "cat": "ac2g", "name": "ac2g"}
    return json.dumps(head)[:-1] + f', "ts": {us(time_ns)}}}'


def test_overlapping_kernels_of_a_stream_lie_on_two_tracks(tmp_path: Path) -> None:
    events = [
        launch(1, 10, 20), launch(2, 30, 40),
        arrow("s", 2, 30, 100, 1), arrow("f", 2, 290, 0, 7),
        kernel(1, 200, 300), kernel(2, 290, 400), kernel(3, 400, 500),
    ]  # fmt: skip
    found = shown(tmp_path, events)
    assert [e["tid"] for e in found if e.get("cat") == "kernel"] == [7, 1_000_007, 7]
    assert thread_names(found)[0, 1_000_007] == "stream 7 (2)"
    # The arrow's head follows its kernel, its tail stays.
    assert [e["tid"] for e in found if e.get("cat") == "ac2g"] == [1, 1_000_007]


def test_kinetos_own_range_yields_to_a_kernel_that_it_cuts(tmp_path: Path) -> None:
    drawn = event("gpu_user_annotation", "layer.0", 0, 7, us(250), us(200))
    found = shown(tmp_path, [kernel(1, 200, 300), drawn, kernel(2, 300, 450)])
    on = {e["name"]: e["tid"] for e in found if e["ph"] == "X"}
    assert on == {"k1": 7, "layer.0": 1_000_007, "k2": 7}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20))))
def test_no_two_ranges_of_a_lane_cut_across_each_other(pairs: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in pairs]
    by_lane = defaultdict(list)
    for span, lane in zip(spans, lanes(spans), strict=True):
        by_lane[lane].append(span)
    assert sorted(by_lane) == list(range(len(by_lane)))
    for mine in by_lane.values():
        for i, (start, end) in enumerate(mine):
            for other_start, other_end in mine[:i]:
                apart = end <= other_start or other_end <= start
                inside = other_start <= start and end <= other_end
                around = start <= other_start and other_end <= end
                assert apart or inside or around


@given(st.lists(st.integers(0, 40), min_size=2, unique=True))
def test_ranges_that_nest_need_one_lane(times: list[int]) -> None:
    ordered = sorted(times)
    half = len(ordered) // 2
    nested = list(zip(ordered[:half], reversed(ordered[-half:]), strict=True))
    assert set(lanes(nested)) == {0}
