"""torch's own annotations of a graph's nodes, played: this needs CUDA 13.1 and its bindings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from make.graphs import Op, replay, small_pass
from make.label_replays import labelled, load, names, of_step

from qwen3_profile.errors import TraceError
from qwen3_profile.measure import instrument, ranges
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.executions.graph_annotations import annotated_capture, plain_capture
from qwen3_profile.passes.cuda_graphs.assign import label_replays
from qwen3_profile.run_folder.run_json import read_nodes, write_nodes

OPS = small_pass()
NODES = [1 + i for i in range(len(OPS))]
MARKED = {node: op.label for node, op in zip(NODES, OPS, strict=True) if not op.fills}


class Played(ModuleType):
    """torch.cuda._graph_annotations as far as it is used: each label opened is a node."""

    def __init__(self, *, works: bool = True) -> None:
        super().__init__("torch.cuda._graph_annotations")
        self.works, self.marked, self.enabled = works, dict[int, list[dict[str, str]]](), True

    @contextmanager
    def mark_kernels(self, text: str) -> Iterator[None]:
        yield
        if self.works:
            self.marked[100 + len(self.marked)] = [{"str": text}]

    def get_kernel_annotations(self) -> dict[int, list[dict[str, str]]]:
        return dict(self.marked)

    def clear_kernel_annotations(self) -> None:
        self.marked.clear()

    def disable_annotations(self) -> None:
        self.enabled = False

    def remap_to_exec_graph(self, graph: object) -> None:
        raise NotImplementedError


class Graph:
    """torch.cuda.graph, which captures nothing."""

    def __init__(self, graph: object, enable_annotations: bool = False) -> None:
        self.annotated = enable_annotations

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class OlderGraph(Graph):
    def __init__(self, graph: object) -> None:
        super().__init__(graph)


Play = Callable[..., Played]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    def play(*, works: bool = True, older: bool = False) -> Played:
        played = Played(works=works)
        monkeypatch.setitem(sys.modules, "torch.cuda._graph_annotations", played)
        monkeypatch.setattr(torch.cuda, "graph", OlderGraph if older else Graph)
        return played

    return play


def test_labels_are_told_to_torch_while_a_graph_is_captured(model: Any, play: Play) -> None:
    played = play()
    generation = Generation(model, torch.tensor([[1, 2, 3]]))
    before = ranges.label_range, ranges._recording
    with instrument.labelled(model), annotated_capture(None) as found:
        generation.prefill()
    assert {"layer.0.attn.q_proj", "layer.1.ffn", "norm"} <= set(found.values())
    assert min(found) == 100
    assert (ranges.label_range, ranges._recording) == before
    assert (played.marked, played.enabled) == ({}, False)


def test_a_driver_that_cannot_leaves_the_map_empty(model: Any, play: Play) -> None:
    play(works=False)
    with instrument.labelled(model), annotated_capture(None) as found:
        Generation(model, torch.tensor([[1, 2, 3]])).prefill()
    assert found == {}


def test_an_older_torch_captures_all_the_same(play: Play) -> None:
    play(older=True)
    with annotated_capture(None) as found:
        pass
    assert found == {}


def test_a_capture_without_annotations_asks_for_none(play: Play) -> None:
    play()
    with plain_capture(None) as found:
        pass
    assert found == {}


def test_a_capture_that_fails_leaves_everything_as_it_was(play: Play) -> None:
    played = play()
    before = ranges.label_range, ranges._recording
    with pytest.raises(RuntimeError, match="not permitted"), annotated_capture(None):
        raise RuntimeError("not permitted")
    assert (ranges.label_range, ranges._recording) == before
    assert not played.enabled


# --- what a replay makes of them ------------------------------------------------------------------


def by_nodes(ran: list[Op], nodes: dict[int, str], reference: list[Op]) -> Any:
    found = load(replay(ran, "decode", nodes=NODES[: len(ran)]))
    return label_replays(found, of_step(reference), nodes)


def test_nodes_that_say_the_same_change_nothing() -> None:
    found, findings = by_nodes(OPS, MARKED, OPS)
    assert findings == ()
    assert names(found) == [op.label for op in OPS]
    # What is between two labels has the mark of their container.
    found, findings = by_nodes(OPS, MARKED | {NODES[2]: "layer.0.attn"}, OPS)
    assert findings == ()
    assert names(found) == [op.label for op in OPS]
    _, findings = by_nodes(OPS, MARKED | {NODES[2]: "decode"}, OPS)
    assert findings == ()


def test_nodes_that_say_otherwise_refuse_the_graph() -> None:
    found, (finding,) = by_nodes(OPS, MARKED | {NODES[2]: "norm"}, OPS)
    assert set(names(found)) == {"graph_replay"}
    assert "gives nvjet_64x8 another label than its node, norm" in finding.message


def test_nodes_decide_where_the_order_does_not_match() -> None:
    """Fills have no mark."""
    found, (finding,) = by_nodes(OPS, MARKED, OPS[::-1])
    expected = ["graph_replay" if op.fills else op.label for op in OPS]
    assert names(found) == expected
    assert (finding.code, finding.count) == ("graph-unproven", 1)


def test_an_empty_map_is_as_good_as_none() -> None:
    found, findings = by_nodes(OPS, {}, OPS)
    assert (names(found), findings) == ([op.label for op in OPS], ())
    _, (finding,) = by_nodes(OPS, {}, OPS[::-1])
    assert finding.code == "graph-refused"


def test_marks_of_nodes_that_a_trace_does_not_number_are_not_used() -> None:
    found, findings = labelled(replay(OPS, "decode"), of_step(OPS))
    assert findings == ()
    found = load(replay(OPS, "decode"))
    after, told = label_replays(found, of_step(OPS), {1: "norm"})
    assert (names(after), told) == ([op.label for op in OPS], ())


def test_the_file_of_nodes(tmp_path: Path) -> None:
    write_nodes(tmp_path / "n.json", {2**40: "norm"})
    assert read_nodes(tmp_path / "n.json") == {2**40: "norm"}
    with pytest.raises(TraceError, match="cannot be read"):
        read_nodes(tmp_path / "none.json")
    (tmp_path / "n.json").write_text('{"x": "norm"}')
    with pytest.raises(TraceError, match="is not a file of nodes of ours"):
        read_nodes(tmp_path / "n.json")
