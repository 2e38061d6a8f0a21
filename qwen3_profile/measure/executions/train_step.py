"""Training steps without their optimizer: forward, loss, backward.

The forward computes the logits of all positions and keeps no KV cache. The model stays in eval
mode, which in a Qwen3 differs from train mode in nothing that runs: it has no dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.nn import functional

from qwen3_profile.config import RunConfig
from qwen3_profile.labels import BACKWARD, LOSS
from qwen3_profile.measure import instrument
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.pass_kinds import (
    BARE,
    PASS_KINDS,
    PassKind,
    PassSeries,
    SeriesOfPasses,
)
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import PROFILER_RANGES, LabelMaker, Phase, annotation, leaf

_IGNORED = -100


class TrainStep:
    """Forward and backward over one batch, as often as wanted.

    Args:
        model: of a `LoadedModel`, inside `with_gradients`.
        inputs: of at least two tokens in its longest sequence.
    """

    def __init__(self, model: Any, inputs: Inputs) -> None:
        self._model = model
        self._given: dict[str, torch.Tensor] = {"input_ids": inputs.ids}
        if inputs.mask is not None:
            positions = (inputs.mask.cumsum(dim=1) - 1).clamp(min=0)
            self._given |= {"attention_mask": inputs.mask, "position_ids": positions}
        self._targets = next_tokens(inputs)

    @torch.enable_grad()
    def run(self) -> torch.Tensor:
        """One step, which adds to the gradients of the parameters; its loss, a float32 scalar."""
        logits = self._model(**self._given, use_cache=False).logits
        with leaf(LOSS):
            loss = functional.cross_entropy(
                logits.float().flatten(0, 1), self._targets.flatten(), ignore_index=_IGNORED
            )
        with annotation(BACKWARD):
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def forget(self) -> None:
        """Drops the gradients, as an optimizer does before the next step."""
        self._model.zero_grad(set_to_none=True)


def next_tokens(inputs: Inputs) -> torch.Tensor:
    """int64 [batch_size, input_len]: the token after each, or -100 where none is to be learnt."""
    ids = inputs.ids
    if inputs.mask is not None:
        ids = ids.masked_fill(inputs.mask == 0, _IGNORED)
    targets = functional.pad(ids[:, 1:], (0, 1), value=_IGNORED)
    # Padding is followed by a first token, which nothing predicts.
    return targets if inputs.mask is None else targets.masked_fill(inputs.mask == 0, _IGNORED)


@contextmanager
def with_gradients(model: Any) -> Iterator[None]:
    """Inside the block all weights want gradients, or of a model with adapters theirs alone; after
    it they are as before, and have none.
    """
    named = dict(model.named_parameters())
    adapters = [parameter for name, parameter in named.items() if "lora_" in name]
    before = [(parameter, parameter.requires_grad) for parameter in named.values()]
    for parameter in adapters or named.values():
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)
            parameter.grad = None


class TrainStepExecution:
    """Training steps of a config; each begins without gradients."""

    kinds: tuple[PassKind, ...] = PASS_KINDS

    phases: tuple[Phase, ...] = ("train_step",)

    def __init__(self, model: Any, inputs: Inputs, config: RunConfig, recorder: Recorder) -> None:
        self.config = config
        self.lengths = inputs.lengths
        self._model = model
        self._inputs = inputs

    def prepared(self, files: ConfigFiles) -> AbstractContextManager[None]:
        return with_gradients(self._model)

    def labelled(
        self, labels: LabelMaker = PROFILER_RANGES
    ) -> AbstractContextManager[instrument.Instrumentation]:
        return instrument.labelled(self._model, labels=labels)

    def warm_up(self) -> None:
        step = TrainStep(self._model, self._inputs)
        step.run()
        step.forget()

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        step = TrainStep(self._model, self._inputs)
        yield PassSeries("train_step", step.run, self.warm_up, rewind=step.forget)
        step.forget()

    def counted(self) -> SeriesOfPasses:
        yield from self.passes(BARE)
