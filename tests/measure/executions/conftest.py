"""What the tests of executions share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM


@pytest.fixture(scope="module")
def model() -> Any:
    """A dense model of two layers, whose greedy choices differ from step to step."""
    torch.manual_seed(0)
    config = Qwen3Config(
        head_dim=16,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        num_key_value_heads=2,
        # Weights of this size make them differ.
        initializer_range=0.5,
        vocab_size=97,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()
