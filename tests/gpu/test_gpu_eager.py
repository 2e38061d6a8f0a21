"""What only a CUDA device can show; `pytest -m gpu` on a machine that has one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from make.commands import DENSE, Commands, Done, environment, wait

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

_DEVICE = ("--device", "cuda")


@pytest.fixture(scope="module")
def finished(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A prefill and a decode, three runs each."""
    folder = tmp_path_factory.mktemp("gpu")
    return commands.profile(
        folder, "--batch-size", 2, "--input-len", 32, "--decode-steps", 4, "--num-runs", 3, *_DEVICE
    )


def test_the_run_ends_well(finished: Done) -> None:
    assert finished.code == 0, finished.err
    assert finished.errors == []
    assert len(finished.records()) == 6


def test_every_record_has_device_time_and_balances(finished: Done) -> None:
    for record in finished.records():
        assert record["device"] == "cuda:0"
        assert record["cuda_total"] > 0
        ledger = record["ledger_ns"]
        assert ledger["labels"] + ledger["unattributed"] == ledger["device_time"]
        assert ledger["unattributed"] == 0
        assert record["findings"] == []


def test_no_run_loses_events(finished: Done) -> None:
    """A session that begins before CUPTI has detached from the last one records fewer, or none."""
    for phase in ("prefill", "decode"):
        counts = {r["device_events"] for r in finished.records() if r["phase"] == phase}
        assert len(counts) == 1


def test_each_layer_has_device_time_in_each_part(finished: Done) -> None:
    for record in finished.records():
        for layer in record["layer_details"]:
            assert layer["attn_cuda"] > 0
            assert layer["ffn_cuda"] > 0
            for part in ("q_proj", "rope", "attn_forward", "o_proj"):
                assert layer["attn_details"][f"{part}_cuda"] > 0, part


def test_busy_and_gap_are_within_the_pass(finished: Done) -> None:
    for record in finished.records():
        assert 0 < record["cuda_busy"] <= record["cuda_total"]
        if record["phase"] == "prefill":  # of several steps an overhead is the median
            device_pass = record["overhead"]["device"] * record["total_time"]
            assert record["cuda_busy"] + record["cuda_gap"] <= 1.01 * device_pass


def test_the_environment_names_the_device(finished: Done) -> None:
    environment = finished.records()[0]["environment"]
    assert environment["device_name"] == torch.cuda.get_device_name(0)
    assert environment["cuda"] == torch.version.cuda
    assert environment["driver"]


def test_export_gives_the_same_records(commands: Commands, finished: Done, tmp_path: Path) -> None:
    done = commands.export(tmp_path, finished.cwd / "traces" / "run1")
    assert done.code == 0, done.err
    assert done.records() == finished.records()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes_and_attention(
    commands: Commands, tmp_path: Path, attention: str, dtype: str
) -> None:
    done = commands.profile(
        tmp_path, "--dtype", dtype, "--attn-implementation", attention, "--num-runs", 1, *_DEVICE
    )
    assert done.code == 0, done.err
    (record,) = done.records()
    assert record["cuda_total"] > 0
    assert record["ledger_ns"]["unattributed"] == 0


def test_a_mixture_of_experts(sparse_commands: Commands, tmp_path: Path) -> None:
    done = sparse_commands.profile(tmp_path, "--num-runs", 1, *_DEVICE)
    assert done.code == 0, done.err
    for layer in done.records()[0]["layer_details"]:
        assert layer["ffn_details"]["router_cuda"] > 0
        assert layer["ffn_details"]["experts_cuda"] > 0


def test_a_static_cache(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(
        tmp_path, "--cache", "static", "--decode-steps", 3, "--num-runs", 1, *_DEVICE
    )
    assert done.code == 0, done.err
    assert [record["phase"] for record in done.records()] == ["prefill", "decode"]


def test_the_process_ends(commands: Commands, tmp_path: Path) -> None:
    """CUPTI has to be detached by then: it hangs in the handlers of the process's end."""
    process = commands.start_fresh(
        tmp_path, "--decode-steps", 4, "--trace-steps", 2, "--dtype", "bfloat16", *_DEVICE
    )
    done = wait(process, tmp_path, seconds=100)
    assert done.code == 0, done.err


def test_an_index_that_is_not_there_lists_those_that_are(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.profile(tmp_path, "--device", "cuda:99")
    assert done.code == 2
    assert len(done.errors) == 1
    assert "cuda:0" in done.errors[0]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leaves the device with a gigabyte, which modules of kernels need some of."""
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - (1 << 30), dtype=torch.uint8, device="cuda")
    yield
    del held
    torch.cuda.empty_cache()


def test_out_of_memory_fails_one_config_only(
    commands: Commands, tmp_path: Path, little_memory: None
) -> None:
    entries: list[dict[str, Any]] = [
        {"batch_size": 64, "input_len": 40000},
        {"batch_size": 1, "input_len": 8},
    ]
    (tmp_path / "c.json").write_text(json.dumps({"configs": entries}))
    done = commands.profile(tmp_path, "--configs", "c.json", "--num-runs", 1, *_DEVICE)
    assert done.code == 1
    error, last = done.errors
    assert "GB free" in error
    assert "batch_size" in error
    assert last == error.replace("error: ", "failed: ")
    assert [record["batch_size"] for record in done.records()] == [1]


def test_a_backward_lies_in_the_labels_of_its_forward(commands: Commands, tmp_path: Path) -> None:
    """Autograd runs it on a thread of its own."""
    done = commands.profile(
        tmp_path, "--backward", "--batch-size", 2, "--input-len", 32, "--num-runs", 2, *_DEVICE
    )
    assert done.code == 0, done.err
    for record in done.records():
        assert record["phase"] == "train_step"
        assert record["findings"] == []
        ledger = record["ledger_ns"]
        assert ledger["labels"] + ledger["unattributed"] == ledger["device_time"]
        assert record["backward_cuda"] > record["forward_cuda"] > 0
        # A product of the forward and two of the backward, with three operands each, in two layers.
        rows, width, hidden = 2 * 32, DENSE["num_attention_heads"] * DENSE["head_dim"], 64
        operands = rows * width + width * hidden + rows * hidden
        size = torch.finfo(getattr(torch, record["dtype"])).bits // 8
        assert record["traffic"]["parts"]["o_proj"]["bytes"] == 2 * 3 * size * operands
        for layer in record["layer_details"]:
            assert layer["other_bwd_cuda"] == layer["attn_details"]["other_bwd_cuda"] == 0
            for part in ("q_proj", "rope", "attn_forward", "o_proj"):
                assert layer["attn_details"][f"{part}_bwd_cuda"] > 0, part


def test_each_time_is_of_the_pass_that_disturbs_it_least(finished: Done) -> None:
    for record in finished.records():
        assert (record["cpu_source"], record["idle_source"]) == ("clock", "device")
        assert all(record["overhead"][kind] > 0 for kind in ("clock", "device", "traced"))
        # The device idles from the begin of the pass on, and the host is not faster than itself.
        assert record["cuda_busy"] + record["cuda_gap"] < 3 * record["total_time"]


def test_sessions_of_the_users_own_record_what_they_would_without_us(tmp_path: Path) -> None:
    """Four before, four between and four after ours; in a process of its own."""
    code = """
import torch
from torch.profiler import ProfilerActivity, profile

def events():
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as session:
        x = torch.ones(64, device="cuda")
        for _ in range(40):
            x = x + 1
        torch.cuda.synchronize()
    return sum("CUDA" in str(event.device_type) for event in session.events())

def four():
    return [events() for _ in range(4)]

alone = four()
import qwen3_profile
from transformers import Qwen3Config, Qwen3ForCausalLM
config = Qwen3Config(hidden_size=64, intermediate_size=64, num_hidden_layers=2, vocab_size=64,
                     num_attention_heads=2, num_key_value_heads=1, head_dim=32)
model = Qwen3ForCausalLM(config).eval().cuda()
ids = torch.ones(1, 8, dtype=torch.long, device="cuda")
found = [four()]
qwen3_profile.trace_forward(model, ids, num_runs=2)
found.append(four())
with qwen3_profile.label(model), profile(activities=[ProfilerActivity.CUDA]) as session:
    model(ids)
    torch.cuda.synchronize()
assert any("CUDA" in str(event.device_type) for event in session.events())
record = qwen3_profile.trace_forward(model, ids, num_runs=1).record
assert record.times.device_events > 0
found.append(four())
assert min(alone) >= 40
assert found == [alone] * 3, (alone, found)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
