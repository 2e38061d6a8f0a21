"""CUDA graphs as only a CUDA device can show them; `pytest -m gpu tests/gpu/test_gpu_graphs.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands, Done

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

_GRAPH = ("--device", "cuda", "--dtype", "bfloat16", "--cuda-graph", "--cache", "static")


@pytest.fixture(scope="module")
def graphed(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A prefill and a decode as graphs, two runs each."""
    folder = tmp_path_factory.mktemp("graphs")
    return commands.profile(
        folder, "--batch-size", 2, "--input-len", 32, "--decode-steps", 5, "--num-runs", 2, *_GRAPH
    )


def test_the_run_ends_well(graphed: Done) -> None:
    assert graphed.code == 0, graphed.err
    assert graphed.errors == []
    found = [(r["phase"], r["execution"]) for r in graphed.records()]
    assert found == [("prefill", "cuda_graph")] * 2 + [("decode", "cuda_graph")] * 2


def test_the_pool_of_a_graph_holds_what_its_pass_takes(commands: Commands, tmp_path: Path) -> None:
    """The pool is of whole segments; the peak that the pass adds lies in it."""
    done = commands.profile(
        tmp_path, "--batch-size", 4, "--input-len", 512, "--decode-steps", 2, "--memory", *_GRAPH
    )
    assert done.code == 0, done.err
    for record in done.records():
        memory = record["memory"]
        assert memory["whole"]["peak_bytes"] == memory["allocator_peak_bytes"]
        assert memory["graph_pool_bytes"] % (2 << 20) == 0
        assert memory["graph_pool_bytes"] >= memory["whole"]["rise_bytes"] > 0
        assert memory["labels"]["layer.0.ffn.gate_proj"]["retained_bytes"] > 0
    assert done.out.count("CUDA graph: its own pool holds") == 2


def test_every_event_of_a_replay_has_its_label(graphed: Done) -> None:
    for record in graphed.records():
        assert record["findings"] == []
        assert "graph_replay" not in record["model_details"]
        ledger = record["ledger_ns"]
        assert ledger["labels"] == ledger["device_time"] > 0
        assert ledger["unattributed"] == 0
        for layer in record["layer_details"]:
            for part in ("q_proj", "rope", "attn_forward", "o_proj"):
                assert layer["attn_details"][f"{part}_cuda"] > 0, part


def test_the_parts_take_what_they_take_eagerly(graphed: Done) -> None:
    """Of a decode; a captured prefill may take another attention kernel."""
    for record in graphed.records():
        if record["phase"] == "decode":
            eager = record["eager"]
            assert eager["device_events"] == record["device_events"]
            assert record["cuda_total"] == pytest.approx(eager["cuda_total"], rel=0.25)


def test_export_gives_the_same_records(commands: Commands, graphed: Done, tmp_path: Path) -> None:
    done = commands.export(tmp_path, graphed.cwd / "traces" / "run1")
    assert done.code == 0, done.err
    assert done.records() == graphed.records()


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_prefill_alone(commands: Commands, tmp_path: Path, cache: str) -> None:
    done = commands.profile(
        tmp_path, "--device", "cuda", "--cuda-graph", "--cache", cache, "--input-len", 32
    )
    assert done.code == 0, done.err
    (record,) = done.records()
    assert record["findings"] == []


def test_what_cannot_be_captured_is_one_line(commands: Commands, tmp_path: Path) -> None:
    """The mask that transformers makes for eager attention is copied from the host."""
    done = commands.profile(
        tmp_path, "--device", "cuda", "--cuda-graph", "--input-len", 32,
        "--attn-implementation", "eager",
    )  # fmt: skip
    if done.code:
        assert done.code == 1
        (error,) = done.errors
        assert "cannot be captured as a graph" in error


def test_padded_sequences_decode_too(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(
        tmp_path, "--batch-size", 3, "--input-len", 24, "--ragged", "--decode-steps", 3, *_GRAPH
    )
    assert done.code == 0, done.err
    prefill, decode = done.records()
    assert decode["findings"] == []
    # The mask of a captured prefill is made by other kernels: labelled, or refused with the first.
    assert {finding["code"] for finding in prefill["findings"]} <= {"graph-refused"}


def test_later_sessions_are_whole(commands: Commands, tmp_path: Path) -> None:
    """A session that spans a capture leaves the next one with kernels without timestamps."""
    entries: list[dict[str, Any]] = [
        {"execution": "cuda_graph"}, {}, {"execution": "cuda_graph", "input_len": 16},
    ]  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps({"configs": entries}))
    done = commands.profile(
        tmp_path, "--configs", "c.json", "--cache", "static", "--decode-steps", 3, "--num-runs", 2,
        "--device", "cuda",
    )  # fmt: skip
    assert done.code == 0, done.err
    records = done.records()
    assert len(records) == 12
    for record in records:
        assert record["findings"] == []
        assert record["ledger_ns"]["unattributed"] == 0


def test_a_mixture_of_experts_is_a_graph_or_a_clear_refusal(
    sparse_commands: Commands, tmp_path: Path
) -> None:
    """Eager experts ask the device which of them have tokens, which no capture allows."""
    done = sparse_commands.profile(tmp_path, "--decode-steps", 2, *_GRAPH)
    if done.code:
        assert done.code == 1
        (error,) = done.errors
        assert "cannot be captured as a graph" in error
