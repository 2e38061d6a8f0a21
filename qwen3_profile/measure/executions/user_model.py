"""One call of a user's own model, as it calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from torch import nn

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import RunError
from qwen3_profile.labels import CACHE_PARTS
from qwen3_profile.measure import instrument
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.executions import UncountedError
from qwen3_profile.measure.executions.model_call import Call
from qwen3_profile.measure.model.structure import compiles_layers
from qwen3_profile.measure.pass_kinds import (
    PASS_KINDS,
    WITHOUT_CLOCK,
    PassKind,
    PassSeries,
    SeriesOfPasses,
)
from qwen3_profile.measure.ranges import PROFILER_RANGES, CallPhase, LabelMaker, Phase

# Warm-ups in which a compiled model may be compiled once more, before that is an error.
_MOST_COMPILATIONS = 4


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
        inside = not compiles_layers(self.model)
        with instrument.labelled(self.model, inside_layers=inside, labels=labels) as found:
            # A call without a cache updates none.
            expected = [x for x in found.expected if self.has_cache or not x.endswith(CACHE_PARTS)]
            yield replace(found, expected=tuple(expected))

    def warm_up(self) -> None:
        self._call.prepared()()

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        compiles = self._settle_compiler() if _is_compiled(self.model) else 0
        call = self._call.prepared()
        # Kept beyond the clock, so that freeing them is not measured.
        outputs: list[object] = []

        def again() -> None:
            nonlocal call
            outputs.clear()
            call = self._call.prepared()

        yield PassSeries(self._phase, lambda: outputs.append(call()), self.warm_up, rewind=again)
        self.has_cache = getattr(outputs[0], "past_key_values", None) is not None
        if compiles and _compiles() != compiles:
            raise RunError(
                type(self.model).__name__,
                "was compiled anew in a measured pass, whose time is that of the compiler",
                "raise warmup_runs",
            )

    def _settle_compiler(self) -> int:
        """Runs the model until none of it is compiled any more: its labels, that are put on and
        taken off, are other code to the compiler. Returns how much was compiled so far.
        """
        for _ in range(_MOST_COMPILATIONS):
            before = _compiles()
            self.warm_up()
            if _compiles() == before:
                break
        return _compiles()

    def counted(self) -> SeriesOfPasses:
        if _is_compiled(self.model):
            raise UncountedError("the model is compiled, and its kernels are no operators")
        yield PassSeries(self._phase, self._call.prepared(), self.warm_up)


def _compiles() -> int:
    """How many frames torch.compile has looked at in this process so far, and one."""
    from torch._dynamo.utils import counters

    return 1 + int(counters["frames"]["total"])


def _is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has been asked to compile it, as a whole or in a part."""
    return any(
        hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
        for module in model.modules()
    )
