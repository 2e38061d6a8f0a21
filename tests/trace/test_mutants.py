"""Mutants of real traces are refused, told, or read as plainly: a part of the campaign."""

from __future__ import annotations

import sys

import pytest
from make.paths import DATA

sys.path.insert(0, str(DATA.parent.parent / "fuzz"))

import mutate

TRACES = (
    "qwen3-30b-a3b_2layers_prefill_b2_l256.json.gz",
    "cases/contradictions/0_good.json",
    "cases/contradictions/13_graph_good.json",
    "cases/lost_hip_graph/trace.json",
    "qwen3-0.6b_graph_decode_capture.json.gz",
)


def test_no_mutant_survives() -> None:
    counts, survivors = mutate.campaign([DATA / name for name in TRACES], 440, seed=0)
    assert survivors == []
    for kind in ("label twice", "device event twice"):
        assert not counts[kind]["right"], kind


def test_a_survivor_is_told_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutate, "told_by", lambda _: frozenset())
    trace = str(DATA / TRACES[1])
    kind = list(mutate.KINDS).index("call on other thread")
    assert mutate.main([trace, "--mutants", "1", "--seed", str(kind)]) == 1
    assert f"--mutants 1 --seed {kind}: the file contradicts itself" in capsys.readouterr().out
