"""The token ids of a config: drawn, drawn in random lengths, or of prompts.

Sequences that are shorter than the longest are padded on the left, as generation does it, so that
the last column holds the last token of each. Where nothing is padded there is no mask either:
attention without a mask is another kernel, and the one that equal lengths really run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model.load import make_inputs

# What stands where there is no token; the mask hides it, so any id of the vocabulary will do.
_PAD_ID = 0


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The token ids of one batch on their device.

    ids: int64 [batch_size, input_len].
    mask: int64 of the same shape, 1 where there is a token, 0 where there is padding; None where
        there is no padding.
    lengths: the tokens of each sequence.
    """

    ids: torch.Tensor
    mask: torch.Tensor | None
    lengths: tuple[int, ...]


def config_inputs(
    config: RunConfig,
    vocab_size: int,
    seed: int,
    device: torch.device,
    prompts: Sequence[Sequence[int]] = (),
) -> Inputs:
    """The inputs that `config.inputs` names.

    Args:
        config: of the prompts' batch size and length, where there are prompts.
        vocab_size: of the model.
        seed: of what is drawn.
        prompts: token ids of each prompt, none empty; for "prompt" only.

    Raises:
        ModelError: a prompt has a token that the model does not have.
    """
    if config.inputs == "prompt":
        largest = max(max(prompt) for prompt in prompts)
        if largest >= vocab_size:
            what = f"has token {largest}, and the model's vocabulary ends at {vocab_size - 1}"
            raise ModelError("--prompt", what, "give the tokenizer that belongs to the model")
        return _padded([torch.tensor(prompt, dtype=torch.int64) for prompt in prompts], device)
    cpu = torch.device("cpu")
    ids = make_inputs(vocab_size, config.batch_size, config.input_len, seed, cpu)
    lengths = [config.input_len] * config.batch_size
    if config.inputs == "ragged":
        lengths = _random_lengths(config.batch_size, config.input_len, seed)
    return _padded([row[-length:] for row, length in zip(ids, lengths, strict=True)], device)


def _random_lengths(batch_size: int, input_len: int, seed: int) -> list[int]:
    """Lengths from 1 to `input_len`; the longest is raised to it, so that it is what is run."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, input_len + 1, (batch_size,), generator=generator)
    drawn[drawn.argmax()] = input_len
    return [int(length) for length in drawn]


def _padded(rows: Sequence[torch.Tensor], device: torch.device) -> Inputs:
    lengths = tuple(len(row) for row in rows)
    longest = max(lengths)
    ids = torch.full((len(rows), longest), _PAD_ID, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for line, shown, row in zip(ids, mask, rows, strict=True):
        line[longest - len(row) :] = row
        shown[longest - len(row) :] = 1
    padded = min(lengths) < longest
    return Inputs(ids.to(device), mask.to(device) if padded else None, lengths)
