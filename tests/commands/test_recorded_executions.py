"""Two layers on an NVIDIA GPU three ways, recorded by the program itself: eager, compiled, graph.

The records beside the run were made when it was recorded. What labels a replay's events must have
is worked out here by plain reading: those of the eager step's, one after the other.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands, Done
from make.paths import ROOT
from make.plain import Plain, plain
from test_recorded_runs import known

RUN = ROOT / "tests/data/runs/ways-2layers"
RECORDED = ROOT / "tests/data/runs/ways_records.json.gz"
WAYS = ("eager", "compiled", "cuda_graph")
REPLAYS = sorted(RUN.glob("raw/*_cuda_graph_decode.run0.step[0-9].kineto.json.gz"))


@pytest.fixture(scope="module")
def exported(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return commands.export(tmp_path_factory.mktemp("ways"), RUN)


def records(done: Done, execution: str) -> list[dict[str, Any]]:
    return [record for record in done.records() if record["execution"] == execution]


def test_the_export_gives_the_records_of_then(exported: Done) -> None:
    assert exported.code == 0, exported.err
    then = json.loads(gzip.decompress(RECORDED.read_bytes()))
    assert [(r["execution"], r["phase"]) for r in exported.records()] == [
        (way, phase) for way in WAYS for phase in ("prefill", "decode")
    ]
    for record, before in zip(exported.records(), then, strict=True):
        assert (before.pop("schema_version"), record["schema_version"]) == (1, 2)
        assert known(record, before) == before


@pytest.mark.parametrize("way", WAYS)
def test_every_event_has_its_label(exported: Done, way: str) -> None:
    for record in records(exported, way):
        assert record["findings"] == []
        ledger = record["ledger_ns"]
        assert ledger["labels"] == ledger["device_time"] > 0
        assert ledger["unattributed"] == 0
        unsplit = {"graph_replay", "compiled graph"} & set(record["model_details"])
        assert not unsplit


def test_a_replay_has_the_events_of_the_eager_step(exported: Done) -> None:
    (decode,) = [r for r in records(exported, "cuda_graph") if r["phase"] == "decode"]
    assert decode["device_events"] == decode["eager"]["device_events"]
    # The mask of a captured prefill is made by kernels of its own.
    (prefill,) = [r for r in records(exported, "cuda_graph") if r["phase"] == "prefill"]
    (eager,) = [r for r in records(exported, "eager") if r["phase"] == "prefill"]
    assert prefill["device_events"] > eager["device_events"]
    assert prefill["model_details"]["causal_mask_cuda"] > 0


def test_parts_of_replays_have_the_time_of_plain_reading(exported: Done) -> None:
    """The mean of the replays' times, their nth event being of the part of the eager nth."""
    (decode,) = [r for r in records(exported, "cuda_graph") if r["phase"] == "decode"]
    expected: Counter[str] = Counter()
    for path in REPLAYS:
        eager = _read(path.with_name(path.name.replace(".kineto", ".eager.kineto")))
        replay = _read(path)
        names = zip(_in_order(eager), sorted(replay.device, key=_start), strict=True)
        for (name, label), event in names:
            assert name == event.name
            expected[label] += event.dur
    count = len(REPLAYS)
    assert count == decode["steps"] == 3
    for index, layer in enumerate(decode["layer_details"]):
        for part in ("q_proj", "k_norm", "rope", "kv_cache", "attn_forward", "o_proj"):
            mean = expected[f"layer.{index}.attn.{part}"] / count / 1e9
            assert layer["attn_details"][f"{part}_cuda"] == pytest.approx(mean, rel=1e-12), part
        for part in ("gate_proj", "act_fn", "up_proj", "act_mul", "down_proj"):
            # The product has no module, so to plain reading it is the FFN's own.
            label = f"layer.{index}.ffn" + ("" if part == "act_mul" else f".{part}")
            mean = expected[label] / count / 1e9
            assert layer["ffn_details"][f"{part}_cuda"] == pytest.approx(mean, rel=1e-12), part


def test_kernels_of_a_compiled_pass_are_those_of_plain_reading(exported: Done) -> None:
    """Together; and each product of matrices is a kernel of its own."""
    for record in records(exported, "compiled"):
        phase, steps = record["phase"], record["steps"]
        traces = [_read(path) for path in sorted(RUN.glob(f"raw/*_compiled_{phase}.*.gz"))]
        assert len(traces) == steps
        device = sum(event.dur for trace in traces for event in trace.device)
        assert record["ledger_ns"]["device_time"] == device
        kernels = record["compiled"]["kernels"]
        products = {
            label: kernel["cuda"]
            for kernel in kernels
            for label in kernel["labels"]
            if label.endswith("_proj") and not kernel["fused"]
        }
        assert len(products) == 2 * 7


def test_the_ways_are_compared(exported: Done) -> None:
    assert exported.out.count("executions compared") == 2
    assert "compiled vs eager" in exported.out
    assert "cuda_graph vs eager" in exported.out


def test_parts_in_which_nothing_ran_are_not_compared(exported: Done) -> None:
    """The mask of an eager prefill is none, and that of the others is one: it stands there."""
    _, prefill, decode = exported.out.split("executions compared")
    for table in (prefill, decode):
        assert "  causal_mask " in table
        assert "split_heads" not in table


def _read(path: Path) -> Plain:
    return plain(path.read_bytes())


def _start(event: Any) -> int:
    start: int = event.start
    return start


def _in_order(trace: Plain) -> list[tuple[str, str]]:
    """Each device event's name and label, in the order in which they were launched."""
    found = []
    told = zip(trace.device, trace.launch_of(), trace.innermost(), strict=True)
    for event, call, label in told:
        assert call is not None
        assert label is not None
        found.append((call.start, event.start, event.name, label))
    return [(name, label) for _, _, name, label in sorted(found)]
