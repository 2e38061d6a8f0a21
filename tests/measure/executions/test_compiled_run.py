"""Real compilations by Inductor's C++ on a two-layer model, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from make.commands import Commands, Done

from qwen3_profile.labels import expected_labels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler"),
]

_FEW = ("--dtype", "float32", "--input-len", 6)
# What a graph computes in a kernel of something else, or in a view that takes no time.
_NEVER_ALONE = {"layer.0", "layer.1"} | {f"layer.{i}.{x}" for i in (0, 1) for x in ("attn", "ffn")}


@pytest.fixture(scope="module")
def both(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Eager and compiled, a prefill and two decode steps of each."""
    folder = tmp_path_factory.mktemp("both")
    return commands.profile(
        folder, *_FEW, "--executions", "eager,compiled", "--decode-steps", 2, "--cache", "static"
    )


@pytest.fixture(scope="module")
def by_layer(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("by_layer")
    return commands.profile(folder, *_FEW, "--compile", "--compile-scope", "layer")


def compiled(done: Done) -> list[dict[str, Any]]:
    return [record for record in done.records() if record["execution"] == "compiled"]


def test_the_run_ends_well(both: Done) -> None:
    assert both.code == 0, both.err
    assert both.errors == []
    assert [(r["execution"], r["phase"]) for r in both.records()] == [
        ("eager", "prefill"), ("eager", "decode"), ("compiled", "prefill"), ("compiled", "decode"),
    ]  # fmt: skip


def test_every_kernel_call_is_matched(both: Done) -> None:
    for record in compiled(both):
        found = record["compiled"]
        assert record["findings"] == []
        assert found["refusals"] == []
        assert found["graphs"] == 1
        # Of each layer 7 projections, attention, 3 of norms and rope, 1 of the activation.
        assert found["kernel_calls"] >= 2 * 12 + 2
        assert sum(kernel["calls"] for kernel in found["kernels"]) == found["kernel_calls"]


def test_every_part_of_the_model_is_in_some_kernel(both: Done) -> None:
    for record in compiled(both):
        seen = {label for kernel in record["compiled"]["kernels"] for label in kernel["labels"]}
        missing = set(expected_labels(2, frozenset())) - seen - _NEVER_ALONE
        assert missing == set()
        assert {"layer.0.residual_attn", "layer.1.residual_ffn", "layer.0.ffn.act_mul"} <= seen
        # Nothing is left without a name.
        assert not {label for label in seen if label in _NEVER_ALONE or not label}


def test_each_projection_is_a_kernel_of_its_own(both: Done) -> None:
    for record in compiled(both):
        calls = {
            tuple(kernel["labels"]): kernel["calls"]
            for kernel in record["compiled"]["kernels"]
            if not kernel["fused"]
        }
        for part in ("attn.q_proj", "attn.k_proj", "attn.o_proj", "ffn.gate_proj", "ffn.down_proj"):
            for layer in (0, 1):
                assert calls[f"layer.{layer}.{part}",] == 1
        assert calls["lm_head",] == 1


def test_outputs_agree_and_the_compilers_time_is_apart(both: Done) -> None:
    for record in compiled(both):
        assert record["output_error"] < 1e-4
        assert record["compile_time"] > 100 * record["total_time"]
        assert (record["compile_mode"], record["compile_scope"]) == ("default", "model")


def test_what_each_kernel_moves_is_known(both: Done) -> None:
    for record in compiled(both):
        kernels = record["compiled"]["kernels"]
        assert all(kernel["bytes"] > 0 for kernel in kernels)
        inside = sum(kernel["bytes"] for kernel in kernels)
        # Outside of the graph only the next token is chosen.
        sample = record["traffic"]["parts"]["sample"]
        assert sample == {"operations": 1, "bytes": 4 * 256 + 8}
        assert record["traffic"]["bytes"] == inside + sample["bytes"]


def test_fusion_removes_bytes_and_products_move_the_same(both: Done) -> None:
    for phase in ("prefill", "decode"):
        eager, fused = (r["traffic"]["parts"] for r in both.records() if r["phase"] == phase)
        for part in ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "lm_head"):
            assert fused[part] == eager[part]
        for part in ("input_layernorm", "post_attention_layernorm", "norm"):
            assert fused[part]["bytes"] < eager[part]["bytes"]
        # One kernel computes both.
        assert "act_mul" not in fused
        activation = eager["act_fn"]["bytes"] + eager["act_mul"]["bytes"]
        assert fused["act_fn"]["bytes"] == activation * 3 / 5


def test_a_pass_moves_the_sum_of_its_parts(both: Done) -> None:
    for record in both.records():
        parts = record["traffic"]["parts"].values()
        assert record["traffic"]["bytes"] == sum(part["bytes"] for part in parts)
    decode = next(r for r in both.records() if (r["execution"], r["phase"]) == ("eager", "decode"))
    assert set(decode["traffic"]["parts"]) <= parts_of(decode)


def parts_of(record: dict[str, Any]) -> set[str]:
    """The parts of an eager record that have a time."""
    found = set(record["model_details"])
    for layer in record["layer_details"]:
        found |= {*layer, *layer["attn_details"], *layer["ffn_details"]}
    return found


def test_the_tables_show_both_side_by_side(both: Done) -> None:
    assert both.out.count("executions compared") == 2
    assert "all matched" in both.out
    assert max(map(len, both.out.splitlines())) <= 100


def test_export_gives_the_same_again(commands: Commands, both: Done, tmp_path: Path) -> None:
    done = commands.export(tmp_path, both.cwd / "traces" / "run1")
    assert done.code == 0, done.err
    assert done.records() == both.records()
    assert done.out.startswith(both.tables.strip())


def test_a_provenance_of_other_kernels_labels_none(
    commands: Commands, both: Done, tmp_path: Path
) -> None:
    shutil.copytree(both.cwd / "traces" / "run1", tmp_path / "run1")
    (path,) = (tmp_path / "run1").glob("*.provenance.json")
    document = json.loads(path.read_text())
    for graph in document["graphs"]:
        graph["kernels"][3], graph["kernels"][4] = graph["kernels"][4], graph["kernels"][3]
    path.write_text(json.dumps(document))
    done = commands.export(tmp_path, tmp_path / "run1")
    assert done.code == 0, done.err
    for record in compiled(done):
        assert record["compiled"]["kernels"] == []
        assert record["findings"][0]["code"] == "graph-unmatched"
        assert "call 3 is " in record["findings"][0]["message"]
        assert record["model_details"]["compiled graph"] > 0


def test_each_layer_by_itself(by_layer: Done) -> None:
    assert by_layer.code == 0, by_layer.err
    (record,) = by_layer.records()
    assert record["findings"] == []
    found = record["compiled"]
    assert (found["graphs"], found["refusals"]) == (2, [])
    for layer in (0, 1):
        labels = [label for kernel in found["kernels"] for label in kernel["labels"]]
        assert f"layer.{layer}.attn.q_proj" in labels
        assert f"layer.{layer}.residual_attn" in labels
    # What is not compiled has the labels of an eager pass, and is counted as one.
    outside = {"embed_tokens", "rotary_emb", "norm", "lm_head"}
    assert outside <= set(record["model_details"])
    moved = record["traffic"]["parts"]
    assert outside | {"q_proj", "down_proj"} <= set(moved)
    assert moved["lm_head"] == {"operations": 1, "bytes": 4 * (64 + 64 * 256 + 256)}
    assert record["traffic"]["bytes"] == sum(part["bytes"] for part in moved.values())


def test_outputs_that_differ_are_refused(commands: Commands, tmp_path: Path) -> None:
    """Without Inductor, which would only take longer."""
    import torch

    compile_with = torch.nn.Module.compile
    fast = mock.patch.object(
        torch.nn.Module,
        "compile",
        lambda self, **_: compile_with(self, backend="eager", dynamic=False),
    )
    with (
        fast,
        mock.patch("qwen3_profile.measure.executions.compiled.largest_error", return_value=0.5),
    ):
        done = commands.profile(tmp_path, *_FEW, "--compile")
    assert done.code == 1
    (error,) = done.errors
    assert "compiled logits differ from eager ones by 0.5 of their length" in error


def test_several_executions_load_the_model_once(commands: Commands, tmp_path: Path) -> None:
    """And say once what there is to say of it."""
    import torch

    from qwen3_profile.measure import session

    compile_with = torch.nn.Module.compile
    fast = mock.patch.object(
        torch.nn.Module,
        "compile",
        lambda self, **_: compile_with(self, backend="eager", dynamic=False),
    )
    with fast, mock.patch.object(session, "load_model", wraps=session.load_model) as load:
        done = commands.profile(
            tmp_path, *_FEW, "--compile", "--executions", "eager,compiled", "--weights", "auto"
        )
    assert done.code == 0, done.err
    assert load.call_count == 1
    assert done.err.count("random weights") == 1


def test_the_model_is_as_it_was(both: Done) -> None:
    """Checked where it is cheap: nothing of torch is left changed after a run."""
    import torch._inductor.config as config
    from torch._inductor import compile_fx, debug

    assert both.code == 0
    assert config.post_grad_custom_post_pass is None
    assert config.trace.provenance_tracking_level == 0
    assert debug.dump_inductor_provenance_info.__module__ == debug.__name__
    assert compile_fx.cudagraphify.__module__ == compile_fx.__name__
