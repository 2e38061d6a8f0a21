"""The Python API: a model and inputs of one's own in, the command line's records out."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
import transformers
from make.commands import Commands, environment
from make.labelled_models import gaps_without_a_name, label_counts, recorded, unchanged
from make.paths import ROOT
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import DynamicCache

import qwen3_profile
from qwen3_profile import api, labels
from qwen3_profile.analysis.part_rows import part_tree
from qwen3_profile.errors import ConfigError, ModelError, OutputError, ProfileError, RunError
from qwen3_profile.measure import instrument
from qwen3_profile.records.load import Loaded
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.notebook import html_table, longest_parts
from qwen3_profile.views.report.build import build_report

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SHARED = {"shared_expert_intermediate_size": 24}
TOKENS = torch.arange(10).view(2, 5)
NEXT = torch.arange(2).view(2, 1)

QKV = ["q_proj", "k_proj", "v_proj"]
CORE = ["rope", "kv_cache", "attn_forward", "o_proj"]
NORMS = ["q_norm", "k_norm"]
DENSE = ["gate_proj", "act_fn", "up_proj", "down_proj"]
MOE = ["router", "experts"]


def tiny(family: str, **values: Any) -> Any:
    """A model of two layers with random weights; the same ones each time."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES | values)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


# Family, options of its config, parts of its attention, parts of its feed-forward.
FAMILIES = [
    pytest.param("Llama", {}, QKV + CORE, DENSE, id="Llama: no norms of heads"),
    pytest.param("Qwen2", {}, QKV + CORE, DENSE, id="Qwen2: biases"),
    pytest.param("Mistral", {"sliding_window": 4}, QKV + CORE, DENSE, id="Mistral: a window"),
    pytest.param("Gemma2", {"head_dim": 8}, QKV + CORE, DENSE, id="Gemma2: four norms a layer"),
    pytest.param(
        "Phi3", {}, ["qkv_proj", *CORE], ["gate_up_proj", "act_fn", "down_proj"],
        id="Phi3: fused projections",
    ),
    pytest.param("Qwen3", {"head_dim": 8}, QKV + NORMS + CORE, DENSE, id="Qwen3"),
    pytest.param(
        "Qwen3Moe", {"head_dim": 8, **EXPERTS}, QKV + NORMS + CORE, MOE, id="Qwen3: experts"
    ),
    pytest.param(
        "Qwen2Moe", EXPERTS | SHARED, QKV + CORE,
        [*MOE, "shared_experts", "shared_expert_gate"], id="Qwen2: experts for all beside",
        marks=pytest.mark.skipif(
            transformers.__version__ < "5", reason="its attention was no function of its own"
        ),
    ),
    pytest.param("Mixtral", LOCAL_EXPERTS, QKV + CORE, MOE, id="Mixtral: experts"),
]  # fmt: skip

# (container, label before, label after) -> what lies there that the grammar has no name for.
KNOWN_OTHER = {
    ("ffn", None, "router"): "a view of the tokens as rows; it moves no data",
    ("ffn", None, "shared_experts"): "the same",
    ("ffn", "gate_up_proj", "act_fn"): "gate and up as views of their product",
    ("phase", "lm_head", None): "Gemma2 caps its logits",
    ("phase", "rotary_emb", "layer"): "Gemma2 scales its embeddings, in transformers 4",
    ("layer", None, "input_layernorm"): "Gemma2 cuts a mask to its window, in transformers 4.51",
}


@torch.inference_mode()
def prefill_and_decode(model: nn.Module) -> None:
    """With the ranges round the passes that `label` makes itself."""
    first = model(TOKENS, use_cache=True, logits_to_keep=1)
    model(NEXT, past_key_values=first.past_key_values, use_cache=True, logits_to_keep=1)


@pytest.mark.parametrize(("family", "values", "attn", "ffn"), FAMILIES)
class TestFamilies:
    def test_every_op_has_a_name(
        self, family: str, values: dict[str, Any], attn: list[str], ffn: list[str], tmp_path: Path
    ) -> None:
        model = tiny(family, **values)
        with qwen3_profile.label(model), recorded(tmp_path) as roots:
            prefill_and_decode(model)
        assert [root.name for root in roots] == ["prefill", "decode"]
        assert {gap[:3] for gap in gaps_without_a_name(roots)} <= KNOWN_OTHER.keys()

    def test_labels_are_the_parts_that_it_has(
        self, family: str, values: dict[str, Any], attn: list[str], ffn: list[str], tmp_path: Path
    ) -> None:
        model = tiny(family, **values)
        with qwen3_profile.label(model) as found, recorded(tmp_path) as roots:
            prefill_and_decode(model)
        assert found.missing == found.replaced == ()
        assert found.moe_layers == (frozenset({0, 1}) if "router" in ffn else frozenset())
        for root in roots:
            written = label_counts([root])
            assert set(written) == {root.name, "causal_mask", *found.expected}
            for block, parts in (("attn", attn), ("ffn", ffn)):
                for layer in range(2):
                    head = f"layer.{layer}.{block}."
                    mine = [name.removeprefix(head) for name in written if name.startswith(head)]
                    assert sorted(mine) == sorted(parts)

    def test_nothing_is_left_behind(
        self, family: str, values: dict[str, Any], attn: list[str], ffn: list[str]
    ) -> None:
        model = tiny(family, **values)
        with unchanged(model):
            qwen3_profile.trace_forward(model, TOKENS, num_runs=1, warmup_runs=0)

    def test_its_record_has_them(
        self, family: str, values: dict[str, Any], attn: list[str], ffn: list[str]
    ) -> None:
        model = tiny(family, **values)
        found = qwen3_profile.trace_forward(model, TOKENS, num_runs=1, warmup_runs=0)
        assert [finding.code for finding in found.record.findings] == []
        record = found.record.to_json()
        assert record["model"]["parameters"] == sum(p.numel() for p in model.parameters())
        assert record["model"]["num_layers"] == len(record["layer_details"]) == 2
        for layer in record["layer_details"]:
            assert set(attn) <= layer["attn_details"].keys()
            assert set(ffn) <= layer["ffn_details"].keys()
        table = found.table()
        assert f"{family}ForCausalLM, 2 layers, given weights, on cpu" in table
        assert all(part in table for part in (*attn, *ffn))


@pytest.mark.parametrize(
    ("folded", "num_layers", "names"),
    [
        pytest.param(("norm",), 1, ["norm"], id="outside the layers"),
        pytest.param(("layer.*",), 2, ["layer.0", "layer.1"], id="the layers themselves"),
        pytest.param(
            ("layer.*.attn.q_proj", "layer.1.ffn.router"), 2,
            ["layer.0.attn.q_proj", "layer.1.attn.q_proj", "layer.1.ffn.router"],
            id="what some layers have stays",
        ),
        pytest.param((), 3, [], id="nothing"),
    ],
)  # fmt: skip
def test_labels_are_folded_over_layers(
    folded: tuple[str, ...], num_layers: int, names: list[str]
) -> None:
    assert labels.fold_layers(names, num_layers) == folded
    assert list(labels.unfold_layers(folded, num_layers)) == names


# --- records


def names(value: Any) -> Any:
    """The keys of a record, level by level; values, which differ between runs, left out."""
    if isinstance(value, dict):
        return {key: names(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [names(inner) for inner in value]
    return None


def test_the_record_is_the_command_lines(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(tmp_path, "--dtype", "float32", "--batch-size", 2)
    assert done.code == 0, done.err
    (theirs,) = done.records()
    config = transformers.Qwen3Config(**json.loads((commands.model / "config.json").read_text()))
    model = transformers.Qwen3ForCausalLM(config).eval()
    ids = torch.randint(256, (2, 8))
    found = qwen3_profile.trace_forward(
        model, ids, use_cache=True, logits_to_keep=1, num_runs=1, warmup_runs=1
    )
    ours = json.loads(json.dumps(found.record.to_json()))
    assert names(ours) == names(theirs)
    same = (
        "batch_size", "input_len", "phase", "dtype", "num_runs", "warmup_runs", "device",
        "attn_implementation", "logits_to_keep", "use_cache", "inference_mode", "steps",
        "decode_steps", "schema_version", "findings", "environment", "ledger_ns",
    )  # fmt: skip
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["model"]["parameters"] == theirs["model"]["parameters"]
    (saved,) = qwen3_profile.to_records(tmp_path / "traces/run1")
    assert calls_of(found.record) == calls_of(saved)
    ours_table, their_table = (table_words(text) for text in (found.table(), done.out))
    assert ours_table <= their_table


def calls_of(record: qwen3_profile.TimingRecord) -> dict[tuple[str, ...], int]:
    return {path: part.total.calls for path, part in record.times.forward.walk()}


def table_words(text: str) -> set[str]:
    """The names of the rows of parts, with their indent."""
    rows = text.partition("part, all layers")[2].partition("share: of")[0].splitlines()[1:]
    return {row[:29] for row in rows}


def test_a_saved_profile_gives_the_same_record(commands: Commands, tmp_path: Path) -> None:
    found = qwen3_profile.trace_forward(tiny("Llama"), TOKENS, num_runs=2)
    folder = found.save(tmp_path / "traces" / "mine")
    saved = qwen3_profile.to_records(folder)
    assert [r.to_json() | {"run": ""} for r in saved] == [
        r.to_json() | {"run": ""} for r in found.records
    ]
    assert {r.facts.run for r in saved} == {"mine"}
    assert qwen3_profile.to_table(saved) == found.table()
    exported = commands.export(tmp_path, "traces/mine")
    assert (exported.code, len(exported.records())) == (0, 2)
    report = (folder / "report.html").read_text()
    assert report == build_report(folder, Loaded([saved]))
    assert len(list(folder.glob("*.pt.trace.json.gz"))) == 1
    with pytest.raises(OutputError, match="is already there"):
        found.save(folder)


def part_ns(record: TimingRecord, name: str) -> int:
    rows = part_tree(record.times.forward)
    return next(row.times.cpu_ns for row in rows if row.name == name)


def test_a_notebook_shows_the_picture_and_the_table() -> None:
    found = qwen3_profile.trace_forward(tiny("Llama"), TOKENS, num_runs=2)
    assert repr(found) == "<Profile of prefill, 2 runs; table() shows it>"
    picture = found.plot()._repr_svg_()
    parts = longest_parts(found.records)
    assert found._repr_html_() == picture + html_table(found.records) + parts
    assert (picture.count("<circle"), parts.count("<circle")) == (2, 10)
    times = sorted(part_ns(each, "q_proj") / 1e6 for each in found.records)
    drawn = found.plot("attn/q_proj").svg
    assert (
        f"layers/attn/q_proj: CPU time in clock passes; 2 passes: p50 {sum(times) / 2:.3f}" in drawn
    )
    assert drawn == found.plot("q_proj").svg
    with pytest.raises(ConfigError, match="'q_prj' is none of this pass; did you mean q_proj"):
        found.plot("q_prj")
    bare = found.to_pandas().query("quantity == 'total_time'").value.tolist()
    assert bare == [(each.total_ns or 0) / 1e9 for each in found.records]


def test_the_trace_is_that_of_the_record() -> None:
    found = qwen3_profile.trace_forward(tiny("Llama"), TOKENS, num_runs=1)
    trace = found.trace
    assert {"prefill", "layer.1.attn.rope"} <= set(trace.names)
    (again,) = qwen3_profile.to_records(trace)
    # What the clock read is in no trace, nor are the bytes that it moves.
    clocked, traced = found.record.times, again.times
    assert (clocked.has_clock, traced.has_clock) == (True, False)
    assert traced == replace(clocked, traffic=None, forward=traced.forward, has_clock=False)
    names = [[part.name for part in each.forward.each()] for each in (clocked, traced)]
    assert names[0] == names[1]
    attribution = qwen3_profile.attribute(trace)
    assert len(attribution.owner) == len(trace.device) == 0
    assert "layer.0.ffn.act_mul" in attribution.scopes.names


def test_a_decode_step_sees_the_same_cache_each_time() -> None:
    model = tiny("Llama")
    with torch.inference_mode():
        cache = model(TOKENS, use_cache=True).past_key_values
    before = cache.layers[0].keys.clone() if hasattr(cache, "layers") else None
    found = qwen3_profile.trace_forward(model, NEXT, past_key_values=cache, num_runs=2)
    assert cache.get_seq_length() == 5
    assert before is None or torch.equal(cache.layers[0].keys, before)
    for record in found.records:
        assert (record.phase, record.steps) == ("decode", 1)
        told = record.to_json()
        assert (told["input_len"], told["decode_steps"]) == (5, 1)
        assert [step["context_len"] for step in told["traced_steps"]] == [6]
        assert told["step_times"] == [told["total_time"]]
    assert "TPOT" in found.table()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        pytest.param({}, {"use_cache": True, "logits_to_keep": 0}, id="as transformers does"),
        pytest.param({"use_cache": False}, {"use_cache": False}, id="no cache, and none is missed"),
        pytest.param({"phase": "decode"}, {"phase": "decode"}, id="a phase of one's own choice"),
        pytest.param({"inference_mode": False}, {"inference_mode": False}, id="with gradients"),
        pytest.param({"return_dict": False}, {"use_cache": False}, id="an output without names"),
    ],
)
def test_the_record_says_how_it_was_called(call: dict[str, Any], told: dict[str, Any]) -> None:
    found = qwen3_profile.trace_forward(tiny("Llama"), TOKENS, num_runs=1, warmup_runs=0, **call)
    record = found.record.to_json()
    assert {key: record[key] for key in told} == told
    assert record["findings"] == []
    assert (record["model"]["weights"], record["seed"]) == ("given", None)


def test_gradients_are_the_callers_choice() -> None:
    model = tiny("Llama")
    seen = []
    model.lm_head.register_forward_hook(
        lambda module, args, output: seen.append((output.is_inference(), output.requires_grad))
    )
    for inference_mode in (True, False):
        qwen3_profile.trace_forward(
            model, TOKENS, num_runs=1, warmup_runs=0, inference_mode=inference_mode
        )
    # A bare pass, one by the clock, a traced one, and one that is counted.
    assert seen == [(True, False)] * 4 + [(False, True)] * 4


def test_the_base_model_alone_is_a_model() -> None:
    found = qwen3_profile.trace_forward(tiny("Llama").model, TOKENS, num_runs=1, warmup_runs=0)
    assert found.record.findings == ()
    parts = found.record.to_json()["model_details"]
    assert "norm" in parts
    assert "lm_head" not in parts


def test_padding_is_told() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1] * 5])
    found = qwen3_profile.trace_forward(tiny("Llama"), TOKENS, attention_mask=mask, num_runs=1)
    assert found._run.configs[0].lengths == (3, 5)


def test_a_module_without_a_name_is_told() -> None:
    model = tiny("Llama")
    model.model.layers[1].self_attn.gadget = nn.Linear(1, 1)
    found = qwen3_profile.trace_forward(model, TOKENS, num_runs=1, warmup_runs=0)
    (finding,) = found.record.findings
    assert finding.code == "unlabelled"
    assert finding.message.startswith(
        "1 kinds of modules have no label, the first: attn: no label for module gadget (1 times)"
    )


def test_each_pass_of_a_generation_is_a_record(tmp_path: Path) -> None:
    model = tiny("Qwen2")
    with qwen3_profile.label(model), profile(activities=[ProfilerActivity.CPU]) as profiler:
        model.generate(TOKENS, max_new_tokens=3, do_sample=False)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    records = qwen3_profile.to_records(tmp_path / "trace.json")
    assert [record.phase for record in records] == ["prefill", "decode", "decode"]
    table = qwen3_profile.to_table(records)
    assert table.count("part, all layers") == 2


# --- what is refused


def on_two_devices() -> nn.Module:
    model = tiny("Llama")
    model.lm_head.to("meta")
    return model


@contextmanager
def profiling() -> Iterator[None]:
    with profile(activities=[ProfilerActivity.CPU]):
        yield


@pytest.mark.parametrize(
    ("make", "call", "error", "told"),
    [
        pytest.param(
            lambda: nn.Linear(1, 1), {}, ModelError, "Linear: has no decoder layers", id="no model"
        ),
        pytest.param(
            lambda: print, {}, ModelError, "is no torch.nn.Module; pass the model", id="a function"
        ),
        pytest.param(on_two_devices, {}, ModelError, "is on cpu, meta; move it", id="two devices"),
        pytest.param(
            lambda: tiny("Llama").double(), {}, ConfigError, "has weights of float64", id="dtype"
        ),
        pytest.param(lambda: tiny("Llama"), {"num_runs": 0}, ConfigError, "num_runs", id="no runs"),
    ],
)
def test_what_cannot_be_traced(
    make: Callable[[], Any], call: dict[str, Any], error: type[ProfileError], told: str
) -> None:
    with pytest.raises(error) as caught:
        qwen3_profile.trace_forward(make(), TOKENS, **call)
    assert told in str(caught.value)


def test_a_call_without_input_is_refused() -> None:
    with pytest.raises(ModelError, match="called without input_ids"):
        qwen3_profile.trace_forward(tiny("Llama"), use_cache=False)


def test_two_profilers_at_once_are_refused() -> None:
    with profiling(), pytest.raises(RunError, match="another profiler is active"):
        qwen3_profile.trace_forward(tiny("Llama"), TOKENS)


def test_a_labelled_model_is_refused_and_stays_labelled() -> None:
    model = tiny("Llama")
    with qwen3_profile.label(model):
        with pytest.raises(RunError, match="is labelled already"):
            qwen3_profile.trace_forward(model, TOKENS, num_runs=1)
        assert "forward" in vars(model)


def test_a_cache_that_cannot_be_copied_is_told() -> None:
    model = tiny("Llama")
    cache = DynamicCache()
    model(TOKENS, past_key_values=cache, use_cache=True)
    with pytest.raises(ModelError, match=r"past_key_values: cannot be copied; fill it under"):
        qwen3_profile.trace_forward(model, NEXT, past_key_values=cache)


def test_what_the_model_raises_comes_through() -> None:
    model = tiny("Llama")
    with unchanged(model), pytest.raises(IndexError):
        qwen3_profile.trace_forward(model, torch.full((1, 2), 64))


# --- names


def test_the_public_names_are_there() -> None:
    for name in qwen3_profile.__all__:
        assert getattr(qwen3_profile, name).__name__ == name
        assert name in dir(qwen3_profile)
    assert sorted(qwen3_profile._HOME) == sorted(qwen3_profile.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trace_backward'"):
        _ = qwen3_profile.trace_backward


def test_saved_files_need_no_torch() -> None:
    sample = ROOT / "tests/data/qwen3-0.6b_decode_b1_ctx128.json.gz"
    code = f"""if True:
        import sys
        from qwen3_profile import attribute, load_trace, to_records, to_table
        trace = load_trace({str(sample)!r})
        assert len(attribute(trace).owner) == len(trace.device) > 1000
        assert to_table(to_records({str(sample)!r}))
        print("torch" in sys.modules)"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples/own_model.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "LlamaForCausalLM, 2 layers, given weights, on cpu" in out
    assert "'q_proj_cuda': 0.0" in out


def test_the_phase_is_ours_only_where_it_is_asked_for(tmp_path: Path) -> None:
    model = tiny("Llama")
    with instrument.labelled(model), recorded(tmp_path) as roots:
        model(TOKENS)
    assert "prefill" not in {root.name for root in roots}


# --- the command line


@pytest.mark.parametrize(
    ("model_type", "values"),
    [
        pytest.param("llama", {}, id="Llama"),
        pytest.param("qwen2", {}, id="Qwen2"),
        pytest.param("mistral", {"sliding_window": 4}, id="Mistral"),
        pytest.param("phi3", {}, id="Phi3"),
        pytest.param("gemma2", {"head_dim": 8}, id="Gemma2"),
        pytest.param("mixtral", LOCAL_EXPERTS, id="experts"),
    ],
)
def test_model_name_takes_another_decoder(
    commands: Commands, tmp_path: Path, model_type: str, values: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **SIZES, **values}))
    done = commands.profile(
        tmp_path, "--model-name", tmp_path, "--num-layers", 1, "--dtype", "float32",
        "--decode-steps", 1,
    )  # fmt: skip
    assert done.code == 0, done.err
    prefill, decode = done.records()
    for record in (prefill, decode):
        assert len(record["layer_details"]) == record["model"]["num_layers"] == 1
        assert record["model"]["model_layers"] == 2
        assert record["model"]["hidden_size"] == 32
        assert (shape := record["model"]["shape"]) is None or shape["hidden_size"] == 32
        assert record["model"]["moe_layers"] == ([0] if values == LOCAL_EXPERTS else [])
        assert record["findings"] == []
    assert prefill["model"]["parameters"] > 64 * 32


# --- what the pages and the docstrings show

_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = ROOT / "docs/measuring.md"
_INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)


def fenced(text: str) -> list[str]:
    return _FENCE.findall(text)


def indented(text: str | None) -> list[str]:
    return [dedent(block) for block in _INDENTED.findall(str(text)) if block.strip()]


@pytest.mark.parametrize(
    ("blocks", "count"),
    [
        pytest.param(fenced(PAGE.read_text(encoding="utf-8")), 2, id="page"),
        pytest.param(indented(api.__doc__), 3, id="api"),
        pytest.param(indented(qwen3_profile.__doc__), 1, id="package"),
    ],
)
def test_examples_run(
    blocks: list[str],
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny("Llama")
    qwen3_profile.trace_forward(model, TOKENS, num_runs=1).save("traces/run1")
    given = {name: getattr(qwen3_profile, name) for name in qwen3_profile.__all__}
    given |= {"torch": torch, "model": model, "input_ids": TOKENS}
    assert len(blocks) == count
    for block in blocks:
        exec(block, given)
        assert "part, all layers" in capsys.readouterr().out


def test_both_pages_show_the_same() -> None:
    chinese = PAGE.parent / "zh-CN" / PAGE.name
    assert fenced(PAGE.read_text(encoding="utf-8")) == fenced(chinese.read_text(encoding="utf-8"))
