"""Steps and their times, and the names and numbers that `timing_records.json` gives them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from make.kineto import cpu_op, forward_pass, kernel, label, launch, split, step
from make.samples import decode_record, facts, lone_record, record, training_record

from qwen3_profile.attribution.findings import WARNING, Finding
from qwen3_profile.attribution.pass_parts import layers, short_name
from qwen3_profile.label_parts import required_parts
from qwen3_profile.passes.pass_times import PassTimes, Unattributed, read_steps

# --- steps --------------------------------------------------------------------------------------


def one_step(*events: str) -> PassTimes:
    (found,) = read_steps(split(*events))
    return found


def test_the_times_of_a_step() -> None:
    found = one_step(
        step(3, 0, 100), label("prefill", 10, 90), cpu_op("norm", 20, 30),
        launch(1, 22, 25), kernel(1, 40, 50), launch(2, 60, 61, thread=9), kernel(2, 45, 70),
        launch(3, 95, 96), kernel(3, 97, 99), kernel(77, 80, 81), kernel(78, 80, 81),
    )  # fmt: skip
    assert (found.number, found.start_ns, found.forward.name) == (3, 0, "prefill")
    assert (found.device_ns, found.device_events) == (10 + 25 + 2 + 1 + 1, 5)
    # 40..70, 80..81, 97..99
    assert found.busy_ns == 33
    # from the start of the step, then before 80 and before 97
    assert found.gap_ns == 40 + 10 + 16
    assert found.cross_thread_events == 1
    assert found.unattributed == (
        Unattributed("no launch record", 2, 2), Unattributed("no label open", 2, 1),
    )  # fmt: skip
    assert found.unattributed_ns == 4
    assert found.forward.total.device_ns == 35
    assert found.balances


def test_a_ledger_that_does_not_balance_says_so() -> None:
    assert not replace(one_step(*forward_pass(1)), device_ns=1).balances


def test_each_step_has_its_own_events() -> None:
    first, second = read_steps(
        split(
            step(0, 0, 50), label("prefill", 0, 40), launch(1, 10, 11), kernel(1, 60, 63),
            step(1, 50, 99), label("decode", 50, 90), launch(2, 52, 53), kernel(2, 70, 75),
        )
    )  # fmt: skip
    assert (first.forward.name, first.device_ns) == ("prefill", 3)
    assert (second.forward.name, second.device_ns) == ("decode", 5)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="an empty trace"),
        pytest.param([step(0, 0, 50), cpu_op("aten::mm", 5, 10)], id="a step without labels"),
        pytest.param([step(0, 0, 50), label("norm", 5, 10)], id="a label outside forward passes"),
    ],
)
def test_steps_without_a_forward_pass_give_nothing(events: list[str]) -> None:
    assert read_steps(split(*events)) == ()


def test_layers_are_in_the_order_of_their_numbers() -> None:
    names = ["layer.10", "layer.9", "norm", "layer.2", "layer.0"]
    events = [label(name, 10 * at, 10 * at + 9) for at, name in enumerate(names)]
    forward = one_step(label("prefill", 0, 90), *events).forward
    assert [layer.name for layer in layers(forward)] == [
        "layer.0",
        "layer.2",
        "layer.9",
        "layer.10",
    ]
    assert [short_name(layer) for layer in layers(forward)] == ["0", "2", "9", "10"]


# --- JSON ---------------------------------------------------------------------------------------

PARTS_OF_ATTN = {
    "q_proj", "q_proj_cuda", "q_norm", "q_norm_cuda", "k_proj", "k_proj_cuda", "k_norm",
    "k_norm_cuda", "v_proj", "v_proj_cuda", "rope", "rope_cuda", "kv_cache", "kv_cache_cuda",
    "attn_forward", "attn_forward_cuda", "o_proj", "o_proj_cuda", "other", "other_cuda",
}  # fmt: skip
PARTS_OF_FFN = {
    "gate_proj", "gate_proj_cuda", "act_fn", "act_fn_cuda", "up_proj", "up_proj_cuda",
    "down_proj", "down_proj_cuda", "other", "other_cuda",
}  # fmt: skip


def test_the_names_of_a_record() -> None:
    found = record().to_json()
    assert list(found)[:5] == [
        "timestamp", "batch_size", "input_len", "total_time", "layer_details",
    ]  # fmt: skip
    assert set(found) >= {
        "schema_version", "id", "run", "run_index", "phase", "steps", "model", "dtype", "device",
        "attn_implementation", "profiled_time", "disturbance", "cuda_total", "cuda_busy",
        "unattributed_cuda", "unattributed", "model_details", "environment", "config_index",
        "cuda_gap", "seed", "requested_device", "warnings", "findings", "num_runs", "warmup_runs",
        "logits_to_keep", "use_cache", "inference_mode", "trace",
    }  # fmt: skip
    assert set(found["model_details"]) == {
        "embed_tokens", "embed_tokens_cuda", "rotary_emb", "rotary_emb_cuda", "norm", "norm_cuda",
        "lm_head", "lm_head_cuda", "other", "other_cuda",
    }  # fmt: skip
    for layer in found["layer_details"]:
        assert set(layer) == {
            "kind", "attn", "attn_cuda", "attn_details", "ffn", "ffn_cuda", "ffn_details",
            "input_layernorm", "input_layernorm_cuda", "post_attention_layernorm",
            "post_attention_layernorm_cuda", "other", "other_cuda",
        }  # fmt: skip
        assert set(layer["attn_details"]) == PARTS_OF_ATTN
        assert set(layer["ffn_details"]) == PARTS_OF_FFN


def test_the_values_of_a_record() -> None:
    found = record(2, total_ns=40_000, index=1).to_json()
    assert (found["id"], found["run_index"], found["phase"]) == ("A-c0-r1-prefill", 1, "prefill")
    assert (found["batch_size"], found["input_len"], found["dtype"]) == (2, 256, "bfloat16")
    assert (found["total_time"], found["profiled_time"]) == (40e-6, 80e-6)
    assert (found["disturbance"], found["steps"], found["schema_version"]) == (2.0, 1, 2)
    assert (found["forward"], found["forward_cuda"]) == (34e-6, 3.4e-6)
    assert (found["cuda_total"], found["cuda_busy"]) == (3.4e-6, 3.4e-6)
    assert found["cuda_gap"] == (33 * (1000 - 100) + 30) / 1e9
    # Each kernel starts 10 ns after its launch, which took 10.
    assert [found[f"cuda_{name}"] for name in ("queued", "launching", "starved")] == [
        34 * 10 / 1e9, 34 * 10 / 1e9, (33 * (1000 - 100 - 20) + 10) / 1e9,
    ]  # fmt: skip
    assert (found["cuda_in_graph"], found["cuda_blocked"]) == (0, 0)
    assert (found["cpu_source"], found["idle_source"]) == ("traced", "traced")
    assert found["overhead"] == {"clock": None, "device": None, "traced": 2.0}
    assert (found["unattributed_cuda"], found["unattributed"]) == (0.0, [])
    assert found["ledger_ns"] == {"device_time": 3400, "labels": 3400, "unattributed": 0}
    assert (found["device_events"], found["cross_thread_events"]) == (34, 0)
    assert found["model"]["name"] == "Qwen/Qwen3-0.6B"
    shape = found["model"]["shape"]
    assert (shape["num_hidden_layers"], shape["intermediate_size"]) == (2, 3072)
    assert "sources" not in shape
    assert found["environment"]["device_name"] == "NVIDIA H100 80GB HBM3"


def test_times_are_seconds_and_layers_are_in_order() -> None:
    layer, second = record(2).to_json()["layer_details"]
    assert (layer["attn"], layer["attn_cuda"]) == (9e-6, 0.9e-6)
    assert (layer["ffn"], layer["ffn_cuda"]) == (4e-6, 0.4e-6)
    assert layer["input_layernorm"] == layer["post_attention_layernorm"] == 1e-6
    assert layer["attn_details"] == {
        **dict.fromkeys(required_parts("attn"), 1e-6),
        **{f"{part}_cuda": 1e-7 for part in required_parts("attn")},
        "other": 0.0, "other_cuda": 0.0,
    }  # fmt: skip
    assert layer["ffn_details"] == {
        **dict.fromkeys(required_parts("ffn"), 1e-6),
        **{f"{part}_cuda": 1e-7 for part in required_parts("ffn")},
        "other": 0.0, "other_cuda": 0.0,
    }  # fmt: skip
    assert second == layer


def test_on_the_cpu_alone_every_cuda_time_is_zero() -> None:
    def cuda_times(node: Any) -> list[float]:
        if isinstance(node, list):
            return [time for item in node for time in cuda_times(item)]
        if not isinstance(node, dict):
            return []
        own = [value for key, value in node.items() if key.endswith("_cuda")]
        return own + [time for value in node.values() for time in cuda_times(value)]

    found = record(cuda=False).to_json()
    times = cuda_times(found)
    assert len(times) >= 5 + 2 * (5 + 10 + 5) + 2
    assert all(type(time) is float and time == 0.0 for time in times)
    assert (found["cuda_total"], found["cuda_busy"], found["cuda_gap"]) == (0.0, 0.0, 0.0)
    assert found["layer_details"][0]["attn"] == 9e-6


def test_a_training_step_has_the_times_of_its_backward_beside_the_others() -> None:
    found = training_record().to_json()
    model = found["model_details"]
    assert model["lm_head"] == pytest.approx(10e-9)
    assert model["lm_head_bwd"] == pytest.approx(20e-9)
    assert (model["lm_head_cuda"], model["lm_head_bwd_cuda"]) == (0.0, 7e-9)
    assert model["other_bwd"] == pytest.approx(20e-9)
    assert "backward" not in model
    assert found["forward"] == pytest.approx(60e-9)
    assert (found["backward"], found["backward_cuda"]) == pytest.approx((40e-9, 7e-9))
    assert found["ledger_ns"] == {"device_time": 7, "labels": 7, "unattributed": 0}


def json_of(*events: str) -> dict[str, Any]:
    return replace(record(), times=one_step(*events)).to_json()


def test_what_lies_between_labels_has_its_name() -> None:
    a, f = "layer.0.attn", "layer.0.ffn"
    found = json_of(
        label("prefill", 0, 2000), label("layer.0", 100, 1900),
        label(a, 200, 900), cpu_op(f"{a}.attn_forward", 300, 500), cpu_op(f"{a}.o_proj", 600, 900),
        launch(1, 550, 551), kernel(1, 2000, 2007),
        label(f, 1000, 1700), cpu_op(f"{f}.up_proj", 1000, 1200),
        cpu_op(f"{f}.down_proj", 1300, 1700), launch(2, 1250, 1251), kernel(2, 2010, 2021),
        launch(3, 950, 951), kernel(3, 2100, 2105), launch(4, 1800, 1801), kernel(4, 2200, 2203),
        launch(5, 150, 151), kernel(5, 2300, 2302), launch(6, 250, 251), kernel(6, 2400, 2401),
        launch(7, 50, 51), kernel(7, 2500, 2513),
    )  # fmt: skip
    (layer,) = found["layer_details"]
    assert (layer["attn_details"]["merge_heads"], layer["attn_details"]["merge_heads_cuda"]) == (
        100e-9, 7e-9,
    )  # fmt: skip
    assert (layer["ffn_details"]["act_mul"], layer["ffn_details"]["act_mul_cuda"]) == (
        100e-9,
        11e-9,
    )
    assert (layer["residual_attn"], layer["residual_attn_cuda"]) == (100e-9, 5e-9)
    assert (layer["residual_ffn"], layer["residual_ffn_cuda"]) == (200e-9, 3e-9)
    assert (layer["other"], layer["other_cuda"]) == (100e-9, 2e-9)
    assert (layer["attn_details"]["other"], layer["attn_details"]["other_cuda"]) == (100e-9, 1e-9)
    assert found["model_details"] == {"other": 200e-9, "other_cuda": 13e-9}


def test_busy_is_less_than_the_total_where_streams_overlap() -> None:
    found = json_of(
        label("prefill", 0, 90), launch(1, 10, 11), launch(2, 12, 13),
        kernel(1, 20, 30), kernel(2, 25, 40, stream=8),
    )  # fmt: skip
    assert (found["cuda_total"], found["cuda_busy"], found["cuda_gap"]) == (25e-9, 20e-9, 20e-9)


def test_a_layer_of_experts() -> None:
    f = "layer.0.ffn"
    found = json_of(
        label("prefill", 0, 1000), label("layer.0", 100, 900), label(f, 200, 900),
        cpu_op(f"{f}.router", 200, 300), launch(1, 210, 220), kernel(1, 1000, 1004),
        cpu_op(f"{f}.experts", 400, 600), launch(2, 410, 420), kernel(2, 1010, 1020),
        cpu_op(f"{f}.experts", 700, 900), launch(3, 710, 720), kernel(3, 1020, 1040),
    )  # fmt: skip
    details = found["layer_details"][0]["ffn_details"]
    assert (details["router"], details["router_cuda"]) == (100e-9, 4e-9)
    assert (details["experts"], details["experts_cuda"]) == (400e-9, 30e-9)
    assert (details["routing"], details["routing_cuda"]) == (200e-9, 0.0)
    assert "gate_proj" not in details


def test_a_layer_without_attention_says_zero() -> None:
    (layer,) = json_of(label("prefill", 0, 90), label("layer.0", 10, 80))["layer_details"]
    assert layer == {
        "kind": "none",
        "attn": 0.0, "attn_cuda": 0.0, "attn_details": {"other": 0.0, "other_cuda": 0.0},
        "ffn": 0.0, "ffn_cuda": 0.0, "ffn_details": {"other": 0.0, "other_cuda": 0.0},
        "other": 70e-9, "other_cuda": 0.0,
    }  # fmt: skip


def test_unattributed_time_is_told_with_its_reason() -> None:
    found = json_of(
        label("prefill", 0, 90), launch(5, 10, 11), kernel(5, 20, 24), kernel(9, 30, 37)
    )
    assert found["unattributed_cuda"] == 7e-9
    assert found["unattributed"] == [{"reason": "no launch record", "ns": 7, "events": 1}]
    assert found["ledger_ns"] == {"device_time": 11, "labels": 4, "unattributed": 7}


@pytest.mark.parametrize("num_layers", [pytest.param(1, id="one"), pytest.param(3, id="three")])
def test_the_numbers_of_a_record_add_up(num_layers: int) -> None:
    found = record(num_layers).to_json()
    total = sum(v for k, v in found["model_details"].items() if k.endswith("_cuda"))
    for layer in found["layer_details"]:
        total += sum(v for k, v in layer.items() if k.endswith("_cuda"))
        for block in ("attn", "ffn"):
            inside = [v for k, v in layer[f"{block}_details"].items() if k.endswith("_cuda")]
            assert sum(inside) == pytest.approx(layer[f"{block}_cuda"], abs=1e-12)
    assert total + found["unattributed_cuda"] == pytest.approx(found["cuda_total"], abs=1e-12)


def test_what_a_lone_trace_does_not_tell_is_null() -> None:
    found = lone_record().to_json()
    nothing = (
        "batch_size", "input_len", "total_time", "profiled_time", "disturbance", "dtype", "model",
        "environment", "device", "num_runs",
    )  # fmt: skip
    assert {key: found[key] for key in nothing} == dict.fromkeys(nothing)
    assert found["cuda_total"] == 3.4e-6


def test_a_record_is_plain_json() -> None:
    finding = Finding(WARNING, "labels-missing", "2 labels are missing", 2, 0, "layer.0")
    found = replace(record(findings=(finding,)), facts=facts(2)).to_json()
    assert json.loads(json.dumps(found))["findings"] == [
        {"severity": "warning", "code": "labels-missing", "message": "2 labels are missing",
         "count": 2, "ns": 0, "example": "layer.0"},
    ]  # fmt: skip


# --- a decode -------------------------------------------------------------------------------------


def test_a_decode_record_gives_means_per_step_and_each_traced_step() -> None:
    decode = decode_record(
        2, leaves_ns={0: 1000, 4: 3000}, step_times_ns=(5000, 6000, 7000, 8000, 14_000)
    )
    found = decode.to_json()
    assert (found["phase"], found["steps"], found["decode_steps"]) == ("decode", 2, 5)
    assert found["step_times"] == [5e-6, 6e-6, 7e-6, 8e-6, 14e-6]
    assert found["total_time"] == pytest.approx(8e-6)
    assert found["profiled_time"] == pytest.approx(3 * (5e-6 + 14e-6) / 2)
    assert found["disturbance"] == pytest.approx(3.0)
    assert found["tpot"] == pytest.approx({"median": 7e-6, "p90": 11.6e-6, "p99": 13.76e-6})
    assert "ttft" not in found
    # 34 parts of two layers; the mean of 1000 and 3000 ns
    assert found["forward"] == pytest.approx(34 * 2e-6)
    assert found["layer_details"][1]["attn_details"]["rope"] == pytest.approx(2e-6)
    assert found["layer_details"][1]["attn_details"]["rope_cuda"] == pytest.approx(2e-7)
    assert found["model_details"]["lm_head"] == pytest.approx(2e-6)
    assert found["cuda_total"] == pytest.approx(34 * 2e-7)
    # what is counted in ns is of all steps, so that it balances
    assert found["ledger_ns"] == {"device_time": 13_600, "labels": 13_600, "unattributed": 0}
    assert found["device_events"] == 68
    assert json.loads(json.dumps(found))["tpot"] == found["tpot"]


def test_a_traced_step_says_where_it_was_and_what_each_layer_took() -> None:
    first, last = decode_record(
        2, leaves_ns={0: 1000, 4: 3000}, step_times_ns=(5000, 6000, 7000, 8000, 14_000)
    ).to_json()["traced_steps"]
    assert (first["position"], first["context_len"]) == (0, 257)
    assert (last["position"], last["context_len"]) == (4, 261)
    assert (last["total_time"], last["profiled_time"]) == (14e-6, pytest.approx(42e-6))
    assert last["cuda_total"] == last["cuda_busy"] == pytest.approx(34 * 3e-7)
    assert last["cuda_gap"] == pytest.approx((30 + 33 * (3000 - 300)) / 1e9)
    block = {"attn": 9e-6, "attn_cuda": 9e-7, "ffn": 4e-6, "ffn_cuda": 4e-7}
    assert first["layers"] == [pytest.approx(block)] * 2
    assert last["layers"] == [pytest.approx({k: 3 * v for k, v in block.items()})] * 2
