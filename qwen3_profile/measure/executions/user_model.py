"""One call of a user's own model, as it calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from torch import nn

from qwen3_profile.config import RunConfig
from qwen3_profile.measure import instrument
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.executions import UncountedError
from qwen3_profile.measure.executions.model_call import Call
from qwen3_profile.measure.pass_kinds import (
    PASS_KINDS,
    WITHOUT_CLOCK,
    PassKind,
    PassSeries,
    SeriesOfPasses,
)
from qwen3_profile.measure.ranges import PROFILER_RANGES, CallPhase, LabelMaker, Phase


class UserModelExecution:
    """The passes of one call.

    has_cache: whether the last measured one gave a KV cache back.
    """

    def __init__(self, call: Call, config: RunConfig, phase: CallPhase) -> None:
        self.config = config
        self.phases: tuple[Phase, ...] = (phase,)
        is_decode = phase == "decode"
        self.lengths = (config.input_len,) * config.batch_size if is_decode else call.lengths()
        self.has_cache = False
        self.model = call.model
        # Readings of the clock would break its graphs.
        self.kinds = WITHOUT_CLOCK if _is_compiled(call.model) else PASS_KINDS
        self._call = call
        self._phase = phase

    def prepared(self, files: ConfigFiles) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def labelled(
        self, labels: LabelMaker = PROFILER_RANGES
    ) -> Iterator[instrument.Instrumentation]:
        with instrument.labelled(self.model, labels=labels) as found:
            # A call without a KV cache updates none.
            expected = [x for x in found.expected if self.has_cache or ".kv_cache" not in x]
            yield replace(found, expected=tuple(expected))

    def warm_up(self) -> None:
        self._call.prepared()()

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        call = self._call.prepared()
        # Kept beyond the clock, so that freeing them is not measured.
        outputs: list[object] = []
        yield PassSeries(self._phase, lambda: outputs.append(call()), self.warm_up)
        self.has_cache = getattr(outputs[0], "past_key_values", None) is not None

    def counted(self) -> SeriesOfPasses:
        if _is_compiled(self.model):
            raise UncountedError("the model is compiled, and its kernels are no operators")
        yield PassSeries(self._phase, self._call.prepared(), self.warm_up)


def _is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has been asked to compile it, as a whole or in a part."""
    return hasattr(model, "_orig_mod") or any(
        getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()
    )
