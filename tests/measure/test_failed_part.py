"""The part that an exception comes from, in models that nobody labelled."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from make.labelled_models import TOKENS, modeling, tiny

from qwen3_profile.measure.failed_part import failed_part


def failing(model: Any, target: Any, name: str) -> BaseException:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with mock.patch.object(target, name, fail), pytest.raises(torch.OutOfMemoryError) as caught:
        model(TOKENS)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "path", "label"),
    [
        ("dense", "model.layers.1.mlp.up_proj", "layer.1.ffn.up_proj"),
        ("dense", "model.layers.0.self_attn.q_norm", "layer.0.attn.q_norm"),
        ("dense", "model.layers.1.input_layernorm", "layer.1.input_layernorm"),
        ("dense", "model.embed_tokens", "embed_tokens"),
        ("dense", "model.norm", "norm"),
        ("dense", "lm_head", "lm_head"),
        ("moe", "model.layers.0.mlp.experts", "layer.0.ffn.experts"),
    ],
)
def test_a_module(kind: str, path: str, label: str) -> None:
    model = tiny(kind)
    error = failing(model, model.get_submodule(path), "forward")
    assert failed_part(model, error) == label


def test_the_innermost_part_is_named() -> None:
    model = tiny("dense")
    assert failed_part(model, failing(model, torch.nn.functional, "embedding")) == "embed_tokens"
    assert (
        failed_part(model, failing(model, torch.nn.functional, "linear")) == "layer.0.attn.q_proj"
    )


def test_functions_of_attention_have_the_labels_of_their_parts() -> None:
    model = tiny("dense", "eager")
    error = failing(model, torch.nn.functional, "softmax")
    assert failed_part(model, error) == "layer.0.attn.attn_forward"
    error = failing(model, modeling(model), "apply_rotary_pos_emb")
    assert failed_part(model, error) == "layer.0.attn"


def test_what_comes_from_no_part_has_no_label() -> None:
    assert failed_part(tiny("dense"), MemoryError("no memory")) == ""
