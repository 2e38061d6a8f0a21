"""A model that calling operators holds up and one that products do are told apart on a CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make.commands import DENSE, Commands

from qwen3_profile.analysis.explain import Explanation, explain
from qwen3_profile.analysis.verdict import COMPUTE_BOUND, LAUNCH_BOUND, UNDECIDED
from qwen3_profile.records.load import load
from qwen3_profile.views.terminal.explain import render_explanation

# Of a layer 15 million weights, against 0.1 million of the other model.
LARGE = DENSE | {
    "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128, "num_attention_heads": 8,
}  # fmt: skip


def explained(commands: Commands, folder: Path, config: dict[str, Any], *argv: object) -> Any:
    """What is said of the last phase of a run of such a model, with ceilings measured beside it."""
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(config))
    asked = replace(commands, model=folder / "model", ceilings=True)
    done = asked.profile(folder, "--dtype", "float32", "--run-name", "r", *argv)
    assert done.code == 0, done.err
    return explain(load(folder / "traces" / "r").groups[-1])


@pytest.fixture(scope="module")
def decode(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    argv = ("--decode-steps", 3, "--num-runs", 3)
    found = explained(commands, tmp_path_factory.mktemp("decode"), DENSE, *argv)
    assert isinstance(found, Explanation)
    return found


@pytest.fixture(scope="module")
def prefill(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    found = explained(commands, tmp_path_factory.mktemp("prefill"), LARGE, "--input-len", 256)
    assert isinstance(found, Explanation)
    return found


def most(found: Explanation) -> str:
    """What most of the pass goes to, of that which is decided."""
    return next(kind for kind in found.whole.split if kind != UNDECIDED)


def share(found: Explanation, kind: str) -> float:
    return found.whole.split.get(kind, 0.0) / found.whole.wall_ns


def test_most_of_a_tiny_models_decode_goes_to_calling_operators(decode: Explanation) -> None:
    """On a machine that others load the verdict may be withheld, and is never the other one."""
    assert most(decode) == LAUNCH_BOUND
    assert decode.whole.kind in (LAUNCH_BOUND, UNDECIDED)
    assert share(decode, LAUNCH_BOUND) > 2 * share(decode, COMPUTE_BOUND)


def test_most_of_a_large_prefill_goes_to_products(prefill: Explanation) -> None:
    assert most(prefill) == COMPUTE_BOUND
    assert prefill.whole.kind in (COMPUTE_BOUND, UNDECIDED)
    assert share(prefill, COMPUTE_BOUND) > 2 * share(prefill, LAUNCH_BOUND)


def test_they_differ_by_what_the_clock_cannot_turn(
    decode: Explanation, prefill: Explanation
) -> None:
    """FLOPs for each byte of a projection, against where the roofs of this CPU meet; and how much
    of the pass the sum of the floors is.
    """
    intensity = {
        each.shown.phase: next(p.roof.intensity for p in each.parts if p.name == "gate_proj")
        for each in (decode, prefill)
    }
    assert intensity["decode"] == pytest.approx(0.5, rel=0.1)
    assert intensity["prefill"] == pytest.approx(2 * 256 * 1024 * 3072 / (
        4 * (256 * 1024 + 1024 * 3072 + 256 * 3072)
    ))  # fmt: skip
    floors = [sum(p.roof.floor_ns for p in each.parts) / each.whole.wall_ns
              for each in (decode, prefill)]  # fmt: skip
    assert floors[0] < 0.5 * floors[1]


def test_the_pages_speak_of_operators_and_not_of_a_gpu(
    decode: Explanation, prefill: Explanation
) -> None:
    for found in (decode, prefill):
        page = render_explanation(found)
        assert "kernel" not in page
        assert "CUDA graph" not in page
        assert "GPU" not in page
        assert "for the shortest operator" in " ".join(page.split())
