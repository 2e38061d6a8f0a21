"""A model and token ids in, one prefill and its decode steps out: forwards as serving does them.

Every forward runs in inference mode, with the KV cache, and computes the logits of the last
position only. In a generation each forward is followed by the greedy choice of the next token.
"""

from __future__ import annotations

from typing import Any

import torch

from qwen3_profile.caches import static_cache, takes_positions
from qwen3_profile.ranges import leaf


class Generation:
    """One batch of sequences under way: a prefill, then as many decode steps as were announced.

    Args:
        model: of a `LoadedModel`.
        input_ids: int64 [batch_size, input_len].
        decode_steps: how many tokens per sequence will follow; with 0 no token is chosen at all.
        cache: "dynamic" grows by each token, "static" is allocated at its full length at once.
    """

    def __init__(
        self, model: Any, input_ids: torch.Tensor, decode_steps: int = 0, cache: str = "dynamic"
    ) -> None:
        self._model = model
        self._input_ids = input_ids
        self._decode_steps = decode_steps
        self._takes_positions = takes_positions(model)
        self._length = 0
        self._next_ids: torch.Tensor | None = None
        batch_size, input_len = input_ids.shape
        self._cache: Any = None
        if cache == "static":
            self._cache = static_cache(model, batch_size, input_len + decode_steps)

    @torch.inference_mode()
    def prefill(self) -> None:
        """The forward over the whole input."""
        self._forward(self._input_ids)

    @torch.inference_mode()
    def decode(self) -> None:
        """The forward of the token that the one before chose, for each sequence.

        Raises:
            RuntimeError: nothing was prefilled, or no decode step was announced.
        """
        if self._next_ids is None:
            raise RuntimeError("no token to decode: call prefill first")
        self._forward(self._next_ids)

    def _forward(self, input_ids: torch.Tensor) -> None:
        length = input_ids.shape[1]
        positions = {}
        if self._takes_positions:
            positions["cache_position"] = torch.arange(
                self._length, self._length + length, device=input_ids.device
            )
        output = self._model(
            input_ids=input_ids,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **positions,
        )
        self._cache = output.past_key_values
        self._length += length
        if self._decode_steps:
            with leaf("sample"):
                self._next_ids = output.logits[:, -1:].argmax(-1)
