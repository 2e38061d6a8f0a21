"""Idle time of a device: whose turn it was, nanosecond by nanosecond, and sums that are exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.kineto import (
    cpu_op,
    document,
    host,
    kernel,
    label,
    launch,
    on_device,
    read,
    step,
    write,
)
from make.paths import DATA

from qwen3_profile.attribution.attribute import attribute, device_number, union_ns
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.idle import NO_FLOOR, IdleTimes, find_idle
from qwen3_profile.attribution.idle_stretches import longest_idle
from qwen3_profile.attribution.scopes import find_steps
from qwen3_profile.attribution.selection import is_asked_for
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.trace import Trace, read_compact, read_trace

CLASSES = tuple(name.removesuffix("_ns") for name in IdleTimes._fields)
SYNC = host("cuda_runtime", "cudaDeviceSynchronize", 40, 90)


def idle_of(*events: str) -> np.ndarray:
    trace = read(*events)
    steps = tuple(each for each in find_steps(trace) if "ProfilerStep" in "".join(events))
    found = attribute(trace, build_scopes(trace, select_labels(trace)), steps)
    starts = np.array([step.start_ns for step in found.steps], np.int64)
    floor = np.full(len(trace.device), NO_FLOOR)
    if len(starts):
        floor = np.where(found.device_step >= 0, starts[found.device_step], NO_FLOOR)
    return find_idle(trace, found.launch, found.in_graph, device_number(trace), floor)


def graph(correlation: int, start: int, end: int) -> str:
    return host("cuda_runtime", "cudaGraphLaunch", start, end, correlation=correlation)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            (launch(1, 0, 10), kernel(1, 10, 20), launch(2, 50, 60), kernel(2, 70, 80)),
            {"queued": 10, "launching": 10, "starved": 30},
            id="not asked, being asked, asked",
        ),
        pytest.param(
            (launch(1, 0, 10), kernel(1, 10, 20), SYNC, launch(2, 95, 99), kernel(2, 99, 100)),
            {"blocked": 50, "launching": 4, "starved": 25},
            id="the host waits for the device",
        ),
        pytest.param(
            (graph(1, 0, 10), kernel(1, 20, 30), kernel(1, 35, 40), kernel(1, 41, 50)),
            {"in_graph": 6},
            id="within a graph",
        ),
        pytest.param(
            (launch(1, 0, 10), kernel(1, 10, 20), kernel(None, 50, 60)),
            {"starved": 30},
            id="nobody knows who launched it",
        ),
        pytest.param(
            (launch(1, 0, 10), kernel(1, 10, 100), launch(2, 20, 30), kernel(2, 40, 60, stream=8)),
            {},
            id="another stream ran",
        ),
        pytest.param(
            (launch(1, 0, 10), kernel(1, 5, 20)), {}, id="it starts before its call returns"
        ),
        pytest.param(
            (step(0, 0, 100), launch(1, 10, 12), kernel(1, 30, 200), step(1, 100, 300),
             launch(2, 110, 112), kernel(2, 205, 210)),
            {"queued": 23, "launching": 2, "starved": 10},
            id="a kernel of the step before still runs",
        ),
        pytest.param(
            (step(0, 0, 50), launch(1, 10, 12), kernel(1, 12, 20), step(1, 100, 200),
             launch(2, 110, 112), kernel(2, 112, 120)),
            {"launching": 4, "starved": 20},
            id="time between steps is no step's",
        ),
    ],
)  # fmt: skip
def test_whose_turn_it_was(events: tuple[str, ...], expected: dict[str, int]) -> None:
    found = idle_of(*events)
    sums = dict(zip(CLASSES, found.sum(axis=0).tolist(), strict=True))
    assert {name: ns for name, ns in sums.items() if ns} == expected


def test_a_copy_to_memory_that_is_not_pinned_blocks() -> None:
    copy = host("cuda_runtime", "cudaMemcpyAsync", 20, 60, correlation=2)
    to_host = on_device("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 2, 30, 35, 7, 0)
    found = idle_of(launch(1, 0, 10), kernel(1, 10, 20), copy, to_host)
    assert dict(zip(CLASSES, found[1].tolist(), strict=True))["blocked"] == 10


@dataclass(frozen=True)
class Work:
    """One launch, and when its events ran: (device, stream, start, end) each."""

    called: tuple[int, int]
    is_graph: bool
    runs: tuple[tuple[int, int, int, int], ...]


times = st.integers(0, 60)
spans = st.tuples(times, st.integers(0, 20)).map(lambda pair: (pair[0], sum(pair)))
runs = st.tuples(st.integers(0, 1), st.integers(0, 1), spans).map(lambda x: (x[0], x[1], *x[2]))


@st.composite
def works(draw: st.DrawFn) -> Work:
    is_graph = draw(st.booleans())
    some = draw(st.lists(runs, min_size=1, max_size=3 if is_graph else 1))
    return Work(draw(spans), is_graph, tuple((some[0][0], *run[1:]) for run in some))


def document_of(work: list[Work], waits: list[tuple[int, int]], cuts: list[int]) -> list[str]:
    edges = sorted({0, *cuts, 200}) if cuts else []
    events = [step(number, *between) for number, between in enumerate(pairwise(edges))]
    for number, each in enumerate(work, 1):
        events.append((graph if each.is_graph else launch)(number, *each.called))
        events += [kernel(number, *run[2:], stream=run[1], device=run[0]) for run in each.runs]
    return [*events, *(host("cuda_runtime", "cudaStreamSynchronize", a, b) for a, b in waits)]


def by_the_nanosecond(trace: Trace, waits: list[tuple[int, int]]) -> Counter[str]:
    """The classes of idle time, outside of all steps, one nanosecond after the other."""
    found: Counter[str] = Counter()
    owner = attribute(trace, build_scopes(trace, select_labels(trace)), ())
    numbers = device_number(trace)
    for number in set(numbers.tolist()):
        mine = [i for i in range(len(numbers)) if numbers[i] == number]
        start, end = trace.device.start_ns, trace.device.end_ns
        for now in range(int(start[mine].min()), int(end[mine].max())):
            if any(start[i] <= now < end[i] for i in mine):
                continue
            found[_turn(trace, owner.launch, owner.in_graph, mine, now, waits)] += 1
    return found


def _turn(trace: Trace, launch, in_graph, mine, now, waits) -> str:  # type: ignore[no-untyped-def]
    start, end = trace.device.start_ns, trace.device.end_ns
    after = min((i for i in mine if start[i] > now), key=lambda i: (start[i], i))
    before = max((i for i in mine if end[i] <= now), key=lambda i: (end[i], -start[i], -i))
    if in_graph[after] and in_graph[before] and launch[after] == launch[before]:
        return "in_graph"
    calls = [(trace.launches.start_ns[launch[i]], trace.launches.end_ns[launch[i]], start[i])
             for i in mine]  # fmt: skip
    if any(returned <= now < started for _, returned, started in calls):
        return "queued"
    if any(a <= now < b for a, b in waits):
        return "blocked"
    return "launching" if any(a <= now < b for a, b, _ in calls) else "starved"


@given(st.lists(works(), min_size=1, max_size=5), st.lists(spans, max_size=2))
def test_each_nanosecond_is_of_the_class_that_plain_reading_gives_it(
    work: list[Work], waits: list[tuple[int, int]]
) -> None:
    trace = read(*document_of(work, waits, []))
    found = attribute(trace, build_scopes(trace, select_labels(trace)), ())
    floor = np.full(len(trace.device), NO_FLOOR)
    idle = find_idle(trace, found.launch, found.in_graph, device_number(trace), floor)
    sums = dict(zip(CLASSES, idle.sum(axis=0).tolist(), strict=True))
    assert sums == {name: by_the_nanosecond(trace, waits)[name] for name in CLASSES}


@given(
    st.lists(works(), min_size=1, max_size=6),
    st.lists(spans, max_size=2),
    st.lists(st.integers(1, 199), max_size=3),
)
def test_busy_and_idle_are_the_span(
    work: list[Work], waits: list[tuple[int, int]], cuts: list[int]
) -> None:
    idle = idle_of(*document_of(work, waits, cuts))
    trace = read(*document_of(work, waits, cuts))
    assert (idle >= 0).all()
    numbers, device = device_number(trace), trace.device
    for number in set(numbers.tolist()):
        mine = device.take(numbers == number)
        first = 0 if cuts else int(mine.start_ns.min())
        busy = union_ns(mine.start_ns, mine.end_ns)
        gap = int(idle[numbers == number].sum())
        assert busy + gap <= int(mine.end_ns.max()) - first
        if not cuts:
            assert busy + gap == int(mine.end_ns.max()) - first


def half(number: int, work: list[Work], waits: list[tuple[int, int]]) -> list[str]:
    """A step of its own, with all that it launched."""
    first = 100 * number
    events = [step(number, first, first + 90)]
    for at, each in enumerate(work, 1 + 10 * number):
        call = graph if each.is_graph else launch
        events.append(call(at, first + each.called[0], first + each.called[1]))
        events += [
            kernel(at, first + start, first + end, stream=stream, device=device)
            for device, stream, start, end in each.runs
        ]
    return [
        *events,
        *(host("cuda_runtime", "cudaStreamSynchronize", first + a, first + b) for a, b in waits),
    ]


some_work, some_waits = st.lists(works(), min_size=1, max_size=4), st.lists(spans, max_size=2)


@given(some_work, some_waits, some_work, some_waits)
def test_a_trace_split_into_two_files_at_a_step_has_the_same_idle_time(
    work: list[Work],
    waits: list[tuple[int, int]],
    other: list[Work],
    more: list[tuple[int, int]],
) -> None:
    one, two = half(0, work, waits), half(1, other, more)
    whole = idle_of(*one, *two).sum(axis=0)
    assert whole.tolist() == (idle_of(*one).sum(axis=0) + idle_of(*two).sum(axis=0)).tolist()


@pytest.mark.parametrize(
    ("case", "span_ns", "idle"),
    [
        # The first kernel runs until the second begins, long after the second step did.
        ("idle_over_steps", 1_110_000, {"launching": 2_000, "starved": 8_000}),
        # Launched by 14 us, taken up at 5010 us, while the host waits for it.
        (
            "idle_behind_queue",
            6_000_000,
            {"queued": 4_996_000, "launching": 2_000, "starved": 12_000},
        ),
    ],
    ids=str,
)
def test_idle_time_of_whole_traces(case: str, span_ns: int, idle: dict[str, int]) -> None:
    found = make_ledger(read_trace(DATA / "cases" / case / "trace.json"))
    classes = {name.removesuffix("_ns"): ns for name, ns in found.times.idle._asdict().items()}
    assert {name: ns for name, ns in classes.items() if ns} == idle
    assert found.span_ns == span_ns == found.times.busy_ns + sum(idle.values())
    (stretch,) = found.times.stretches
    assert (stretch.before, stretch.kernel, stretch.idle) == ("A", "k0", found.times.idle)


@pytest.mark.parametrize(
    ("events", "host_was_in"),
    [
        pytest.param([], "A", id="nothing but the label"),
        pytest.param([cpu_op("aten::sort", 20_000, 260_000)], "aten::sort", id="a long operator"),
        pytest.param(
            [cpu_op("aten::topk", 15_000, 280_000), cpu_op("aten::sort", 20_000, 260_000)],
            "aten::sort",
            id="the innermost of two",
        ),
        pytest.param([cpu_op("aten::sort", 20_000, 100_000)], "A", id="less than half of the time"),
        pytest.param([cpu_op("aten::sort", 20_000, 260_000, 2)], "A", id="on another thread"),
        pytest.param(
            [
                cpu_op("aten::item", 20_000, 280_000),
                host("cuda_runtime", "cudaStreamSynchronize", 22_000, 278_000),
            ],
            "cudaStreamSynchronize",
            id="the call that blocked in it",
        ),
    ],
)
@pytest.mark.parametrize("keeps_op", [None, is_asked_for], ids=["all operators", "long ones"])
def test_what_the_host_was_in(
    tmp_path: Path, events: list[str], host_was_in: str, keeps_op: Callable[[str], bool] | None
) -> None:
    work = (
        launch(1, 2_000, 4_000),
        kernel(1, 4_000, 10_000),
        launch(2, 290_000, 292_000),
        kernel(2, 300_000, 310_000),
    )
    path = write(tmp_path / "trace.json", document(label("A", 0, 320_000), *work, *events))
    trace = read_compact(path, keeps_op=keeps_op).trace()
    assert (
        longest_idle(attribute(trace, build_scopes(trace, select_labels(trace))))[0].host
        == host_was_in
    )
