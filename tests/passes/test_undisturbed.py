"""Times of less disturbed passes in place of the traced one's: where they lie, and where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.kineto import cpu_op, document, host, kernel, label, launch, read, step, write

from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import backward_of
from qwen3_profile.passes.labelled import read_labels
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.passes.reading import Reading
from qwen3_profile.passes.undisturbed import (
    CLOCK_REFUSED,
    DEVICE_REFUSED,
    DeviceTrace,
    Undisturbed,
)
from qwen3_profile.run_folder.clocked import ClockedLabels

HERE = Path("traced.json")
# (label, its begin and end in the traced pass, and in the clock pass since its first label).
LABELS = [
    ("prefill", 100, 1000, 0, 500),
    ("embed_tokens", 110, 200, 5, 45),
    ("rotary_emb", 220, 260, 60, 80),
    ("layer.0", 300, 900, 90, 440),
    ("layer.0.attn", 310, 600, 95, 250),
    ("layer.0.attn.q_proj", 320, 400, 100, 130),
    ("layer.0.attn.k_proj", 410, 450, 140, 170),
    ("layer.0.attn.o_proj", 500, 580, 190, 240),
    ("layer.0.post_attention_layernorm", 640, 700, 280, 300),
    ("layer.0.ffn", 710, 860, 305, 420),
    ("layer.0.ffn.up_proj", 720, 770, 310, 330),
    ("layer.0.ffn.down_proj", 790, 850, 360, 410),
    ("norm", 905, 930, 445, 455),
    ("lm_head", 950, 990, 470, 495),
]
# From the end of the label before each to the next one, or to the end of what it lies in.
GAPS = {
    "positions": 60 - 45,
    "layer.0.attn.split_heads": (140 - 130) + (190 - 170),
    "layer.0.residual_attn": 280 - 250,
    "layer.0.ffn.act_mul": 360 - 330,
    "layer.0.residual_ffn": 440 - 420,
    "select_last": 470 - 455,
}
WORK = [
    *(launch(1, 120, 125), kernel(1, 300, 350)),
    *(launch(2, 330, 335), kernel(2, 400, 480)),
    *(launch(3, 960, 965), kernel(3, 1000, 1050)),
]
TRACED = [step(0, 90, 1100), *(label(name, a, b) for name, a, b, *_ in LABELS), *WORK]


def clock_of(rows: Sequence[tuple[str, int, int]]) -> ClockedLabels:
    names = tuple(dict.fromkeys(name for name, _, _ in rows))
    return ClockedLabels(
        names,
        [names.index(name) for name, _, _ in rows],
        [start for _, start, _ in rows],
        [end - start for _, start, end in rows],
    )


CLOCK = clock_of([(name, start, end) for name, _, _, start, end in LABELS])


def read_beside(
    *events: str,
    phase: str = "prefill",
    clock: ClockedLabels | None = None,
    device: DeviceTrace | None = None,
) -> Reading:
    return read_labels(HERE, read(*events), beside=Undisturbed(phase, clock, device))


def one(reading: Reading) -> PassTimes:
    (found,) = reading.passes
    assert found.balances
    return found


def cpu_of(times: PassTimes) -> dict[str, int]:
    return {part.name: part.total.cpu_ns for part in times.forward.each()}


def assert_sums(part: Part) -> None:
    """Each part is its own time and that of its parts, to the nanosecond."""
    for each in part.each():
        inside = sum(below.total.cpu_ns for below in each.parts)
        assert each.total.cpu_ns == each.own.cpu_ns + inside, each.name


# --- the host's clock ---------------------------------------------------------------------------


def test_parts_and_gaps_take_what_the_clock_read() -> None:
    times = one(read_beside(*TRACED, clock=CLOCK))
    assert (times.has_clock, times.has_device) == (True, False)
    clocked = {name: end - start for name, _, _, start, end in LABELS}
    assert cpu_of(times) == clocked | GAPS
    assert_sums(times.forward)


def test_the_device_keeps_its_times() -> None:
    plain = read_labels(HERE, read(*TRACED))
    reading = read_beside(*TRACED, clock=CLOCK)
    before, after = one(plain), one(reading)
    assert after.device_ns == before.device_ns == 180
    assert (after.busy_ns, after.idle) == (before.busy_ns, before.idle)
    device_ns = {part.name: part.total.device_ns for part in before.forward.each()}
    assert {part.name: part.total.device_ns for part in after.forward.each()} == device_ns
    assert reading.traced is not None
    assert plain.attribution is not None
    assert (reading.traced.scopes.start_ns == plain.attribution.scopes.start_ns).all()


@pytest.mark.parametrize("factor", [3, 1], ids=["a longer pass", "one of the same length"])
def test_a_clock_pass_may_be_longer_than_the_traced_one(factor: int) -> None:
    scaled = replace(
        CLOCK,
        start_ns=[factor * ns for ns in CLOCK.start_ns],
        dur_ns=[factor * ns for ns in CLOCK.dur_ns],
    )
    times = one(read_beside(*TRACED, clock=scaled))
    clocked = {name: end - start for name, _, _, start, end in LABELS} | GAPS
    assert cpu_of(times) == {name: factor * ns for name, ns in clocked.items()}
    assert times.number == 0


BACKWARD = [
    step(0, 0, 1000),
    label("train_step", 0, 1000),
    cpu_op("lm_head", 100, 200),
    host("cpu_op", "aten::mm", 110, 190, **{"Sequence number": 3, "Fwd thread id": 0}),
    label("backward", 500, 900),
    host(
        "cpu_op", "autograd::engine::evaluate_function: MmBackward0", 600, 800, 2,
        **{"Sequence number": 3, "Fwd thread id": 1},
    ),
    launch(1, 650, 660, 2),
    kernel(1, 700, 770),
]  # fmt: skip


def test_what_ran_in_the_backward_is_as_much_shorter_as_all_of_it() -> None:
    rows = [("train_step", 0, 600), ("lm_head", 50, 70), ("backward", 400, 500)]
    times = one(read_beside(*BACKWARD, phase="train_step", clock=clock_of(rows)))
    part = backward_of(times.forward)
    assert part is not None
    assert part.total.cpu_ns == 100
    # The node took 200 of 400 ns.
    assert {each.name: each.total.cpu_ns for each in part.parts} == {"lm_head": 50}
    assert part.own.cpu_ns == 50
    assert times.forward.total.cpu_ns == 600
    assert_sums(times.forward)


def test_nothing_is_rounded_off_between_a_layer_and_its_parts_in_the_backward() -> None:
    events = [step(0, 0, 1000), label("train_step", 0, 1000), label("layer.0", 5, 300),
              label("layer.0.attn", 10, 290)]  # fmt: skip
    parts = ("q_proj", "k_proj", "v_proj", "o_proj")
    for number, part in enumerate(parts):
        ids = {"Sequence number": number, "Fwd thread id": 0}
        at = 20 + 50 * number
        events += [cpu_op(f"layer.0.attn.{part}", at, at + 20),
                   host("cpu_op", "aten::mm", at + 5, at + 15, **ids)]  # fmt: skip
        name = "autograd::engine::evaluate_function: MmBackward0"
        at = 810 - 100 * number
        events.append(host("cpu_op", name, at, at + 35, 2, **(ids | {"Fwd thread id": 1})))
    events.append(label("backward", 500, 900))
    rows = [("train_step", 0, 900), ("layer.0", 5, 100), ("layer.0.attn", 7, 99),
            *((f"layer.0.attn.{part}", at, at + 9)
              for at, part in zip((10, 30, 50, 70), parts, strict=True)),
            ("backward", 500, 631)]  # fmt: skip
    times = one(read_beside(*events, phase="train_step", clock=clock_of(rows)))
    part = backward_of(times.forward)
    assert part is not None
    # 35 of 400 ns are 11.46 of 131; what is cut off stays in the backward itself.
    layer = part.find("layer.0")
    assert layer is not None
    assert (part.total.cpu_ns, part.own.cpu_ns) == (131, 131 - 44)
    assert (layer.total.cpu_ns, layer.own.cpu_ns) == (44, 0)
    (attn,) = layer.parts
    assert (attn.total.cpu_ns, attn.own.cpu_ns) == (44, 0)
    assert {each.name: each.total.cpu_ns for each in attn.parts} == {
        f"layer.0.attn.{name}": 11 for name in ("o_proj", "v_proj", "k_proj", "q_proj")
    }


def test_a_collective_is_no_neighbour_of_a_gap() -> None:
    """It is a part of the layer behind all others, and takes none of the host's time."""
    nccl = [launch(9, 870, 875), kernel(9, 880, 890, name="ncclDevKernel_AllReduce")]
    times = one(read_beside(*TRACED, *nccl, clock=CLOCK))
    found = cpu_of(times)
    assert found["layer.0.residual_ffn"] == GAPS["layer.0.residual_ffn"]
    layer = [launch(9, 305, 306), kernel(9, 880, 890, name="ncclDevKernel_AllReduce")]
    times = one(read_beside(*TRACED, *layer, clock=CLOCK))
    found = cpu_of(times)
    assert found.pop("layer.0.nccl") == 0
    clocked = {name: end - start for name, _, _, start, end in LABELS}
    assert found == clocked | GAPS
    assert_sums(times.forward)


def without(*places: int) -> list[tuple[str, int, int]]:
    return [(n, a, b) for i, (n, _, _, a, b) in enumerate(LABELS) if i not in places]


def renamed(place: int, name: str) -> list[tuple[str, int, int]]:
    rows = without()
    rows[place] = (name, *rows[place][1:])
    return rows


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        pytest.param(
            without(2), "label 2 is layer.0 in the clock pass and rotary_emb in the traced pass",
            id="one is missing",
        ),
        pytest.param(
            renamed(13, "sample"),
            "label 13 is sample in the clock pass and lm_head in the traced pass",
            id="another name",
        ),
        pytest.param(
            without(13), "the clock pass has 13 labels and the traced pass 14", id="the last one",
        ),
        pytest.param(
            [*without(), ("sample", 496, 499)],
            "the clock pass has 15 labels and the traced pass 14", id="one more",
        ),
        pytest.param([], "the clock pass has 0 labels and the traced pass 14", id="none at all"),
    ],
)  # fmt: skip
def test_labels_that_differ_leave_the_traced_times(
    rows: list[tuple[str, int, int]], told: str
) -> None:
    reading = read_beside(*TRACED, clock=clock_of(rows))
    times = one(reading)
    assert not times.has_clock
    assert cpu_of(times) == cpu_of(one(read_labels(HERE, read(*TRACED))))
    (finding,) = (each for each in reading.findings if each.code == CLOCK_REFUSED)
    assert finding.message.endswith(f"under the profiler: {told}")


def test_a_pass_that_is_not_the_only_one_keeps_its_times() -> None:
    twice = [step(0, 0, 50), label("prefill", 10, 40), step(1, 60, 99), label("prefill", 70, 90)]
    reading = read_beside(*twice, clock=clock_of([("prefill", 0, 5)]))
    assert [each.has_clock for each in reading.passes] == [False, False]
    assert [each.forward.total.cpu_ns for each in reading.passes] == [30, 20]


Tree = tuple[str, int, int, int, list["Tree"]]
spans = st.integers(1, 50)
names = st.sampled_from(
    ["layer.0", "layer.1", "layer.0.attn", "layer.0.ffn", "layer.0.attn.q_proj", "norm",
     "layer.0.ffn.up_proj", "layer.0.ffn.down_proj", "layer.0.post_attention_layernorm", "lm_head"]
)  # fmt: skip
trees = st.recursive(
    st.tuples(names, spans, spans, spans, st.just([])),
    lambda inside: st.tuples(names, spans, spans, spans, st.lists(inside, max_size=4)),
    max_leaves=12,
)


def laid(tree: Tree, begin: int, which: int) -> tuple[list[tuple[str, int, int]], int]:
    """(label, begin, end) of a tree in order of the begins, and the end of it.

    which: which of the tree's lengths stands before, between and behind what lies in it.
    """
    name, inside = tree[0], tree[4]
    pause = tree[which]
    rows, at = [], begin + pause
    for each in inside:
        more, at = laid(each, at, which)
        rows += more
        at += pause
    return [(name, begin, at), *rows], at


@settings(max_examples=30)
@given(st.lists(trees, max_size=4))
def test_every_label_is_as_long_as_the_clock_says_and_every_sum_is_exact(
    inside: list[Tree],
) -> None:
    whole: Tree = ("prefill", 7, 3, 1, inside)
    traced, _ = laid(whole, 0, 1)
    clocked, length = laid(whole, 0, 2)
    reading = read_beside(*(label(*row) for row in traced), clock=clock_of(clocked))
    times = one(reading)
    assert times.has_clock
    assert times.forward.total.cpu_ns == length
    assert_sums(times.forward)
    found = reading.attribution
    assert found is not None
    scopes = found.scopes
    lie = [
        (scopes.names[name], start, end)
        for name, start, end, is_gap in zip(
            scopes.name.tolist(), scopes.start_ns.tolist(), scopes.end_ns.tolist(),
            scopes.is_gap.tolist(), strict=True,
        )
        if not is_gap
    ]  # fmt: skip
    assert lie == clocked
    for scope in np.flatnonzero(scopes.is_gap).tolist():
        inside_of = scopes.parent == scopes.parent[scope]
        ends = {*scopes.end_ns[inside_of & ~scopes.is_gap].tolist()}
        starts = {*scopes.start_ns[inside_of & ~scopes.is_gap].tolist()}
        assert int(scopes.start_ns[scope]) in ends
        last = int(scopes.end_ns[scopes.parent[scope]])
        assert int(scopes.end_ns[scope]) in starts | {last}


# --- the device alone ---------------------------------------------------------------------------

BASE = 1_000_000
# The pass began 5000 ns into the trace.
STARTED, WALL = BASE + 5000, 2000
RUNS = [("k1", 5210, 5240), ("k2", 5240, 5300), ("k3", 5400, 5420)]


def device_pass(folder: Path, *events: str) -> DeviceTrace:
    path = write(folder / "device.json", document(*events, base_time_ns=BASE))
    return DeviceTrace(path, STARTED, WALL)


def kernels(runs: Sequence[tuple[str, int, int]] = tuple(RUNS), stream: int = 7) -> list[str]:
    return [
        kernel(50 + at, start, end, stream, name=name) for at, (name, start, end) in enumerate(runs)
    ]


def test_the_device_takes_the_times_of_the_device_pass(tmp_path: Path) -> None:
    reading = read_beside(*TRACED, device=device_pass(tmp_path, *kernels()))
    times = one(reading)
    assert (times.has_clock, times.has_device) == (False, True)
    assert reading.findings == ()
    assert (times.device_ns, times.busy_ns, times.device_events) == (110, 110, 3)
    # From the begin of the pass to the first event, and from the second to the third; the kernel
    # in between waited for nothing.
    assert times.idle.ns == 210 + 100
    by_part = {part.name: part.total for part in times.forward.each()}
    assert by_part["embed_tokens"].device_ns == 30
    assert by_part["layer.0.attn.q_proj"].device_ns == 60
    assert by_part["lm_head"].device_ns == 20
    assert by_part["lm_head"].gap_ns == 100
    assert cpu_of(times) == cpu_of(one(read_labels(HERE, read(*TRACED))))
    found = reading.attribution
    assert found is not None
    assert (found.gap_ns + found.trace.device.dur_ns).sum() == 420
    assert (found.idle >= 0).all()


def test_idle_time_has_the_classes_that_it_had_in_the_traced_pass(tmp_path: Path) -> None:
    """Before k3 the traced pass waited for 480..1000: asked for from 965 on, being asked from 960;
    not at all before k2, which is queued time then."""
    runs = [("k1", 5000, 5050), ("k2", 5060, 5100), ("k3", 5152, 5200)]
    times = one(read_beside(*TRACED, device=device_pass(tmp_path, *kernels(runs))))
    by_part = {part.name: part.total for part in times.forward.each()}
    lm_head = by_part["lm_head"]
    # A tenth of 520 ns: 35 were queued, 5 launching, 480 starved, but for what is rounded off.
    assert lm_head.gap_ns == 52
    assert (lm_head.queued_ns, lm_head.launching_ns + lm_head.starved_ns) == (4, 48)
    before = one(read_labels(HERE, read(*TRACED)))
    q_proj = {part.name: part.total for part in before.forward.each()}["layer.0.attn.q_proj"]
    assert q_proj.gap_ns == 50
    assert by_part["layer.0.attn.q_proj"].gap_ns == 10
    assert times.idle.ns == sum(times.idle) == 62


def test_both_passes_together(tmp_path: Path) -> None:
    device = device_pass(tmp_path, *kernels())
    times = one(read_beside(*TRACED, clock=CLOCK, device=device))
    assert (times.has_clock, times.has_device) == (True, True)
    assert cpu_of(times) == {name: end - start for name, _, _, start, end in LABELS} | GAPS
    assert (times.device_ns, times.idle.ns) == (110, 310)


def test_streams_may_be_others_and_their_events_in_another_order(tmp_path: Path) -> None:
    traced = [*TRACED, launch(4, 970, 972), kernel(4, 1010, 1030, stream=8)]
    other = [
        *kernels([("k1", 5010, 5020), ("k2", 5020, 5030), ("k3", 5060, 5080)], stream=21),
        kernel(90, 5040, 5070, 22, name="k4"),
    ]
    times = one(read_beside(*traced, device=device_pass(tmp_path, *other)))
    assert times.has_device
    assert times.device_ns == 10 + 10 + 20 + 30
    assert times.busy_ns == 20 + 40
    assert times.idle.ns == 10 + 10


SWAPPED = [("k2", 5210, 5240), ("k1", 5240, 5300), ("k3", 5400, 5420)]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        pytest.param(
            kernels(SWAPPED), "event 0 is k2 in the device pass and k1 in the traced pass",
            id="another order",
        ),
        pytest.param(
            kernels(RUNS[:2]), "the device pass has 2 events and the traced pass 3",
            id="one is missing",
        ),
        pytest.param(
            [*kernels(RUNS[:2]), kernel(60, 5400, 5420, 9, name="k3")],
            "the device pass ran on 2 streams", id="two streams for one",
        ),
        pytest.param(
            [*kernels(RUNS[:2]), kernel(60, 0, 0, name="k3"), cpu_op("aten::mm", 50, 60)],
            "device events have neither a start nor a duration", id="damaged",
        ),
    ],
)  # fmt: skip
def test_a_device_pass_that_did_something_else_leaves_the_traced_times(
    tmp_path: Path, events: list[str], told: str
) -> None:
    reading = read_beside(*TRACED, device=device_pass(tmp_path, *events))
    assert_left_alone(reading, told)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(None, "cannot be read: No such file", id="missing"),
        pytest.param(b"hello", "device.json", id="no trace"),
        pytest.param(document(*kernels())[:-40], "device.json", id="cut off"),
        pytest.param(document(), "has 0 events", id="empty"),
    ],
)
def test_a_device_pass_that_cannot_be_read_leaves_the_traced_times(
    tmp_path: Path, data: bytes | None, told: str
) -> None:
    path = tmp_path / "device.json"
    if data is not None:
        path.write_bytes(data)
    assert_left_alone(read_beside(*TRACED, device=DeviceTrace(path, STARTED, WALL)), told)


def assert_left_alone(reading: Reading, told: str) -> None:
    times, before = one(reading), one(read_labels(HERE, read(*TRACED)))
    assert not times.has_device
    assert (times.device_ns, times.busy_ns, times.idle) == (
        before.device_ns, before.busy_ns, before.idle,
    )  # fmt: skip
    (finding,) = (each for each in reading.findings if each.code == DEVICE_REFUSED)
    assert finding.message.startswith("times of the device are of the traced pass")
    assert told in finding.message


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6),
    st.integers(-40, 200),
)
def test_busy_and_idle_are_the_pass_up_to_its_last_event(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]], first: int
) -> None:
    """Whatever the distance of the first event from the begin of the pass, even before it."""
    traced = [step(0, 0, 9000), label("prefill", 10, 8000)]
    alone, at, edges = [], first, []
    for number, (pause, length) in enumerate(runs, 1):
        traced += [launch(number, 100 * number, 100 * number + 9)]
        traced += [kernel(number, 100 * number + 20, 100 * number + 60)]
        at += pause
        edges.append((at, at + length))
        alone.append(kernel(number, 5000 + at, 5000 + at + length))
        at += length
    folder = tmp_path_factory.mktemp("device")
    reading = read_beside(*traced, device=device_pass(folder, *alone))
    times = one(reading)
    assert times.has_device
    assert times.device_ns == sum(length for _, length in runs)
    begins = [0, *(end for _, end in edges)]
    idle = sum(
        max(start - max(before, 0), 0)
        for (start, _), before in zip(edges, np.maximum.accumulate(begins).tolist(), strict=False)
    )
    assert times.idle.ns == idle
    assert min(times.idle) >= 0
    assert len(times.idle) == len(IdleTimes._fields)
    assert all(one[0] <= other[0] for one, other in pairwise(edges))
