"""Forward passes as serving does them: one prefill, and its decode steps.

Every forward runs in inference mode, with the KV cache, and computes the logits of the last
position only. In a generation each forward is followed by the greedy choice of the next token.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from qwen3_profile.config import RunConfig
from qwen3_profile.measure import instrument
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.model.experts import counted_routing, experts_of
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.model.kv_cache import (
    cache_keyword,
    rewinding,
    static_cache,
    takes_positions,
)
from qwen3_profile.measure.pass_kinds import PASS_KINDS, PassKind, PassSeries, SeriesOfPasses
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import PROFILER_RANGES, LabelMaker, Phase, leaf
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.run_folder.run_json import Compiled


class Generation:
    """One batch of sequences under way: a prefill, then as many decode steps as were announced.

    Args:
        model: of a `LoadedModel`.
        input_ids: int64 [batch_size, input_len].
        decode_steps: how many tokens per sequence will follow; with 0 no token is chosen at all.
        cache: "dynamic" grows by each token, "static" is allocated at its full length at once.
        mask: int64 [batch_size, input_len], 0 where a sequence is padded on the left; None where
            none is.
        kept: a static cache to use again in place of a new one; it is emptied. What is compiled, or
            captured as a graph, goes on working on the tensors that it has seen first.
    """

    def __init__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        decode_steps: int = 0,
        cache: str = "dynamic",
        mask: torch.Tensor | None = None,
        kept: Any = None,
    ) -> None:
        self._model = model
        self._input_ids = input_ids
        self._decode_steps = decode_steps
        self._takes_positions = takes_positions(model)
        self._keyword = cache_keyword(model)
        self._length = 0
        self._next_ids: torch.Tensor | None = None
        input_len = input_ids.shape[1]
        self._cache: Any = None
        self._kept = kept
        self._static_len = input_len + decode_steps if cache == "static" else 0
        self._mask, self._positions = whole_mask(mask, decode_steps)
        self._logits: torch.Tensor | None = None
        self.restart()

    def restart(self) -> None:
        """Back to before the prefill, with an empty cache."""
        self._length, self._next_ids = 0, None
        self._cache = self._logits = None  # two caches may not fit
        if self._kept is not None:
            self._kept.reset()
            self._cache = self._kept
        elif self._static_len:
            batch_size = self._input_ids.shape[0]
            self._cache = static_cache(self._model, batch_size, self._static_len)

    def kept_state(self) -> Callable[[], None]:
        """Brings back, whenever it is called, the state of this moment: between two passes."""
        length, next_ids, rewind = self._length, self._next_ids, rewinding(self._cache)

        def bring_back() -> None:
            self._length, self._next_ids = length, next_ids
            rewind()

        return bring_back

    @property
    def next_ids(self) -> torch.Tensor | None:
        """The tokens chosen last, int64 [batch_size, 1]; None where none was chosen."""
        return self._next_ids

    @property
    def logits(self) -> torch.Tensor:
        """Those of the last forward, [batch_size, 1, vocab_size].

        Raises:
            RuntimeError: nothing was prefilled.
        """
        if self._logits is None:
            raise RuntimeError("no logits: call prefill first")
        return self._logits

    def choose(self, next_ids: torch.Tensor | None) -> None:
        """Makes others the next tokens than those that were chosen last."""
        self._next_ids = next_ids

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
        start, end = self._length, self._length + input_ids.shape[1]
        given = {self._keyword: self._cache}
        if self._takes_positions:
            given["cache_position"] = torch.arange(start, end, device=input_ids.device)
        if self._mask is not None and self._positions is not None:
            given["attention_mask"] = self._mask[:, :end]
            given["position_ids"] = self._positions[:, start:end]
        output = self._model(
            input_ids=input_ids,
            use_cache=True,
            logits_to_keep=1,
            **given,
        )
        self._cache = output.past_key_values
        self._logits = output.logits
        self._length = end
        if self._decode_steps:
            with leaf("sample"):
                self._next_ids = output.logits[:, -1:].argmax(-1)


def whole_mask(
    mask: torch.Tensor | None, decode_steps: int
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The mask of the input and of all that will be decoded, and the position of each token.

    Made beforehand, so that no step has to lengthen them. Padding has position 0; it is never seen.
    """
    if mask is None:
        return None, None
    whole = torch.cat((mask, mask.new_ones(mask.shape[0], decode_steps)), dim=1)
    return whole, (whole.cumsum(dim=1) - 1).clamp(min=0)


class EagerExecution:
    """Prefill and decode steps of a config, op by op.

    Args:
        model: of a `LoadedModel`.
        recorder: of its device.
    """

    kinds: tuple[PassKind, ...] = PASS_KINDS

    def __init__(self, model: Any, inputs: Inputs, config: RunConfig, recorder: Recorder) -> None:
        self.config = config
        self.lengths = inputs.lengths
        self.phases: tuple[Phase, ...] = ("prefill",)
        if config.decode_steps:
            self.phases = ("prefill", "decode")
        self._model = model
        self._inputs = inputs
        self._recorder = recorder

    def prepared(self, files: ConfigFiles) -> AbstractContextManager[Compiled | None]:
        return nullcontext()

    def labelled(
        self, labels: LabelMaker = PROFILER_RANGES
    ) -> AbstractContextManager[instrument.Instrumentation]:
        return instrument.labelled(self._model, labels=labels)

    def warm_up(self) -> None:
        generation = self._generation()
        generation.prefill()
        # All steps: some kernels are prepared anew for each length of the context that they meet.
        for _ in range(self.config.decode_steps):
            generation.decode()

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        return self._series()

    def counted(self) -> SeriesOfPasses:
        return self._series()

    def _series(self) -> SeriesOfPasses:
        """A generation."""
        generation, config = self._generation(), self.config
        restart = generation.restart
        yield PassSeries("prefill", generation.prefill, self._lead_in(), rewind=restart)
        if config.decode_steps:
            yield PassSeries(
                "decode",
                generation.decode,
                self._step_lead_in(),
                config.decode_steps,
                config.traced_positions,
                rewind=_rewinding(generation),
            )

    def _generation(self) -> Generation:
        return _generation(self._model, self._inputs, self.config)

    def _lead_in(self) -> Callable[[], None]:
        """A prefill; its memory is free again afterwards."""
        return lambda: self._generation().prefill()

    def _step_lead_in(self) -> Callable[[], None]:
        return decoding_aside(self._model, self._inputs)


def _rewinding(generation: Generation) -> Callable[[], None]:
    """Brings a generation back to where it is when this is called first."""
    kept: list[Callable[[], None]] = []

    def rewind() -> None:
        if kept:
            kept[0]()
        else:
            kept.append(generation.kept_state())

    return rewind


def decoding_aside(model: Any, inputs: Inputs) -> Callable[[], None]:
    """Runs a decode step of short sequences of its own, a new one each time."""
    aside: list[Generation] = []

    def decode() -> None:
        if not aside:
            aside.append(Generation(model, inputs.ids[:, -1:], decode_steps=1))
            aside[0].prefill()
        aside[0].decode()

    return decode


def count_routing(
    model: Any, inputs: Inputs, config: RunConfig
) -> dict[str, tuple[LayerRouting, ...]]:
    """Phase -> where its tokens go, of a generation that nobody times; empty if dense."""
    if not experts_of(model):
        return {}
    with counted_routing(model) as counter:
        generation = _generation(model, inputs, config)
        generation.prefill()
        found = {str(config.first_phase): counter.take()}
        for _ in range(config.decode_steps):
            generation.decode()
        return found | {"decode": counter.take()}


def _generation(model: Any, inputs: Inputs, config: RunConfig) -> Generation:
    return Generation(model, inputs.ids, config.decode_steps, config.cache, inputs.mask)
