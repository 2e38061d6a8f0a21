"""Adapters of peft round a model's Linears: each part is shown by what it is made of."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Commands, Done
from make.labelled_models import TOKENS, tiny
from transformers import AutoConfig, AutoModelForCausalLM

from qwen3_profile import label, to_table, trace_forward
from qwen3_profile.analysis.part_rows import part_rows
from qwen3_profile.attribution.parts import Part, sum_times
from qwen3_profile.labels import parse
from qwen3_profile.measure.inductor.module_labels import module_labels

peft = pytest.importorskip("peft")

LORA = ("base", "lora_input", "lora_A", "lora_B", "lora_add")
ALONE = ("base",)


def adapted(kind: str = "dense", **options: Any) -> Any:
    options = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(tiny(kind), peft.LoraConfig(**options)).eval()


def two(model: Any) -> Any:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model.add_adapter("two", config)
    model.base_model.set_adapter(["default", "two"])
    return model


def merged(model: Any) -> Any:
    model.merge_adapter()
    return model


def parts_called(forward: Part, name: str) -> list[Part]:
    return [part for part in forward.each() if part.name.rpartition(".")[2] == name]


def adds_up(part: Part) -> bool:
    """Whether all below it and what is its own make it up, in whole nanoseconds."""
    inner = sum_times(each.total for each in part.parts)
    both = part.own + inner
    return both._replace(calls=0) == part.total._replace(calls=0)


@pytest.mark.parametrize(
    ("model", "pieces", "calls"),
    [
        pytest.param(adapted, LORA, 1, id="one"),
        pytest.param(lambda: adapted(lora_dropout=0.1), LORA, 1, id="with dropout"),
        pytest.param(lambda: two(adapted()), LORA, 2, id="two at once"),
        pytest.param(lambda: merged(adapted()), ALONE, 0, id="merged"),
        pytest.param(lambda: adapted(use_dora=True), LORA, 2, id="dora"),
    ],
)
def test_a_part_is_shown_by_its_pieces(
    model: Callable[[], Any], pieces: tuple[str, ...], calls: int
) -> None:
    profile = trace_forward(model(), TOKENS, num_runs=1)
    forward = profile.record.times.forward
    shown = parts_called(forward, "q_proj")
    assert len(shown) == 2
    for part in shown:
        names = tuple(piece.name.removeprefix(f"{part.name}.") for piece in part.parts)
        assert names == pieces
        assert dict(zip(names, (each.total.calls for each in part.parts), strict=True)).get(
            "lora_A", 0
        ) == calls  # fmt: skip
    assert all(map(adds_up, forward.each()))
    entry = profile.record.to_json()["layer_details"][1]["attn_details"]
    assert list(entry["q_proj_details"])[::2] == [*pieces, "other"]
    inner = sum(entry["q_proj_details"][name] for name in (*pieces, "other"))
    assert inner == pytest.approx(entry["q_proj"])
    assert not profile.record.findings
    assert "The adapters take" in " ".join(profile.table().split())


def test_without_adapters_nothing_is_said() -> None:
    profile = trace_forward(tiny("dense"), TOKENS, num_runs=1)
    assert "adapters" not in profile.table()
    assert "q_proj_details" not in profile.record.to_json()["layer_details"][0]["attn_details"]


def test_a_head_with_adapters_has_rows_of_its_own() -> None:
    record = trace_forward(adapted(target_modules=["lm_head"]), TOKENS, num_runs=1).record
    rows = {row.path[1:]: row.times for row in part_rows(record.times.forward)}
    inner = [rows["lm_head", name] for name in (*LORA, "other")]
    assert sum_times(inner)[1:] == rows["lm_head",][1:]
    assert parse("lm_head.lora_A") is not None
    assert set(record.to_json()["model_details"]["lm_head_details"]) >= set(LORA)


def test_bytes_of_the_pieces_are_those_of_the_part() -> None:
    plain, with_lora = (
        trace_forward(model, TOKENS, num_runs=1).record.to_json()["traffic"]
        for model in (tiny("dense"), adapted(target_modules=["q_proj"]))
    )
    assert list(plain["parts"]) == list(with_lora["parts"])
    more = with_lora["parts"]["q_proj"]["bytes"] - plain["parts"]["q_proj"]["bytes"]
    assert more == with_lora["bytes"] - plain["bytes"] > 0


def test_a_training_step_has_the_pieces_backward_too() -> None:
    model = adapted().train()
    with label(model), torch.profiler.profile() as profiler, torch.enable_grad():
        logits = model(TOKENS, use_cache=False).logits
        logits.float().sum().backward()
    names = {event.name for event in profiler.events()}
    assert {"layer.0.attn.q_proj.lora_A", "layer.1.ffn.down_proj.base"} <= names


@pytest.mark.parametrize("is_on", [True, False])
def test_only_what_runs_is_expected(is_on: bool) -> None:
    model = adapted()
    with nullcontext() if is_on else model.disable_adapter(), label(model) as found:
        pass
    assert any("lora_A" in name for name in found.expected) == is_on
    assert "layer.0.attn.q_proj.base" in found.expected


def test_experts_with_adapters_are_experts() -> None:
    # peft adds the adapters of their tensors to these wherever they are used.
    record = trace_forward(adapted("sparse"), TOKENS, num_runs=1).record
    assert not record.findings
    entry = record.to_json()["layer_details"][0]["ffn_details"]
    assert "experts" in entry
    assert "experts_details" not in entry


def test_a_compiled_graph_has_the_labels_of_pieces() -> None:
    found = module_labels(adapted().get_base_model()).labels
    path = "model.layers.*.self_attn.q_proj"
    assert found[path] == "layer.*.attn.q_proj"
    assert found[f"{path}.base_layer"] == "layer.*.attn.q_proj.base"
    assert found[f"{path}.lora_A.default"] == "layer.*.attn.q_proj.lora_A"


def test_tables_of_a_trace_alone(tmp_path: Any) -> None:
    from qwen3_profile import to_records

    model = adapted()
    with label(model), torch.profiler.profile() as profiler, torch.inference_mode():
        model(TOKENS)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    (record,) = to_records(tmp_path / "trace.json")
    assert all(map(adds_up, record.times.forward.each()))
    assert len(parts_called(record.times.forward, "lora_add")) == 14
    assert "lora_add" in to_table([record])


# --- by the command line


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> list[Path]:
    """Two adapters that peft has saved, of other ranks."""
    found = []
    for name, rank in (("first", 4), ("second", 2)):
        folder = tmp_path_factory.mktemp("adapters") / name
        config = AutoConfig.from_pretrained(commands.model)
        options = peft.LoraConfig(r=rank, target_modules=["q_proj", "down_proj"])
        peft.get_peft_model(AutoModelForCausalLM.from_config(config), options).save_pretrained(
            folder
        )
        found.append(folder)
    return found


def adapters_in(done: Done) -> list[dict[str, Any]]:
    assert (done.code, done.errors) == (0, [])
    (model,) = {json.dumps(record["model"]) for record in done.records()}
    return json.loads(model)["packed"]["adapters"]


def test_adapters_of_folders(commands: Commands, folders: list[Path], tmp_path: Path) -> None:
    done = commands.profile(tmp_path, "--adapter", folders[0], "--adapter", folders[1])
    found = adapters_in(done)
    assert [(each["name"], each["rank"], each["active"]) for each in found] == [
        ("first", 4, True), ("second", 2, True),
    ]  # fmt: skip
    (record,) = done.records()
    details = record["layer_details"][0]
    assert {"base", "lora_A", "lora_B", "lora_add"} <= set(
        details["attn_details"]["q_proj_details"]
    )
    assert "k_proj_details" not in details["attn_details"]
    assert record["model"]["parameters"] == sum(each["parameters"] for each in found) + 115136
    assert not record["findings"]


@pytest.mark.parametrize(
    ("argv", "pieces"),
    [
        pytest.param("--lora-rank 4", LORA, id="beside the weights"),
        pytest.param("--lora-rank 4 --merge-adapters --dtype float32", ALONE, id="merged"),
        pytest.param("--lora-rank 4 --decode-steps 2 --cache static", LORA, id="decode"),
        pytest.param("--lora-rank 4 --backward", LORA, id="training step"),
    ],
)
def test_a_random_adapter(
    commands: Commands, tmp_path: Path, argv: str, pieces: tuple[str, ...]
) -> None:
    done = commands.profile(tmp_path, *argv.split())
    (adapter,) = adapters_in(done)
    assert (adapter["name"], adapter["merged"]) == ("random", pieces == ALONE)
    for record in done.records():
        details = record["layer_details"][1]["ffn_details"]["down_proj_details"]
        assert [name for name in details if "_cuda" not in name and "_bwd" not in name] == [
            *pieces, "other",
        ]  # fmt: skip
        assert not record["findings"]
    assert "The adapters take" in done.out


def test_a_training_step_of_experts_with_adapters(
    sparse_commands: Commands, tmp_path: Path
) -> None:
    done = sparse_commands.profile(tmp_path, "--lora-rank", 2, "--backward")
    assert (done.code, done.errors) == (0, [])


@pytest.mark.slow
def test_a_compiled_model_has_the_pieces(commands: Commands, tmp_path: Path) -> None:
    # As the compiled model without adapters is: what kernels both have are compiled once.
    same = ("--dtype", "float32", "--input-len", 6)
    done = commands.profile(tmp_path, "--lora-rank", 4, "--compile", *same)
    assert (done.code, done.errors) == (0, [])
    (record,) = done.records()
    details = record["layer_details"][0]["attn_details"]["o_proj_details"]
    assert {"base", "lora_A", "lora_B"} <= set(details)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        pytest.param(["--adapter", "none"], "--adapter none: holds no", id="no folder"),
        pytest.param(["--merge-adapters"], "--merge-adapters: has no adapters", id="nothing"),
        pytest.param(["--lora-rank", "0"], "--lora-rank: 0 is out of range", id="no rank"),
        pytest.param(
            ["--lora-rank", "2", "--merge-adapters", "--backward"],
            "--merge-adapters: leaves no adapter", id="nothing to train",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(commands: Commands, tmp_path: Path, argv: list[str], line: str) -> None:
    done = commands.profile(tmp_path, *argv)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(f"error: {line}")
