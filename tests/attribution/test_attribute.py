"""Who owns a device event: each rule on a trace fit for paper, then the laws of the sums."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.kineto import (
    cpu_op,
    driver,
    kernel,
    label,
    launch,
    memcpy,
    memset,
    read,
    self_cpu_ns,
    split,
    step,
    with_children,
)

from qwen3_profile.attribution.attribute import Attribution, Reason, device_number, union_ns
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.labels import depth
from qwen3_profile.passes.pass_times import read_steps

ATTN = "layer.0.attn"
NO_LAUNCH, BEFORE, NO_LABEL = (reason.text for reason in Reason)


def owners(found: Attribution) -> dict[str, str]:
    """Each device event's name and its scope, or the reason why it has none."""
    scopes, trace = found.scopes, found.trace
    return {
        trace.names[event]: scopes.names[scopes.name[owner]] if owner >= 0 else Reason(owner).text
        for event, owner in zip(trace.device.name.tolist(), found.owner.tolist(), strict=True)
    }


def by_event(found: Attribution, values: np.ndarray) -> dict[str, int]:
    names = [found.trace.names[i] for i in found.trace.device.name.tolist()]
    return dict(zip(names, values.tolist(), strict=True))


def by_scope(found: Attribution, values: np.ndarray) -> dict[str, int]:
    """The sums of each scope name that are not 0."""
    sums: dict[str, int] = {}
    for name, value in zip(found.scopes.name.tolist(), values.tolist(), strict=True):
        sums[found.scopes.names[name]] = sums.get(found.scopes.names[name], 0) + value
    return {name: value for name, value in sums.items() if value}


# --- the owner ----------------------------------------------------------------------------------

PASS = [label("prefill", 10, 90), label(ATTN, 20, 50), cpu_op(f"{ATTN}.q_proj", 30, 40)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [*PASS, launch(1, 32, 35), kernel(1, 60, 70)],
            {"k1": f"{ATTN}.q_proj"},
            id="the innermost label at the launch, whenever it ran",
        ),
        pytest.param(
            [*PASS, launch(1, 25, 28), kernel(1, 30, 40)],
            {"k1": ATTN},
            id="what runs while another label is open is not that label's",
        ),
        pytest.param(
            [*PASS, launch(1, 39, 60), kernel(1, 60, 70)],
            {"k1": f"{ATTN}.q_proj"},
            id="the start of the launch decides, not its end",
        ),
        pytest.param(
            [*PASS, launch(1, 30, 31), launch(2, 40, 41), kernel(1, 60, 70), kernel(2, 70, 80)],
            {"k1": f"{ATTN}.q_proj", "k2": f"{ATTN}.split_heads"},
            id="a label is open at its start and no more at its end",
        ),
        pytest.param(
            [*PASS, launch(1, 85, 88), kernel(1, 200, 300)],
            {"k1": "prefill"},
            id="it may run after all labels have ended",
        ),
        pytest.param(
            [*PASS, launch(1, 32, 33), launch(2, 52, 53), launch(3, 12, 13),
             kernel(1, 60, 61), memcpy(2, 61, 62), memset(3, 62, 63)],
            {"k1": f"{ATTN}.q_proj", "copy2": "prefill", "set3": "prefill"},
            id="copies and fills count like kernels",
        ),
        pytest.param(
            [*PASS, launch(1, 32, 35), kernel(1, 60, 70, name="a"), kernel(1, 65, 80, name="b")],
            {"a": f"{ATTN}.q_proj", "b": f"{ATTN}.q_proj"},
            id="all nodes of a graph share their launch's id",
        ),
        pytest.param(
            [*PASS, driver(1, 33, 34), kernel(1, 60, 70)],
            {"k1": f"{ATTN}.q_proj"},
            id="a driver call launches like a runtime call",
        ),
        pytest.param(
            [label(ATTN, 20, 50), driver(1, 33, 34), launch(1, 15, 40), kernel(1, 60, 70)],
            {"k1": NO_LABEL},
            id="a driver call inside a runtime call: the outer one launched",
        ),
        pytest.param(
            [*PASS, launch(1, 32, 35), launch(2, 5, 6), kernel(2, 50, 51), kernel(1, 60, 70)],
            {"k1": f"{ATTN}.q_proj", "k2": NO_LABEL},
            id="launched before any label",
        ),
    ],
)  # fmt: skip
def test_a_device_event_belongs_to_the_label_of_its_launch(
    events: list[str], expected: dict[str, str]
) -> None:
    found = split(*events)
    assert owners(found) == expected
    assert not found.cross_thread.any()


@pytest.mark.parametrize(
    ("events", "owner", "crossed"),
    [
        pytest.param(
            [*PASS, launch(1, 32, 35, thread=2)], f"{ATTN}.q_proj", True,
            id="one thread has labels: it goes there",
        ),
        pytest.param(
            [*PASS, launch(1, 5, 6, thread=2)], NO_LABEL, False,
            id="one thread has labels, but none is open then",
        ),
        pytest.param(
            [*PASS, label("norm", 32, 60, thread=3), launch(1, 32, 35, thread=2)], NO_LABEL, False,
            id="two threads have a label open: nobody can tell",
        ),
        pytest.param(
            [*PASS, label("norm", 95, 99, thread=3), launch(1, 32, 35, thread=2)],
            f"{ATTN}.q_proj", True, id="two threads have labels, one of them one that is open",
        ),
        pytest.param(
            [*PASS, label("norm", 110, 120, thread=2), launch(1, 32, 35, thread=2)],
            f"{ATTN}.q_proj", True, id="its own thread has a label, but none that is open",
        ),
        pytest.param(
            [*PASS, label("norm", 95, 99, thread=3), launch(1, 32, 35)], f"{ATTN}.q_proj", False,
            id="two threads have labels: the launching one's counts",
        ),
        pytest.param(
            [*PASS, label("norm", 32, 60, thread=3), launch(1, 32, 35, thread=3)], "norm", False,
            id="two threads have a label open: the launching one's counts",
        ),
        pytest.param(
            [cpu_op("aten::mm", 0, 90), launch(1, 32, 35)], NO_LABEL, False, id="no labels at all"
        ),
    ],
)  # fmt: skip
def test_launches_of_other_threads(events: list[str], owner: str, crossed: bool) -> None:
    found = split(*events, kernel(1, 60, 70))
    assert owners(found) == {"k1": owner}
    assert found.cross_thread.tolist() == [crossed]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(kernel(99, 60, 70), NO_LAUNCH, id="its record was lost"),
        pytest.param(kernel(3, 60, 70), BEFORE, id="an id below all launches"),
        pytest.param(kernel(99, 11, 15), BEFORE, id="ran before the first launch"),
        pytest.param(kernel(None, 60, 70, name="k"), NO_LAUNCH, id="no id"),
        pytest.param(kernel(None, 11, 15, name="k"), BEFORE, id="no id, before the first launch"),
    ],
)
def test_an_event_without_launch_keeps_its_reason(event: str, expected: str) -> None:
    found = split(*PASS, launch(5, 12, 13), kernel(5, 50, 51), event)
    unlinked = {name: owner for name, owner in owners(found).items() if name != "k5"}
    assert list(unlinked.values()) == [expected]


def test_without_any_launch_record_nothing_is_before_the_window() -> None:
    assert owners(split(*PASS, kernel(3, 5, 6))) == {"k3": NO_LAUNCH}


def test_launches_without_an_id_link_nothing() -> None:
    nameless = cpu_op("x", 12, 13).replace("cpu_op", "cuda_runtime")
    assert owners(split(*PASS, nameless, kernel(None, 60, 70, name="k"))) == {"k": NO_LAUNCH}


# --- the sums -----------------------------------------------------------------------------------


def test_self_and_total_of_each_scope() -> None:
    found = split(
        label("prefill", 0, 100),
        label(ATTN, 10, 60),
        cpu_op(f"{ATTN}.o_proj", 20, 50),
        launch(1, 5, 6), kernel(1, 100, 101),
        launch(2, 15, 16), kernel(2, 110, 112),
        launch(3, 25, 26), kernel(3, 120, 124),
        launch(4, 30, 31), memcpy(4, 130, 138),
    )  # fmt: skip
    q = f"{ATTN}.o_proj"
    assert by_scope(found, found.sum_of("device_ns")) == {"prefill": 1, ATTN: 2, q: 12}
    assert by_scope(found, with_children(found.scopes, found.sum_of("device_ns"))) == {
        "prefill": 15, ATTN: 14, q: 12,
    }  # fmt: skip
    assert by_scope(found, found.sum_of("device_events")) == {"prefill": 1, ATTN: 1, q: 2}
    assert by_scope(found, self_cpu_ns(found.scopes)) == {"prefill": 50, ATTN: 20, q: 30}


def test_sums_are_exact_where_float64_is_not() -> None:
    big = 2**53
    found = split(
        label("prefill", 0, 10), launch(1, 1, 2), launch(2, 3, 4),
        kernel(1, 0, big), kernel(2, 0, 1),
    )  # fmt: skip
    assert by_scope(found, found.sum_of("device_ns")) == {"prefill": big + 1}


def test_queue_delay_is_from_the_end_of_the_launch_to_the_start_of_the_event() -> None:
    found = split(
        label("prefill", 0, 90),
        launch(1, 10, 20), kernel(1, 50, 60),
        launch(2, 30, 40), kernel(2, 35, 45),
        kernel(9, 80, 90),
    )  # fmt: skip
    assert by_event(found, found.queue_ns) == {"k1": 30, "k2": 0, "k9": 0}
    assert by_scope(found, found.sum_of("queue_ns")) == {"prefill": 30}


@pytest.mark.parametrize(
    ("launches", "expected"),
    [
        pytest.param([launch(1, 22, 25), launch(2, 30, 37)], {ATTN: 10}, id="two calls"),
        pytest.param([launch(1, 22, 30), driver(1, 24, 28)], {ATTN: 8}, id="a call inside a call"),
        pytest.param(
            [driver(1, 22, 28), launch(1, 22, 30)], {ATTN: 8}, id="which begins at the same moment"
        ),
        pytest.param(
            [launch(1, 22, 40), driver(1, 24, 28), driver(2, 30, 34)], {ATTN: 18}, id="two inside"
        ),
        pytest.param([launch(1, 15, 25)], {"prefill": 10}, id="it counts where it begins"),
        pytest.param([launch(1, 22, 25, thread=2)], {}, id="on a thread without labels"),
        pytest.param(
            [launch(1, 22, 30), launch(2, 30, 34)], {ATTN: 12}, id="one begins as the other ends"
        ),
    ],
)
def test_launch_time_counts_once(launches: list[str], expected: dict[str, int]) -> None:
    found = split(label("prefill", 10, 90), label(ATTN, 20, 50), *launches)
    assert by_scope(found, found.sum_of("launch_ns")) == expected


# --- steps, gaps and the busy time --------------------------------------------------------------


def test_a_device_event_is_of_the_step_that_launched_it() -> None:
    found = split(
        step(4, 0, 100), label("prefill", 0, 90), launch(1, 80, 85), kernel(1, 140, 160),
        step(5, 100, 200), label("prefill", 100, 190), launch(2, 110, 120), kernel(2, 160, 165),
        kernel(99, 150, 155), kernel(98, 300, 310),
    )  # fmt: skip
    assert [s.number for s in found.steps] == [4, 5]
    assert by_event(found, found.device_step) == {"k1": 0, "k2": 1, "k99": 1, "k98": -1}
    assert found.scope_step.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [kernel(1, 130, 140), kernel(2, 150, 160)], {"k1": 30, "k2": 10},
            id="from the start of the step, then from the end of the last one",
        ),
        pytest.param(
            [kernel(1, 130, 140), kernel(2, 140, 150)], {"k1": 30, "k2": 0}, id="back to back"
        ),
        pytest.param(
            [kernel(1, 130, 180), kernel(2, 140, 150), kernel(3, 190, 195)],
            {"k1": 30, "k2": 0, "k3": 10},
            id="one that ends early inside another leaves no gap",
        ),
        pytest.param(
            [kernel(1, 130, 150, stream=7), kernel(2, 140, 160, stream=8), kernel(3, 170, 175)],
            {"k1": 30, "k2": 0, "k3": 10},
            id="streams of one device are one device",
        ),
        pytest.param(
            [kernel(1, 130, 150, device=0), kernel(2, 160, 170, device=1)],
            {"k1": 30, "k2": 60},
            id="two devices wait each for itself",
        ),
    ],
)  # fmt: skip
def test_gaps_are_charged_to_what_ended_them(events: list[str], expected: dict[str, int]) -> None:
    found = split(
        step(0, 100, 200), label("prefill", 100, 190),
        launch(1, 101, 102), launch(2, 103, 104), launch(3, 105, 106), *events,
    )  # fmt: skip
    assert by_event(found, found.gap_ns) == expected
    assert by_scope(found, found.sum_of("gap_ns")) == {"prefill": sum(expected.values())}


def test_gaps_of_a_step_begin_with_it() -> None:
    found = split(
        step(0, 0, 100), label("prefill", 0, 90), launch(1, 10, 20), kernel(1, 30, 40),
        step(1, 100, 200), label("prefill", 100, 190), launch(2, 110, 120), kernel(2, 130, 140),
    )  # fmt: skip
    assert by_event(found, found.gap_ns) == {"k1": 30, "k2": 30}


def test_devices_are_numbered() -> None:
    trace = read(kernel(1, 0, 1, device=3), kernel(2, 0, 1, stream=9, device=3), kernel(3, 0, 1))
    assert device_number(trace).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([(5, 9)], 4, id="one"),
        pytest.param([(5, 9), (20, 21)], 5, id="apart"),
        pytest.param([(20, 30), (5, 9), (8, 12)], 17, id="overlapping, in any order"),
        pytest.param([(5, 50), (10, 20), (40, 60)], 55, id="one inside another"),
        pytest.param([(5, 9), (9, 12), (9, 9)], 7, id="touching, and of no length"),
    ],
)
def test_union(intervals: list[tuple[int, int]], expected: int) -> None:
    table = np.array(intervals, np.int64).reshape(-1, 2)
    assert union_ns(table[:, 0], table[:, 1]) == expected


def test_busy_is_the_union_over_streams_and_devices_of_one_step() -> None:
    found = split(
        step(0, 0, 100), label("prefill", 0, 90),
        launch(1, 1, 2), kernel(1, 10, 20), launch(2, 3, 4), kernel(2, 15, 30, stream=8),
        launch(3, 5, 6), kernel(3, 25, 35, device=1),
        step(1, 100, 200), label("prefill", 100, 190), launch(4, 101, 102), kernel(4, 110, 111),
    )  # fmt: skip
    assert [each.busy_ns for each in read_steps(found)] == [25, 1]


def test_a_trace_of_the_cpu_alone() -> None:
    found = split(label("prefill", 0, 90), cpu_op("norm", 10, 20))
    assert self_cpu_ns(found.scopes).tolist() == [80, 10]
    assert found.sum_of("device_ns").tolist() == [0, 0]


def test_an_empty_trace() -> None:
    found = split()
    assert (found.steps, len(found.owner), len(found.scopes)) == ((), 0, 0)


# --- laws, over random traces -------------------------------------------------------------------

END = 400
NAMES = (
    "embed_tokens", "norm", "lm_head", "layer.0", "layer.1", ATTN, "layer.0.ffn",
    f"{ATTN}.q_proj", f"{ATTN}.attn_forward", f"{ATTN}.o_proj",
    "layer.0.ffn.up_proj", "layer.0.ffn.down_proj",
)  # fmt: skip


@dataclass(frozen=True)
class Range:
    thread: int
    name: str
    start: int
    end: int


@st.composite
def nested(draw: st.DrawFn, thread: int, start: int, end: int, levels: int) -> list[Range]:
    """Labels that contain one another or lie apart; also touching, equal, and of no length."""
    cuts = sorted(draw(st.lists(st.integers(start, end), max_size=6)))
    found: list[Range] = []
    for a, b in zip(cuts[::2], cuts[1::2], strict=False):
        found.append(Range(thread, draw(st.sampled_from(NAMES)), a, b))
        if levels > 1:
            found += draw(nested(thread, a, b, levels - 1))
    return found


@st.composite
def device_work(draw: st.DrawFn) -> list[str]:
    """Launches of no, one or several device events on any stream; some records are lost."""
    events = []
    for number in range(draw(st.integers(0, 12))):
        correlation = 10 * (number + 1)
        thread, start = draw(st.integers(1, 3)), draw(st.integers(0, END))
        end = start + draw(st.integers(0, 20))
        if draw(st.integers(0, 4)):
            events.append(launch(correlation, start, end, thread))
            if draw(st.booleans()) and end - start > 2:
                events.append(driver(correlation, start + 1, end - 1, thread))
        for node in range(draw(st.integers(0, 3))):
            begin = draw(st.integers(0, 2 * END))
            stop = begin + draw(st.integers(0, 60))
            stream, device = draw(st.integers(7, 8)), draw(st.integers(0, 1))
            name = f"k{correlation}.{node}"
            events.append(kernel(correlation, begin, stop, stream, device, name))
    return events


@st.composite
def traces(draw: st.DrawFn) -> list[str]:
    threads = draw(st.integers(0, 2))
    ranges = [r for t in range(1, threads + 1) for r in draw(nested(t, 0, END, 3))]
    steps = draw(st.sampled_from([[], [step(0, 0, END // 2), step(1, END // 2, END)]]))
    return [
        *steps,
        *(label(r.name, r.start, r.end, r.thread) for r in ranges),
        *draw(device_work()),
    ]


@given(traces())
@settings(max_examples=60)
def test_the_ledger_balances(events: list[str]) -> None:
    found = split(*events)
    dur_ns = found.trace.device.dur_ns
    spare = sum(int(dur_ns[found.owner == reason].sum()) for reason in Reason)
    assert int(found.sum_of("device_ns").sum()) + spare == int(dur_ns.sum())
    roots = found.scopes.parent == NO_SCOPE
    total = with_children(found.scopes, found.sum_of("device_ns"))
    assert int(total[roots].sum()) + spare == int(dur_ns.sum())
    assert int(found.sum_of("device_events").sum()) == int((found.owner >= 0).sum())


@given(traces())
@settings(max_examples=50)
def test_no_time_is_negative_and_no_part_is_more_than_the_whole(events: list[str]) -> None:
    found = split(*events)
    for own in (self_cpu_ns(found.scopes), *found.sums.T):
        assert (own >= 0).all()
        total = with_children(found.scopes, own)
        below = np.zeros(len(own), np.int64)
        inner = found.scopes.parent != NO_SCOPE
        np.add.at(below, found.scopes.parent[inner], total[inner])
        assert (total == own + below).all()
    wall_ns = with_children(found.scopes, self_cpu_ns(found.scopes))
    assert (wall_ns == found.scopes.end_ns - found.scopes.start_ns).all()
    busy = union_ns(found.trace.device.start_ns, found.trace.device.end_ns)
    assert busy <= int(found.trace.device.dur_ns.sum())


@given(traces(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_the_file_does_not_matter(events: list[str], chance: random.Random) -> None:
    shuffled = list(events)
    chance.shuffle(shuffled)
    first, second = split(*events), split(*shuffled)
    assert owners(first) == owners(second)
    assert by_event(first, first.cross_thread) == by_event(second, second.cross_thread)
    for name in ("device_ns", "launch_ns", "queue_ns"):
        assert by_scope(first, first.sum_of(name)) == by_scope(second, second.sum_of(name))
    own_cpu = [by_scope(each, self_cpu_ns(each.scopes)) for each in (first, second)]
    assert own_cpu[0] == own_cpu[1]
    assert int(first.gap_ns.sum()) == int(second.gap_ns.sum())


def innermost_by_looking(ranges: list[Range], thread: int, time_ns: int) -> str:
    """The shortest range of the thread that is open; of equal ones, the deeper in the grammar."""
    open_now = [r for r in ranges if r.thread == thread and r.start <= time_ns < r.end]
    if not open_now:
        return ""
    return min(open_now, key=lambda r: (r.end - r.start, -depth(r.name), _last(r.name))).name


def _last(text: str) -> tuple[int, ...]:
    """Sorts texts backwards."""
    return (*(-ord(c) for c in text), 0)


def tree_of(ranges: list[Range], *, name_gaps: bool) -> tuple[dict[str, int], ScopeTree]:
    # a label of an unrelated thread, so that every thread asked about has its track
    events = [label(r.name, r.start, r.end, r.thread) for r in ranges]
    trace = read(*events, cpu_op("x", 0, 1, 1), cpu_op("x", 0, 1, 2))
    tids = {track.tid: number for number, track in enumerate(trace.tracks)}
    return tids, build_scopes(trace, select_labels(trace), name_gaps=name_gaps)


@given(st.tuples(nested(1, 0, 60, 4), nested(2, 0, 60, 2)))
@settings(max_examples=60)
def test_innermost_agrees_with_looking_at_every_label(pair: tuple[list[Range], ...]) -> None:
    ranges = [r for part in pair for r in part]
    tids, tree = tree_of(ranges, name_gaps=False)
    for thread in (1, 2):
        times = np.arange(-1, 62, dtype=np.int64)
        found = tree.innermost(np.full(len(times), tids[str(thread)], np.int32), times)
        got = ["" if i == NO_SCOPE else tree.names[tree.name[i]] for i in found.tolist()]
        assert got == [innermost_by_looking(ranges, thread, t) for t in times.tolist()]


@given(nested(1, 0, 60, 4))
@settings(max_examples=50)
def test_gaps_take_only_what_was_their_containers_own(ranges: list[Range]) -> None:
    tids, plain = tree_of(ranges, name_gaps=False)
    _, named = tree_of(ranges, name_gaps=True)
    times = np.arange(-1, 62, dtype=np.int64)
    track = np.full(len(times), tids["1"], np.int32)
    for before, after in zip(
        plain.innermost(track, times).tolist(), named.innermost(track, times).tolist(), strict=True
    ):
        if after != NO_SCOPE and named.is_gap[after]:
            after = int(named.parent[after])
        outer = "" if before == NO_SCOPE else plain.names[plain.name[before]]
        assert outer == ("" if after == NO_SCOPE else named.names[named.name[after]])
