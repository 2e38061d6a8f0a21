"""The rows of a pass, and where a scope stands among them."""

from __future__ import annotations

import pytest
from make.samples import training_record

from qwen3_profile.analysis.part_rows import family_of, part_tree, place_of


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("prefill",), (("prefill",), -1)),
        (("prefill", "norm"), (("prefill", "norm"), -1)),
        (("prefill", "layer.7", "layer.7.attn"), (("prefill", "layers", "attn"), 7)),
        (("train_step", "backward", "layer.3"), (("train_step", "backward", "layers"), 3)),
        (("prefill", "nccl"), (("prefill", "nccl"), -1)),
    ],
    ids=str,
)
def test_the_place_of_a_scope(names: tuple[str, ...], expected: object) -> None:
    assert place_of(names) == expected


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("prefill", "other"), ("prefill lm_head", "head"), ("prefill norm", "norms"),
        ("prefill embed_tokens", "embedding"), ("prefill layers", "other"),
        ("prefill layers attn q_norm", "attention"), ("prefill layers ffn down_proj", "ffn"),
        ("prefill layers input_layernorm", "norms"), ("prefill layers residual_attn", "attention"),
        ("train_step backward layers ffn up_proj", "ffn"), ("train_step backward norm", "norms"),
        ("train_step backward lm_head", "head"), ("train_step backward", "other"),
        ("prefill layers attn nccl", "other"),
    ],
    ids=str,
)  # fmt: skip
def test_the_family_of_a_part(path: str, family: str) -> None:
    assert family_of(tuple(path.split())) == family


def test_a_training_step_has_rows_for_its_backward() -> None:
    forward = training_record().times.forward
    rows = {row.path: row for row in part_tree(forward)}
    assert rows["train_step", "backward", "lm_head"].times.cpu_ns == 20
    leaves = [row.times.cpu_ns for row in rows.values() if row.is_leaf]
    assert sum(leaves) == forward.total.cpu_ns
