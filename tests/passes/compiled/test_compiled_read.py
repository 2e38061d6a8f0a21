"""Compiled graphs that are replayed as CUDA graphs: their kernels get the parts of the reference.

The reference launches its kernels one by one inside the graph's range; a replay is one launch there
and the same kernels behind it, after a copy of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.compiled import KERNEL_NS, LAYERS, PITCH_NS, graph, region
from make.kineto import cpu_op, document, host, kernel, label, launch, step, write

from qwen3_profile.attribution.findings import Finding
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.compiled.kernel_times import CompiledTimes
from qwen3_profile.passes.compiled.read import attribute_compiled, load_compiled, missing_graphs
from qwen3_profile.passes.pass_times import PassTimes, read_steps
from qwen3_profile.run_folder.provenance import CompiledGraph, write_provenance
from qwen3_profile.run_folder.run_json import Compiled
from qwen3_profile.trace import read_trace

NAMES = [each.name for each in LAYERS.kernels]
COPY_NS = 11
COMPILED = Compiled("p.json", {"decode": 10}, 0.0, {"decode": "reference.json"})


def one_by_one(graphs: Sequence[CompiledGraph] = (LAYERS,)) -> list[str]:
    events = [step(0, 0, 9000), label("decode", 5, 8000)]
    for at, each in enumerate(graphs):
        names = [k.name for k in each.kernels]
        events += region(each.region, 100 + 1000 * at, names, first_id=100 * (at + 1))
    return events


def replay(
    kernels: Sequence[str], region_id: str = "0/0", start: int = 100, graph_id: int = 900
) -> list[str]:
    """A call of the graph: its inputs are copied, then everything is launched at once."""
    events = [
        cpu_op(f"Torch-Compiled Region: {region_id}", start, start + 300),
        cpu_op("## Call CompiledFxGraph None ##", start + 10, start + 290),
        cpu_op("aten::_foreach_copy_", start + 20, start + 60),
        launch(graph_id - 1, start + 30, start + 40),
        kernel(graph_id - 1, start + 1000, start + 1000 + COPY_NS, name="copy_kernel"),
        host("cuda_runtime", "cudaGraphLaunch", start + 100, start + 150, correlation=graph_id),
    ]
    for at, name in enumerate(kernels):
        begin = start + 1100 + at * PITCH_NS
        events.append(kernel(graph_id, begin, begin + KERNEL_NS, name=name))
    return events


def replayed(*replays: list[str]) -> list[str]:
    return [step(0, 0, 9000), label("decode", 5, 8000), *(e for each in replays for e in each)]


def ran(graph: CompiledGraph = LAYERS) -> list[str]:
    """The kernels that the reference runs."""
    return [f"{each.name}_kernel" for each in graph.kernels]


def split(
    folder: Path, events: list[str], graphs: Sequence[CompiledGraph] = (LAYERS,)
) -> tuple[PassTimes, tuple[Finding, ...]]:
    write(folder / "reference.json", document(*one_by_one(graphs)))
    write_provenance(folder / "p.json", tuple(graphs))
    path = write(folder / "replay.json", document(*events))
    known = load_compiled(folder, COMPILED, "decode", accept=False)
    matched = attribute_compiled(read_trace(path, launch_columns=True), known)
    (one,) = read_steps(matched.attribution, matched.times)
    return one, matched.findings


def rows(times: PassTimes) -> dict[str, int]:
    return {"/".join(p): part.own.device_ns for p, part in times.forward.walk()}


def test_a_replay_has_the_parts_of_the_reference(tmp_path: Path) -> None:
    times, findings = split(tmp_path, replayed(replay(ran())))
    assert findings == ()
    found = {path: ns for path, ns in rows(times).items() if ns}
    assert found == {
        "decode": COPY_NS,
        "decode/layer.0/layer.0.input_layernorm": KERNEL_NS,
        "decode/layer.0/layer.0.attn/layer.0.attn.q_proj": KERNEL_NS,
        "decode/layer.0/layer.0.attn/layer.0.attn.q_norm+rope": KERNEL_NS,
        "decode/layer.0/layer.0.ffn/layer.0.ffn.down_proj": KERNEL_NS,
        "decode/residual_ffn+input_layernorm": KERNEL_NS,
        "decode/layer.1/layer.1.attn/layer.1.attn.q_proj": KERNEL_NS,
    }
    assert times.balances
    assert times.compiled is not None
    assert (times.compiled.graphs, times.compiled.calls) == (1, 6)
    assert sum(row.device_ns for row in times.compiled.kernels) == 6 * KERNEL_NS
    assert times.compiled.refusals == ()


def test_graphs_that_look_alike_are_told_apart_by_their_place(tmp_path: Path) -> None:
    """Each layer by itself: the same kernels, and another layer's parts."""
    both = [graph(f"0/{i}", ("aten::mm", {f"layer.{i}.attn.q_proj": 1})) for i in range(2)]
    events = replayed(
        replay(ran(both[0]), "0/0"), replay(ran(both[1]), "0/1", start=1500, graph_id=950)
    )
    times, findings = split(tmp_path, events, both)
    assert findings == ()
    found = {path.rpartition("/")[2]: ns for path, ns in rows(times).items() if ns}
    assert found == {
        "decode": 2 * COPY_NS, "layer.0.attn.q_proj": KERNEL_NS, "layer.1.attn.q_proj": KERNEL_NS,
    }  # fmt: skip


def test_graphs_that_were_not_captured_after_all_are_matched_by_their_calls(
    tmp_path: Path,
) -> None:
    """torch does without a CUDA graph where it cannot have one."""
    times, findings = split(tmp_path, one_by_one())
    assert [finding.code for finding in findings] == ["graph-skipped"]
    assert "1 of 1 calls of compiled graphs replayed no CUDA graph" in findings[0].message
    assert times.compiled is not None
    assert (times.compiled.calls, times.compiled.refusals) == (6, ())
    assert rows(times)["decode/layer.1/layer.1.attn/layer.1.attn.q_proj"] == KERNEL_NS


def test_a_replay_in_another_order_of_graphs_is_refused(tmp_path: Path) -> None:
    both = [graph(f"0/{i}", ("aten::mm", {f"layer.{i}.attn.q_proj": 1})) for i in range(2)]
    events = replayed(
        replay(ran(both[0]), "0/1"), replay(ran(both[1]), "0/0", start=1500, graph_id=950)
    )
    times, findings = split(tmp_path, events, both)
    assert [finding.code for finding in findings] == ["graph-refused"]
    assert rows(times)["decode/graph_replay"] == 2 * KERNEL_NS
    assert times.balances


def _swap(names: list[str], i: int, j: int) -> list[str]:
    names[i], names[j] = names[j], names[i]
    return names


def _drop(names: list[str], i: int, _: int) -> list[str]:
    return names[:i] + names[i + 1 :]


def _insert(names: list[str], i: int, j: int) -> list[str]:
    return [*names[:i], names[j], *names[i:]]


@settings(max_examples=50)
@given(
    st.sampled_from([_swap, _drop, _insert]),
    st.integers(0, len(NAMES) - 1),
    st.integers(0, len(NAMES) - 1),
)
def test_other_kernels_are_never_labelled(
    tmp_path_factory: pytest.TempPathFactory,
    change: Callable[[list[str], int, int], list[str]],
    i: int,
    j: int,
) -> None:
    names = change(ran(), i, j)
    times, findings = split(tmp_path_factory.mktemp("t"), replayed(replay(names)))
    assert times.balances
    assert times.compiled is not None
    if names == ran():
        assert findings == ()
        return
    assert [finding.code for finding in findings] == ["graph-refused"]
    assert times.compiled.kernels == ()
    (told,) = times.compiled.refusals
    assert told.startswith(("event ", "the replay has "))
    found = {path: ns for path, ns in rows(times).items() if ns}
    assert found == {"decode": COPY_NS, "decode/graph_replay": len(names) * KERNEL_NS}


def test_a_reference_that_does_not_match_gives_nothing(tmp_path: Path) -> None:
    """The provenance is of other kernels than those that the reference called."""
    other = graph("0/0", *((f"{name}_new", {"norm": 1}) for name in NAMES))
    write(tmp_path / "reference.json", document(*one_by_one()))
    write_provenance(tmp_path / "p.json", (other,))
    path = write(tmp_path / "replay.json", document(*replayed(replay(ran()))))
    known = load_compiled(tmp_path, COMPILED, "decode", accept=False)
    matched = attribute_compiled(read_trace(path, launch_columns=True), known)
    (one,) = read_steps(matched.attribution, matched.times)
    assert rows(one)["decode/graph_replay"] == 6 * KERNEL_NS
    assert matched.findings[0].code == "graph-refused"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"{", "is not a provenance of ours"),
        (b'{"schema_version": 9, "graphs": []}', "was written by a newer qwen3_profile (schema 9)"),
    ],
    ids=["missing", "no-json", "newer"],
)
def test_a_provenance_that_cannot_be_read(tmp_path: Path, text: bytes | None, told: str) -> None:
    if text is not None:
        (tmp_path / "p.json").write_bytes(text)
    with pytest.raises(TraceError, match=r"p\.json") as error:
        load_compiled(tmp_path, COMPILED, "prefill", accept=False)
    assert told in str(error.value)


def test_layers_that_ran_eagerly_are_told() -> None:
    """torch gives up compiling a function after some times, and says so in its own log only."""
    (told,) = missing_graphs(CompiledTimes(20, 0, (), ()), 28)
    assert told.message == "20 compiled graphs were called, not 28: the rest of it ran eagerly"
    assert missing_graphs(CompiledTimes(28, 0, (), ()), 28) == ()
    assert missing_graphs(None, 28) == ()
