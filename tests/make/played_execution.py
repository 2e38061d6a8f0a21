"""An execution that runs nothing, and notes what the loop of measurements asks it for."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from qwen3_profile.config import RunConfig
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.instrument import Instrumentation
from qwen3_profile.measure.pass_kinds import PASS_KINDS, PassKind, PassSeries, SeriesOfPasses
from qwen3_profile.measure.ranges import PROFILER_RANGES, LabelMaker, Phase

CONFIG = RunConfig(1, 4, "float32", num_runs=2, warmup_runs=1, decode_steps=5, trace_steps=2)


class Tensors:
    """What a series needs, and is to be gone before the next is made."""


@dataclass
class Played:
    """An execution that notes what it is asked for."""

    events: list[str] = field(default_factory=list)
    config: RunConfig = CONFIG
    kinds: tuple[PassKind, ...] = PASS_KINDS
    phases: tuple[Phase, ...] = ("prefill", "decode")
    lengths: tuple[int, ...] = (4,)
    uncounted: Exception | None = None
    fails_after: int = 1 << 10
    alive: list[weakref.ref[Tensors]] = field(default_factory=list)

    @contextmanager
    def prepared(self, files: ConfigFiles) -> Iterator[None]:
        self.events.append("prepared")
        yield
        self.events.append("undone")

    def labelled(
        self, labels: LabelMaker = PROFILER_RANGES
    ) -> AbstractContextManager[Instrumentation]:
        labels = ("norm", "layer.0.attn")
        return nullcontext(Instrumentation(1, frozenset(), (), labels, ("missing",), ()))

    def warm_up(self) -> None:
        self.events.append("warm up")

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        self.events.append(kind.name)
        yield from self._one("prefill", 1, (0,))
        assert [each for each in self.alive if each()] == []
        yield from self._one("decode", 5, (0, 4))
        self.events.append(f"{kind.name} ends")

    def _one(self, phase: Phase, steps: int, chosen: tuple[int, ...]) -> SeriesOfPasses:
        held = Tensors()
        self.alive.append(weakref.ref(held))

        def forward() -> None:
            assert held is not None
            assert gc.isenabled() == (self.events[-1] not in ("timed", "clocked"))
            self.events.append(phase)
            if self.events.count("decode") > self.fails_after:
                raise ZeroDivisionError

        yield PassSeries(phase, forward, forward, steps, chosen)

    def counted(self) -> SeriesOfPasses:
        self.events.append("count")
        if self.uncounted is not None:
            raise self.uncounted
        yield from self._one("decode", 5, (0, 4))
