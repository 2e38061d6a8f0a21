"""A backward's nodes and their device events go to the labels of the operators they belong to."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.commands import Commands
from make.kineto import (
    MAIN,
    cpu_op,
    event,
    host,
    kernel,
    label,
    launch,
    read,
    self_cpu_ns,
    split,
    step,
    us,
    write,
)
from make.paths import ROOT

from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.autograd_nodes import NO_OPERATOR, find_nodes
from qwen3_profile.attribution.backward import split_backward
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.fold import fold
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import backward_of, layers
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.labels import BACKWARD
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.trace import AutogradOps, Trace, read_trace
from qwen3_profile.trace.event_keys import NODE_PREFIX

SHARED = ROOT.parent / "shared/traces"
AUTOGRAD = 9
GRADIENT = "torch::autograd::AccumulateGrad"


def operator(
    sequence: int, start: int, end: int, thread: int = MAIN, name: str = "aten::mm"
) -> str:
    ids = {"Sequence number": sequence, "Fwd thread id": 0}
    return host("cpu_op", name, start, end, thread, **ids)


def node(
    sequence: int | None, start: int, end: int, thread: int = AUTOGRAD, forward_thread: int = 1
) -> str:
    """One evaluation; without a number, of a node that adds up a gradient."""
    if sequence is None:
        return host("cpu_op", NODE_PREFIX + GRADIENT, start, end, thread)
    ids = {"Sequence number": sequence, "Fwd thread id": forward_thread}
    return host("cpu_op", f"{NODE_PREFIX}MmBackward0", start, end, thread, **ids)


def work(at: int, thread: int = AUTOGRAD) -> list[str]:
    """A launch at `at`, and a kernel of 7 ns much later, of the correlation id `at`."""
    return [launch(at, at, at + 2, thread), kernel(at, 2000 + 10 * at, 2007 + 10 * at)]


FRAME = [
    step(0, 0, 1000),
    label("train_step", 0, 1000),
    cpu_op("embed_tokens", 10, 30),
    label("layer.0", 40, 300),
    label("layer.0.attn", 50, 200),
    cpu_op("layer.0.attn.q_proj", 60, 80),
    cpu_op("layer.0.attn.k_proj", 90, 110),
    label("layer.0.ffn", 220, 280),
    cpu_op("lm_head", 310, 330),
    label("backward", 500, 900),
]


def backward_part(*events: str) -> Part:
    (found,) = read_steps(split_backward(split(*FRAME, *events)))
    assert found.balances
    part = backward_of(found.forward)
    assert part is not None
    return part


def owners(part: Part) -> dict[str, int]:
    """Path below `backward` -> device ns of its own, where there is any."""
    return {
        "/".join(path[1:]): each.own.device_ns for path, each in part.walk() if each.own.device_ns
    }


Q_PROJ = "layer.0/layer.0.attn/layer.0.attn.q_proj"
K_PROJ = "layer.0/layer.0.attn/layer.0.attn.k_proj"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [operator(4, 62, 70), node(4, 510, 540), *work(520)], {Q_PROJ: 7},
            id="a node goes to its operator's label",
        ),
        pytest.param(
            [operator(4, 62, 70), node(4, 510, 540, MAIN), *work(520, MAIN)], {Q_PROJ: 7},
            id="on the thread of the forward too, as without a device",
        ),
        pytest.param(
            [operator(4, 62, 66), operator(5, 67, 70), node(5, 510, 540), *work(520),
             node(4, 550, 580), *work(560)],
            {Q_PROJ: 14}, id="several operators of one label",
        ),
        pytest.param(
            [operator(4, 62, 70), operator(4, 92, 95), node(4, 510, 540), *work(520)], {K_PROJ: 7},
            id="of operators with one number the last made the node",
        ),
        pytest.param(
            [operator(4, 62, 70), operator(4, 63, 69, name="aten::t"), node(4, 510, 540),
             *work(520)],
            {Q_PROJ: 7}, id="an operator in an operator",
        ),
        pytest.param(
            [operator(4, 205, 210), node(4, 510, 540), *work(520)],
            {"layer.0/layer.0.residual_attn": 7}, id="an operator between labels that has a name",
        ),
        pytest.param(
            [operator(4, 115, 120), node(4, 510, 540), *work(520)],
            {"layer.0/layer.0.attn/layer.0.attn.split_heads": 7}, id="and inside a container",
        ),
        pytest.param(
            [operator(4, 62, 70), node(4, 510, 540), node(None, 541, 560), *work(550)],
            {Q_PROJ: 7}, id="a gradient is added up where the node before it belongs",
        ),
        pytest.param(
            [operator(4, 62, 70), operator(5, 92, 95), node(5, 510, 520), node(4, 511, 530, 8),
             node(None, 531, 560), *work(550)],
            {K_PROJ: 7}, id="the node before it on its own thread",
        ),
        pytest.param(
            [operator(4, 62, 70), node(None, 510, 530), *work(520), node(4, 541, 560)], {"": 7},
            id="a gradient that nothing came before stays in backward",
        ),
        pytest.param(
            [operator(4, 62, 70), node(4, 505, 510), node(5, 510, 540), *work(520)], {"": 7},
            id="a number that no operator has stays in backward",
        ),
        pytest.param(
            [operator(4, 400, 410), node(4, 510, 540), *work(520)], {"": 7},
            id="an operator outside the labels too",
        ),
        pytest.param(
            [operator(4, 62, 70), node(4, 510, 540), *work(600)], {"": 7},
            id="what is launched between nodes too",
        ),
        pytest.param(
            [operator(4, 62, 70), node(4, 510, 540), *work(510), *work(539), *work(540)],
            {Q_PROJ: 14, "": 7}, id="a node is open from its start up to its end",
        ),
        pytest.param(
            [operator(4, 62, 70), operator(4, 92, 95, 2), operator(5, 96, 97, 2),
             node(5, 510, 512, forward_thread=2), node(4, 520, 540, forward_thread=2), *work(530)],
            {"": 7}, id="numbers of two threads are told apart",
        ),
        pytest.param(
            [operator(4, 62, 70), operator(4, 92, 95, 2), node(4, 510, 540), *work(520)], {"": 7},
            id="and where they cannot be, nothing is guessed",
        ),
        pytest.param(
            [operator(4, 62, 70), operator(5, 92, 94), node(4, 510, 540), node(5, 515, 530),
             *work(520)],
            {Q_PROJ: 7}, id="of a node in a node the outer one counts",
        ),
        pytest.param(
            [operator(4, 62, 70), node(4, 910, 940), *work(920, MAIN)], {},
            id="a node after the backward is none of it",
        ),
    ],
)  # fmt: skip
def test_who_gets_the_device_time_of_a_node(events: list[str], expected: dict[str, int]) -> None:
    assert owners(backward_part(*events)) == expected


def test_labels_in_the_backward_itself_keep_what_is_theirs() -> None:
    again = label("layer.0.ffn", 515, 530, AUTOGRAD)
    found = split(*FRAME, again, operator(4, 62, 70), node(4, 510, 540), *work(520), *work(535))
    after = split_backward(found)
    names = [after.scopes.names[after.scopes.name[owner]] for owner in after.owner]
    assert sorted(names) == ["layer.0.attn.q_proj", "layer.0.ffn"]


def test_times_of_a_part_are_those_of_its_nodes() -> None:
    part = backward_part(
        operator(4, 62, 66), operator(5, 67, 70), operator(6, 92, 94), operator(7, 52, 54),
        node(7, 505, 507), node(6, 510, 530), *work(512), node(5, 540, 570), *work(550),
        node(4, 580, 590), *work(585), *work(586),
    )  # fmt: skip
    attn = part.parts[0].parts[0]
    k_proj, q_proj = attn.parts
    assert (part.total.cpu_ns, part.own.cpu_ns) == (400, 400 - 62)
    assert (part.parts[0].total.cpu_ns, part.parts[0].own.cpu_ns) == (62, 0)
    assert (attn.total.cpu_ns, attn.own.cpu_ns) == (62, 2)
    assert (q_proj.total.cpu_ns, q_proj.total.calls) == (40, 2)
    assert (k_proj.total.cpu_ns, k_proj.total.calls) == (20, 1)
    assert (q_proj.total.device_events, q_proj.total.launch_ns) == (3, 4)
    assert (part.total.device_events, part.total.launch_ns) == (4, 6)
    # from the end of each launch to the start of its kernel
    assert k_proj.total.queue_ns == 2000 + 10 * 512 - 514
    assert attn.total.gap_ns == part.total.gap_ns > 0


def test_a_node_outside_every_backward_is_no_part_of_one() -> None:
    nodes = node(4, 470, 490), node(4, 510, 540), node(4, 910, 940)
    part = backward_part(operator(4, 62, 70), *nodes)
    assert (part.parts[0].total.cpu_ns, part.own.cpu_ns) == (30, 370)


def test_moved_events_are_no_guess_across_threads() -> None:
    (found,) = read_steps(
        split_backward(
            split(*FRAME, operator(4, 62, 70), node(4, 510, 540), *work(520), *work(600))
        )
    )
    assert found.cross_thread_events == 1


def test_collectives_of_a_backward_are_parts_of_its_parts() -> None:
    events = [operator(4, 62, 70), node(4, 510, 540), launch(1, 520, 522, AUTOGRAD)]
    nccl = kernel(1, 2000, 2010, name="ncclDevKernel_AllReduce")
    found = split_collectives(split_backward(split(*FRAME, *events, nccl)))
    (times,) = read_steps(found)
    part = backward_of(times.forward)
    assert part is not None
    assert owners(part) == {f"{Q_PROJ}/layer.0.attn.q_proj.nccl": 10}
    assert times.balances


def test_a_trace_without_a_backward_stays_as_it_is() -> None:
    found = split(step(0, 0, 100), label("prefill", 0, 100), operator(1, 5, 9), *work(6, MAIN))
    assert split_backward(found) is found


# --- every trace balances -----------------------------------------------------------------------


@st.composite
def training_steps(draw: st.DrawFn) -> list[str]:
    """Operators and nodes of few numbers on few threads, and launches anywhere."""
    events = list(FRAME)
    threads = st.sampled_from([MAIN, 2, AUTOGRAD])
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, 480))
        number, thread = draw(st.integers(0, 5)), draw(threads)
        events.append(operator(number, start, start + draw(st.integers(0, 20)), thread))
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(480, 920))
        number = draw(st.none() | st.integers(0, 6))
        length, thread = draw(st.integers(0, 60)), draw(threads)
        events.append(node(number, start, start + length, thread, draw(st.integers(1, 2))))
    for at in draw(st.sets(st.integers(0, 1050), max_size=20)):
        events += work(at, draw(threads))
    return events


@settings(max_examples=150)
@given(training_steps())
def test_the_ledger_balances_and_no_event_is_lost(events: list[str]) -> None:
    before = split(*events)
    after = split_backward(before)
    (found,) = read_steps(after)
    assert found.balances
    assert found.device_ns == 7 * int((after.device_step == 0).sum())
    assert found.forward.total.cpu_ns == 1000
    assert sum(part.own.cpu_ns for _, part in found.forward.walk()) == 1000
    assert sum(part.own.launch_ns for _, part in found.forward.walk()) >= sum(
        part.own.launch_ns for root in fold(before) for _, part in root.walk()
    )
    assert events_outside_backward(before) == events_outside_backward(after)
    assert self_cpu_ns(after.scopes).sum() == self_cpu_ns(before.scopes).sum()


def events_outside_backward(found: Attribution) -> Counter[str]:
    """How many events each label outside `backward` has."""
    names, scopes = Counter[str](), found.scopes
    for owner in found.owner.tolist():
        if owner >= 0 and not in_backward(found, owner):
            names[scopes.names[scopes.name[owner]]] += 1
    return names


def in_backward(found: Attribution, scope: int) -> bool:
    scopes = found.scopes
    while scope >= 0:
        if scopes.names[scopes.name[scope]] == BACKWARD:
            return True
        scope = int(scopes.parent[scope])
    return False


# --- numbers in the file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param({"Sequence number": 3, "Fwd thread id": 0}, [(3, 0)], id="an operator"),
        pytest.param({"Fwd thread id": 1, "Sequence number": 3}, [(3, 1)], id="a node"),
        pytest.param({"Sequence number": 3}, [(3, 0)], id="without a thread"),
        pytest.param({"External id": 3}, [], id="neither"),
        pytest.param({"Sequence number": -1}, [], id="none, as old files write it"),
        pytest.param({"Sequence number": 2**64 - 1}, [], id="none, unsigned"),
    ],
)
def test_sequence_numbers_are_read(args: dict[str, int], expected: list[tuple[int, int]]) -> None:
    ops = read(host("cpu_op", "aten::mm", 5, 9, **args)).autograd
    assert list(zip(ops.sequence.tolist(), ops.forward_thread.tolist(), strict=True)) == expected
    assert ops.end_ns.tolist() == [9] * len(expected)


def test_a_number_that_is_none_is_damage() -> None:
    with pytest.raises(DamagedTraceError, match="'aten::mm' has odd args"):
        read(event("cpu_op", "aten::mm", 1, 1, us(0), us(1), **{"Sequence number": "7"}))


# --- the whole way ------------------------------------------------------------------------------


def test_a_training_step_from_the_flag_to_the_export(tmp_path: Path, commands: Commands) -> None:
    done = commands.profile(
        tmp_path, "--backward", "--dtype", "float32", "--num-runs", 2, "--batch-size", 2
    )
    assert done.code == 0, done.err
    records = done.records()
    assert [record["phase"] for record in records] == ["train_step"] * 2
    for record in records:
        check_training_record(record)
    assert "attn_bwd" in done.out
    assert "backward pass, by the labels of the forward" in done.out
    again = commands.export(tmp_path, "traces/run1", "--output-dir", "again")
    assert again.records("again/timing_records.json") == records
    summary = done.records("timing_results/timing_summary.json")[0]
    assert summary["backward"]["runs"] == 2
    assert summary["layer_details"][1]["attn_details"]["q_proj_bwd"]["runs"] == 2
    (trace,) = (tmp_path / "traces/run1/raw").glob("*train_step.run0.kineto.json.gz")
    check_layer_order(read_trace(trace))


def check_training_record(record: dict[str, Any]) -> None:
    assert record["findings"] == []
    assert record["use_cache"] is record["inference_mode"] is False
    # Both are of the pass whose labels read the clock.
    clocked = record["overhead"]["clock"] * record["total_time"]
    assert record["cpu_source"] == "clock"
    assert record["forward"] + record["backward"] <= clocked * (1 + 1e-9)
    assert record["backward_cuda"] == 0
    model = record["model_details"]
    assert "backward" not in model
    outside = sum(model[key] for key in model if key.endswith("_bwd"))
    inside = 0.0
    for layer in record["layer_details"]:
        inside += sum(value for key, value in layer.items() if key.endswith("_bwd"))
        for block in ("attn", "ffn"):
            details = layer[f"{block}_details"]
            assert layer[f"{block}_bwd"] == pytest.approx(
                sum(value for key, value in details.items() if key.endswith("_bwd"))
            )
            # Every node of a layer has its operator, and every operator its name.
            assert details["other_bwd"] == 0
        assert layer["other_bwd"] == 0
        assert min(layer["attn_details"][f"{part}_bwd"] for part in ("q_proj", "o_proj")) > 0
    assert inside + outside == pytest.approx(record["backward"])


def check_layer_order(trace: Trace) -> None:
    """The nodes of the last layer come first, and none is without an operator."""
    scopes = build_scopes(trace, select_labels(trace))
    nodes = find_nodes(trace)
    ops = trace.autograd
    assert len(nodes) > 100
    assert (nodes.operator != NO_OPERATOR).all()
    inner = scopes.innermost(ops.track[nodes.operator], ops.start_ns[nodes.operator])
    names = [scopes.names[scopes.name[scope]] for scope in inner.tolist()]
    order = list(dict.fromkeys(name.split(".")[1] for name in names if name.startswith("layer.")))
    assert order == ["1", "0"]
    assert names[0] == "loss"
    assert names[-1] == "embed_tokens"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        pytest.param(
            "--decode-steps 2", "--backward: does not go with decode_steps; leave one of them out",
            id="decode",
        ),
        pytest.param("--cache static", "--backward: uses no static cache", id="cache"),
        pytest.param("--input-len 1", "--backward: needs 2 tokens, to predict one", id="length"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_backward(
    tmp_path: Path, commands: Commands, argv: str, told: str
) -> None:
    done = commands.profile(tmp_path, "--backward", *argv.split())
    assert done.code == 2
    (line,) = done.errors
    assert line.startswith(f"error: {told}")


# --- other people's traces ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "hta_a100_nccl_data",
        "hta_mi250_minitoy_rocm62",
        "param_2080ti_linear",
        "tl_mi300_ddp_resnet18",
        "tl_mi300_normalization_labels",
    ],
)
def test_nodes_of_real_traces_have_operators_of_their_names(name: str) -> None:
    path = SHARED / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip("the trace is not here")
    trace = read_trace(path)
    nodes, ops = find_nodes(trace), trace.autograd
    assert (nodes.operator != NO_OPERATOR).all()
    named = {
        (int(ops.track[i]), int(ops.start_ns[i])): trace.names[ops.name[i]] for i in range(len(ops))
    }
    same = total = 0
    for i, operator_index in enumerate(nodes.operator.tolist()):
        text = named[int(nodes.track[i]), int(nodes.start_ns[i])]
        match = re.fullmatch(rf"{NODE_PREFIX}(\w+?)Backward\d*", text)
        if match is None:
            continue
        total += 1
        forward = trace.names[ops.name[operator_index]].removeprefix("aten::")
        same += plain(match[1]) == plain(forward)
    assert total > 2
    assert same / total > 0.9, f"{same} of {total}"


def plain(name: str) -> str:
    return name.replace("_", "").lower()


@pytest.mark.parametrize("name", ["tl_mi300_ddp_resnet18", "tl_mi300_normalization_labels"])
def test_a_real_backward_balances_below_labels_of_ours(name: str, tmp_path: Path) -> None:
    path = SHARED / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip("the trace is not here")
    trace = read_trace(write(tmp_path / "t.json", labelled(path)))
    before = attribute(trace, build_scopes(trace, select_labels(trace)))
    after = split_backward(before)
    steps = read_steps(after)
    assert steps
    for times in steps:
        assert times.balances
        part = backward_of(times.forward)
        assert part is not None
        (layer,) = layers(part)
        # Nearly all that a backward launches, it launches in nodes of the labelled forward.
        assert layer.total.device_ns > 0.9 * part.total.device_ns
    assert sum(times.device_ns for times in steps) == int(
        trace.device.dur_ns[before.device_step >= 0].sum()
    )


def labelled(path: Path) -> bytes:
    """The trace with our labels: each run of operators before a run of nodes is one layer."""
    trace = read_trace(path)
    events = []
    for forward, nodes in training_steps_of(trace.autograd):
        place = trace.tracks[forward.track[0]]
        start, end = int(forward.start_ns.min()) - 1, int(nodes.end_ns.max()) + 1
        for text, first, last in (
            ("train_step", start, end),
            ("layer.0", start, int(forward.end_ns.max()) + 1),
            (BACKWARD, int(nodes.start_ns.min()) - 1, end),
        ):
            span = us(first), us(last - first)
            events.append(event("user_annotation", text, place.pid, place.tid, *span))
    document = gzip.decompress(path.read_bytes()).decode().replace("ProfilerStep#", "step ")
    joined = ",".join(events)
    return re.sub(r'("traceEvents": *\[)', lambda m: f"{m[1]}{joined},", document, count=1).encode()


def training_steps_of(ops: AutogradOps) -> list[tuple[AutogradOps, AutogradOps]]:
    """(operators, nodes) of each forward and its backward, one after the other in the trace."""
    ops = ops.take(ops.sequence >= 0)
    is_node = ops.forward_thread > 0
    changes = np.flatnonzero(np.diff(is_node.astype(int)) != 0) + 1
    runs = [ops.take(part) for part in np.split(np.arange(len(ops)), changes)]
    first = 1 if is_node[0] else 0
    return list(zip(runs[first::2], runs[first + 1 :: 2], strict=False))
