"""The events of a replay get the labels of what it repeats, or stay one row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.graphs import GRAPH_ID, PITCH, Op, eager, replay, small_pass
from make.kineto import self_cpu_ns, with_children
from make.label_replays import labelled, load, names, of_capture, of_step

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.passes.cuda_graphs.assign import find_replays, label_replays

OPS = small_pass()


REFERENCES = [
    pytest.param(of_step, id="eager step"),
    pytest.param(of_capture, id="capture of CUDA"),
    pytest.param(lambda ops: of_capture(ops, named=True), id="capture of HIP"),
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_each_event_gets_the_label_of_its_launch(reference: Any) -> None:
    found, findings = labelled(replay(OPS, "decode"), reference(OPS))
    assert findings == ()
    assert names(found) == [op.label for op in OPS]


@pytest.mark.parametrize("reference", REFERENCES)
def test_each_replay_of_a_trace_is_a_pass_of_its_own(reference: Any) -> None:
    later = replay(OPS, "decode", number=1, correlation=901, start=9000)
    found, findings = labelled([*replay(OPS, "decode"), *later], reference(OPS))
    assert findings == ()
    assert names(found) == 2 * [op.label for op in OPS]
    steps = Counter(found.scope_step.tolist())
    assert steps[0] == steps[1]


def test_labels_stay_inside_the_one_around_the_launch() -> None:
    found, _ = labelled(replay(OPS, "decode"), of_step(OPS))
    roots = [found.scopes.names[found.scopes.name[i]] for i in range(len(found.scopes))
             if found.scopes.parent[i] < 0]  # fmt: skip
    assert roots == ["decode"]
    total = with_children(found.scopes, found.sum_of("device_ns"))
    assert total[0] == found.trace.device.dur_ns.sum()
    assert self_cpu_ns(found.scopes)[0] == found.scopes.end_ns[0] - found.scopes.start_ns[0]


def test_without_a_label_around_the_launch_the_pass_is_copied_too() -> None:
    found, _ = labelled(replay(OPS), of_step(OPS))
    roots = [i for i in range(len(found.scopes)) if found.scopes.parent[i] < 0]
    assert [found.scopes.names[found.scopes.name[i]] for i in roots] == ["decode"]
    assert with_children(found.scopes, found.sum_of("device_ns"))[roots[0]] == 50 * len(OPS)


def test_parts_that_launched_nothing_are_there_as_well() -> None:
    """What a model must write is looked for in its replays as in its eager passes."""
    found, _ = labelled(replay(OPS, "decode"), of_step(OPS))
    assert {"layer.0", "layer.0.attn", "layer.2.ffn"} <= set(found.scopes.names)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize(
    ("ran", "told"),
    [
        pytest.param(OPS[1:], "", id="one too few"),
        pytest.param([*OPS, OPS[-1]], "", id="one too many"),
        pytest.param([*OPS[:-2], OPS[-1], OPS[-2]], f"event {len(OPS) - 2} is", id="swapped"),
        pytest.param([*OPS[:2], OPS[4], OPS[3], OPS[2], *OPS[5:]], "event", id="in one layer"),
    ],
)
def test_other_events_are_one_row(reference: Any, ran: list[Op], told: str) -> None:
    found, (finding,) = labelled(replay(ran, "decode"), reference(OPS))
    assert set(names(found)) == {"graph_replay"}
    assert finding.code == "graph-refused"
    assert (finding.count, finding.ns) == (len(ran), 50 * len(ran))
    assert told in finding.message


def test_the_same_refusal_is_told_once() -> None:
    ran = OPS[1:]
    later = replay(ran, "decode", number=1, correlation=901, start=9000)
    _, findings = labelled([*replay(ran, "decode"), *later], of_step(OPS))
    (finding,) = findings
    assert "2 graph replays" in finding.message
    assert finding.count == 2 * len(ran)


def test_the_second_reference_is_asked_where_the_first_differs() -> None:
    found, findings = labelled(replay(OPS, "decode"), (*of_step(OPS[1:]), *of_step(OPS)))
    assert findings == ()
    assert names(found) == [op.label for op in OPS]


def test_references_that_fit_and_say_otherwise_are_refused() -> None:
    moved = [Op("norm", op.kernel, op.operator, op.grid, op.fills) for op in OPS]
    _, (finding,) = labelled(replay(OPS, "decode"), (*of_step(OPS), *of_step(moved)))
    assert "in more than one way, with other labels" in finding.message


def test_a_fill_of_memory_that_cupti_does_not_know_is_any_fill() -> None:
    ran = [replace(op, kernel="Memset (Unknown)") if op.fills else op for op in OPS]
    found, findings = labelled(replay(ran, "decode"), of_step(OPS))
    assert findings == ()
    assert names(found) == [op.label for op in OPS]


def test_hip_fills_with_a_kernel_of_its_own() -> None:
    fill = "__amd_rocclr_fillBufferAligned"
    ran = [Op(op.label, fill, op.operator) if op.fills else op for op in OPS]
    found, findings = labelled(replay(ran, "decode"), of_capture(OPS, named=True))
    assert findings == ()
    assert names(found) == [op.label for op in OPS]


def test_a_kernel_of_a_nameless_capture_that_tells_nothing_is_left_alone() -> None:
    ops = [Op("rotary_emb", "secret"), *OPS]
    found, (finding,) = labelled(replay(ops, "decode"), of_capture(ops))
    assert names(found) == ["graph_replay", *(op.label for op in OPS)]
    assert (finding.code, finding.count, finding.ns) == ("graph-unproven", 1, 50)
    assert "event 0, secret" in finding.message


# --- side by side -------------------------------------------------------------------------------


def test_kernels_side_by_side_are_refused_without_node_ids() -> None:
    """50 ns long and 20 apart, but for the jitter that is allowed: so all of a microsecond."""
    ops = [Op(op.label, op.kernel, op.operator, op.grid) for op in OPS[:-2]]
    events = [text.replace('"dur": 0.050', '"dur": 5.000') for text in replay(ops, "decode")]
    found, (finding,) = labelled(events, of_step(ops))
    assert set(names(found)) == {"graph_replay"}
    assert "no graph node ids" in finding.message


def test_node_ids_put_them_in_order() -> None:
    """The order of their start is another: each event still gets its own label."""
    shuffled = [3, 0, 2, 1, *range(4, len(OPS))]
    ran = [OPS[i] for i in shuffled]
    events = replay(
        ran, "decode", nodes=[1 + i for i in shuffled], streams=[i % 3 for i in shuffled]
    )
    found, findings = labelled(events, of_step(OPS))
    assert findings == ()
    device = found.trace.device
    told = {
        (found.trace.names[n], int(s)) for n, s in zip(device.name, device.start_ns, strict=True)
    }
    assert len(told) == len(OPS)
    assert names(found) != [op.label for op in OPS]
    assert Counter(names(found)) == Counter(op.label for op in OPS)


def test_streams_without_node_ids_are_refused_where_the_step_had_one() -> None:
    events = replay(OPS, "decode", streams=[7 + i % 2 for i in range(len(OPS))])
    _, (finding,) = labelled(events, of_step(OPS))
    assert "2 streams without node ids" in finding.message


def test_what_is_launched_beside_a_graph_keeps_its_owner() -> None:
    found = load([*replay(OPS, "decode"), *eager(OPS[:2], "prefill", 1)])
    (only,) = find_replays(found)
    assert found.trace.launches.correlation[only.launch] == GRAPH_ID
    after, _ = label_replays(found, of_step(OPS))
    others = set(range(len(found.owner))) - set(only.events.tolist())
    assert all(after.owner[i] == found.owner[i] for i in others)


# --- never a silent wrong label -----------------------------------------------------------------


def changes(ops: list[Op]) -> st.SearchStrategy[list[Op]]:
    at = st.integers(0, len(ops) - 1)
    return st.one_of(
        st.permutations(ops),
        at.map(lambda i: ops[:i] + ops[i + 1 :]),
        st.tuples(at, at).map(lambda p: [*ops[: p[0]], ops[p[1]], *ops[p[0] :]]),
        st.tuples(at, at).map(lambda p: swapped(ops, *p)),
        st.tuples(at, at).map(lambda p: moved(ops, *p)),
    )


def swapped(ops: list[Op], one: int, other: int) -> list[Op]:
    found = list(ops)
    found[one], found[other] = found[other], found[one]
    return found


def moved(ops: list[Op], start: int, to: int) -> list[Op]:
    found = ops[:start] + ops[start + 1 :]
    return [*found[:to], ops[start], *found[to:]]


def wrong(found: Attribution, ran: Sequence[Op]) -> list[str]:
    """The labels that some event got and that launched no kernel of its name and grid."""
    may = {(op.kernel, op.grid, op.label) for op in OPS}
    told = zip(ran, names(found), strict=True)
    return [
        label
        for op, label in told
        if label != "graph_replay" and (op.kernel, op.grid, label) not in may
    ]


@pytest.mark.parametrize("reference", REFERENCES)
@settings(max_examples=60)
@given(ran=changes(OPS))
def test_no_change_of_the_events_gives_a_wrong_label(reference: Any, ran: list[Op]) -> None:
    """Whole or refused: labels are given only where the kernels are those of the launches."""
    found, findings = labelled(replay(ran, "decode"), reference(OPS))
    assert wrong(found, ran) == []
    same = [(op.kernel, op.grid) for op in ran] == [(op.kernel, op.grid) for op in OPS]
    assert same or findings


@settings(max_examples=40)
@given(order=st.permutations(range(len(OPS))))
def test_with_node_ids_no_order_of_starts_matters(order: list[int]) -> None:
    ran = [OPS[i] for i in order]
    found, findings = labelled(
        replay(ran, "decode", nodes=[i + 1 for i in order], pitch=PITCH), of_step(OPS)
    )
    if findings:  # the order of the starts is possible too, and says otherwise
        assert [(op.kernel, op.grid) for op in ran] == [(op.kernel, op.grid) for op in OPS]
        return
    assert names(found) == [op.label for op in ran]
