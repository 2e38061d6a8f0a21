"""A loaded model and a compiled config in; bare times, raw traces and provenance on disk out.

Before anything is measured, an eager pass and a compiled one are compared: times of a model that
computes something else are worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import RunError
from qwen3_profile.measure import instrument
from qwen3_profile.measure.executions.compilation import Compilation, compiled
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.executions.logits_check import (
    TOLERANCES,
    Output,
    allowed_error,
    largest_error,
    rounded_once_more,
)
from qwen3_profile.measure.instrument import Instrumentation
from qwen3_profile.measure.measurement import Measuring, Phase, Run, Site
from qwen3_profile.measure.model.kv_cache import filled_cache
from qwen3_profile.measure.model.structure import find_decoder
from qwen3_profile.measure.run_context import Capture
from qwen3_profile.run_folder.layout import RAW_FOLDER
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.run_folder.run_json import Compiled

# Decode steps that are compared; the second finds a cache that the first has compiled code for.
_COMPARED_STEPS = 2
# A CUDA graph is warmed up in its first pass, captured in its second and replayed in its third.
_PASSES_TO_REPLAY = 3


class CompiledCapture(Capture):
    """As `Capture`, of a config whose model is compiled."""

    __slots__ = ()

    def measuring(self, config: RunConfig, worker: str) -> Measuring:
        return _CompiledMeasuring(self, config, worker)


class _CompiledMeasuring(Measuring):
    """The compiled passes of one config; what nobody looks at is run eagerly."""

    def __init__(self, site: Site, config: RunConfig, worker: str) -> None:
        super().__init__(site, config, worker)
        self._compilation: Compilation
        self._kept: Any = None
        if config.cache == "static":
            length = config.input_len + config.decode_steps
            self._kept = filled_cache(self._model, config.batch_size, length)

    @contextmanager
    def opened(self) -> Iterator[None]:
        with compiled(self._model, self._config) as self._compilation:
            yield

    def runs(self) -> Iterator[Run]:
        told = self._compile()
        for run in super().runs():
            yield Run(run.first, run.decode, run.step_times_ns, run.labels, told)

    def routing(self) -> dict[str, tuple[LayerRouting, ...]]:
        with self._compilation.paused():
            return super().routing()

    def traffic(self) -> dict[str, str]:
        """As of eager passes, of what runs outside the compiled graphs.

        What runs inside is known from what it was compiled to, and is in the provenance.
        """
        with self._compilation.unseen():
            return super().traffic()

    def _compile(self) -> Compiled:
        """Compiles both phases, compares them with eager ones, and keeps their provenance."""
        with self._compilation.paused():
            expected, _ = self._outputs(None)
        first, first_pass_ns = self._outputs(expected)
        self._warm_up()
        # By now graphs are replayed, where the mode has any.
        later, _ = self._outputs(expected)
        error = self._check([*first, *later], expected)
        provenance = f"{self._worker}.provenance.json"
        self._compilation.write(self._folder / provenance)
        references = self._references() if self._compilation.uses_graphs else {}
        return Compiled(provenance, first_pass_ns, error, references)

    def _outputs(self, followed: Sequence[Output] | None) -> tuple[list[Output], dict[str, int]]:
        """What a generation computes, and the wall-clock of the first pass of each phase.

        Args:
            followed: another generation, whose tokens are taken in place of its own.
        """
        generation = self._generation()
        first_pass_ns = {"prefill": self._recorder.timed(generation.prefill)}
        found = [Output(generation.logits.clone(), generation.next_ids)]
        for step in range(min(self._config.decode_steps, _COMPARED_STEPS)):
            if followed is not None:
                generation.choose(followed[step].next_ids)
            ns = self._recorder.timed(generation.decode)
            first_pass_ns.setdefault("decode", ns)
            found.append(Output(generation.logits.clone(), generation.next_ids))
        return found, first_pass_ns

    def _check(self, found: Sequence[Output], expected: Sequence[Output]) -> float:
        """How far the logits of two generations lie from those of an eager one.

        Raises:
            RunError: it is more than rounding can explain.
        """
        error = largest_error(found, [*expected, *expected])
        allowed = TOLERANCES[self._config.dtype]
        if error <= allowed:
            return error
        with self._compilation.paused(), rounded_once_more(self._model):
            rounded, _ = self._outputs(expected)
        allowed = max(allowed, allowed_error(rounded, expected))
        if not error <= allowed:  # nor where it is not a number
            raise RunError(
                f"config {self._worker}",
                f"compiled logits differ from eager ones by {error:.2g} of their length, over "
                f"the {allowed:.2g} that rounding to {self._config.dtype} can explain",
                "the compiled model computes something else; its times are not taken",
            )
        return error

    def _references(self) -> dict[str, str]:
        """A trace of each phase in which the kernels of the graphs are launched one by one."""
        found: dict[str, str] = {}
        self._compilation.capture_anew()
        with self._compilation.one_by_one(), self._labelled():
            generation = self._generation()
            phases: list[tuple[Phase, Callable[[], None]]] = [("prefill", generation.prefill)]
            phases += [("decode", generation.decode)] if self._config.decode_steps else []
            for phase, forward in phases:
                trace = f"{RAW_FOLDER}/{self._worker}_{phase}.reference.kineto.json.gz"
                path = self._folder / trace
                self._recorder.traced(forward, self._lead_in(), phase, self._next_step(), path)
                found[phase] = trace
        return found

    def _warm_up(self) -> None:
        for _ in range(_PASSES_TO_REPLAY if self._compilation.uses_graphs else 1):
            super()._warm_up()

    def _bare(self) -> tuple[int, tuple[int, ...]]:
        # No graph lives through a session of the profiler that it was not captured for.
        if self._compilation.uses_graphs:
            self._recorder.settle(self._lead_in())
            self._compilation.capture_anew()
            self._warm_up()
        return super()._bare()

    def _traced_phases(
        self, run_index: int, started: str, prefill_ns: int, step_times_ns: tuple[int, ...]
    ) -> Run:
        if not self._compilation.uses_graphs:
            return super()._traced_phases(run_index, started, prefill_ns, step_times_ns)
        self._compilation.capture_anew()
        with self._recorder.attached(self._lead_in()):
            self._warm_up()
            found = super()._traced_phases(run_index, started, prefill_ns, step_times_ns)
            self._compilation.capture_anew()
        return found

    def _run(self, run_index: int) -> Run:
        count = self._compilation.count
        run = super()._run(run_index)
        if self._compilation.count != count:
            raise RunError(
                f"config {self._worker}",
                "was compiled anew in a measured pass, whose time is that of the compiler",
                "raise --warmup-runs",
            )
        return run

    def _generation(self) -> Generation:
        config, inputs = self._config, self.inputs
        return _CompiledGeneration(
            self._compilation, self._model, inputs.ids, config, inputs.mask, self._kept
        )

    def _labelled(self) -> AbstractContextManager[Instrumentation]:
        if self._config.compile_scope == "layer":
            return instrument.labelled(self._model, inside_layers=False)
        layers = len(find_decoder(self._model).layers)
        return nullcontext(Instrumentation(layers, frozenset(), (), (), (), ()))

    def _lead_in(self) -> Callable[[], None]:
        """Eager, so that neither the kept cache nor any graph is touched."""
        return self._eager(self.inputs.ids, self.inputs.mask)

    def _decode_lead_in(self, times: int) -> Callable[[], None]:
        return self._eager(self.inputs.ids[:, -1:], None)

    def _eager(self, ids: torch.Tensor, mask: torch.Tensor | None) -> Callable[[], None]:
        def lead_in() -> None:
            with self._compilation.paused():
                Generation(self._model, ids, mask=mask).prefill()

        return lead_in


class _CompiledGeneration(Generation):
    """As `Generation`, and each pass begins by giving up the outputs of the one before."""

    def __init__(
        self,
        compilation: Compilation,
        model: Any,
        ids: torch.Tensor,
        config: RunConfig,
        mask: torch.Tensor | None,
        kept: Any,
    ) -> None:
        super().__init__(model, ids, config.decode_steps, config.cache, mask, kept)
        self._compilation = compilation

    def _forward(self, input_ids: torch.Tensor) -> None:
        self._compilation.begin_pass()
        super()._forward(input_ids)
