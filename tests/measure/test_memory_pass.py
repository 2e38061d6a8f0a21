"""What a pass allocates: against the trace's own totals, and what a tiny model must keep."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import DENSE, Commands, Done
from make.labelled_models import TOKENS, tiny

from qwen3_profile.api import trace_forward
from qwen3_profile.measure.memory_pass import weights_bytes
from qwen3_profile.records.part_memory import pass_memory
from qwen3_profile.run_folder.memory_events import read_memory

BATCH, LENGTH, STEPS, SIZE = 2, 8, 2, 4
KV = 2 * DENSE["num_key_value_heads"] * DENSE["head_dim"] * DENSE["num_hidden_layers"] * SIZE
LOGITS = BATCH * DENSE["vocab_size"] * SIZE


@pytest.fixture(scope="module")
def done(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Done:
    cwd = tmp_path_factory.mktemp("memory")
    given = ("--batch-size", BATCH, "--input-len", LENGTH, "--dtype", "float32", "--memory")
    return commands.profile(cwd, *given, "--decode-steps", STEPS, "--run-name", "r")


def instants(done: Done, phase: str) -> list[dict[str, Any]]:
    path = next((done.cwd / "traces/r/raw").glob(f"*{phase}.memory.kineto.json.gz"))
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    found = [each for each in events if each["name"] == "[memory]"]
    return [each["args"] for each in sorted(found, key=lambda each: each["ts"])]


def memory_of(done: Done, phase: str) -> dict[str, Any]:
    (path,) = done.cwd.rglob("timing_records.json")
    records = json.loads(path.read_text())
    return next(each["memory"] for each in records if each["phase"] == phase)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_peak_is_the_profilers_own_total_to_the_byte(done: Done, phase: str) -> None:
    assert done.code == 0, done.err
    totals = [each["Total Allocated"] for each in instants(done, phase)]
    before = totals[0] - instants(done, phase)[0]["Bytes"]
    whole = memory_of(done, phase)["whole"]
    assert whole["peak_bytes"] == max(totals)
    assert whole["retained_bytes"] - whole["freed_bytes"] == totals[-1] - before
    assert whole["largest_bytes"] == max(each["Bytes"] for each in instants(done, phase))


def test_a_prefill_keeps_its_cache_and_its_logits(done: Done) -> None:
    memory = memory_of(done, "prefill")
    next_ids = BATCH * 8
    assert memory["whole"]["retained_bytes"] == BATCH * LENGTH * KV + LOGITS + next_ids
    assert memory["labels"]["lm_head"]["retained_bytes"] == LOGITS
    of_layer = memory["labels"]["layer.1.attn.kv_cache"]
    assert of_layer["retained_bytes"] == BATCH * LENGTH * KV // DENSE["num_hidden_layers"]
    q_proj = BATCH * LENGTH * DENSE["num_attention_heads"] * DENSE["head_dim"] * SIZE
    assert memory["labels"]["layer.0.attn.q_proj"] == {
        "peak_bytes": memory["labels"]["layer.0.attn.q_proj"]["peak_bytes"],
        "rise_bytes": q_proj, "retained_bytes": q_proj, "transient_bytes": 0,
        "largest_bytes": q_proj, "freed_bytes": 0,
    }  # fmt: skip


def test_weights_are_counted_by_their_storage_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4), torch.nn.Linear(4, 8))
    model[2].weight = model[0].weight
    model.register_buffer("frequencies", torch.zeros(5))
    assert weights_bytes(model) == SIZE * (4 * 8 + 8 + 8 * 4 + 4 + 8 + 5)


def test_a_decode_step_makes_its_cache_anew(done: Done) -> None:
    memory = memory_of(done, "decode")
    layers, tokens = DENSE["num_hidden_layers"], LENGTH + STEPS
    of_layer = memory["labels"]["layer.1.attn.kv_cache"]
    assert of_layer["retained_bytes"] == BATCH * tokens * KV // layers
    # Of blocks that were there before, a CPU's profiler does not tell that they are given back.
    assert of_layer["freed_bytes"] == 0


def test_the_tables_say_so_and_an_export_again(done: Done, commands: Commands) -> None:
    again = commands.export(done.cwd, done.cwd / "traces/r")
    for out in (done.out, again.out):
        assert out.count("memory in MB, most of any layer") == 2
        assert "At the peak: weights 4." in out  # random ones are of one block of 4 MB
        assert "Would fit at most: " in out


def test_parts_lie_within_the_pass(done: Done) -> None:
    for path in done.cwd.rglob("*.memory.json.gz"):
        (events,) = read_memory(path)
        memory = pass_memory(events)
        assert max(each.peak_bytes for each in memory.parts) == memory.whole.peak_bytes
        assert sum(memory.at_peak.values()) <= memory.whole.peak_bytes
        assert memory.is_complete


def test_a_training_step_keeps_activations_until_its_backward(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.profile(tmp_path, "--dtype", "float32", "--memory", "--backward")
    assert done.code == 0, done.err
    (record,) = done.records(next(iter(tmp_path.rglob("timing_records.json"))).as_posix())
    labels = record["memory"]["labels"]
    # What the layer takes and a backward needs lives on behind it; the backward gives it back.
    assert labels["layer.0"]["retained_bytes"] > labels["layer.0.ffn.down_proj"]["retained_bytes"]
    assert labels["backward"]["freed_bytes"] > labels["layer.0"]["retained_bytes"]


def test_a_config_of_a_file_asks_for_it_too(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"configs": [{"memory": true, "dtype": "float32"}]}')
    done = commands.profile(tmp_path, "--configs", "c.json")
    assert "memory in MB" in done.out


def test_a_call_of_ones_own_records_its_memory() -> None:
    model = tiny("dense")
    profile = trace_forward(model, TOKENS, num_runs=1, memory=True)
    memory = profile.record.memory
    assert memory is not None
    assert memory.weights_bytes == weights_bytes(model)
    assert "memory in MB" in profile.table()
    assert trace_forward(model, TOKENS, num_runs=1).record.memory is None
