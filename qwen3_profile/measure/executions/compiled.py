"""Forward passes of a model that torch.compile has compiled, as a whole or layer by layer.

What it is compiled to is kept (`inductor`); the first pass of each phase compiles, and those after
it do not. Before anything is measured, eager passes and compiled ones are compared: times of a
model that computes something else are worth nothing.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from qwen3_profile.config import COMPILE_MODES, RunConfig
from qwen3_profile.errors import RunError
from qwen3_profile.measure import instrument
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.executions.eager import EagerExecution, Generation
from qwen3_profile.measure.executions.logits_check import (
    TOLERANCES,
    Output,
    allowed_error,
    largest_error,
    rounded_once_more,
)
from qwen3_profile.measure.implementations import CalledFunctions, compiled_functions
from qwen3_profile.measure.inductor.hooks import Compilations, recorded
from qwen3_profile.measure.inductor.module_labels import module_labels
from qwen3_profile.measure.instrument import Instrumentation
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.model.kv_cache import filled_cache
from qwen3_profile.measure.model.structure import find_decoder
from qwen3_profile.measure.pass_kinds import TRACED, WITHOUT_CLOCK, PassKind, SeriesOfPasses
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import PROFILER_RANGES, LabelMaker
from qwen3_profile.run_folder.provenance import write_provenance
from qwen3_profile.run_folder.run_json import Compiled

# Decode steps that are compared; the second finds a cache that the first has compiled code for.
_COMPARED_STEPS = 2
# A CUDA graph is warmed up in its first pass, captured in its second and replayed in its third.
_PASSES_TO_REPLAY = 3
# With a KV cache every layer is a graph of its own, and each phase another; torch gives up at 8.
_GRAPHS_PER_LAYER = 8
_CALL = "_compiled_call_impl"
_Call = Callable[..., Any]


class Compilation:
    """A compiled model.

    uses_graphs: whether its kernels are replayed as CUDA graphs.
    """

    def __init__(self, modules: list[nn.Module], found: Compilations, *, uses_graphs: bool) -> None:
        self._modules = modules
        self._found = found
        self.uses_graphs = uses_graphs

    @property
    def count(self) -> int:
        """How many graphs have been compiled so far."""
        return self._found.count

    def begin_pass(self) -> None:
        """Tells torch that the outputs of the pass before are no longer needed."""
        if self.uses_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def paused(self) -> AbstractContextManager[None]:
        """Runs the model eagerly meanwhile."""
        return self._called_as(lambda _: None)

    def unseen(self) -> AbstractContextManager[None]:
        """Hides what is compiled from torch's dispatch modes meanwhile: under one it would not run
        as it was compiled.
        """
        return self._called_as(_without_modes)

    @contextlib.contextmanager
    def _called_as(self, other: Callable[[_Call], _Call | None]) -> Iterator[None]:
        """Puts other calls in place of the compiled ones meanwhile."""
        calls = [vars(module)[_CALL] for module in self._modules]
        try:
            for module, call in zip(self._modules, calls, strict=True):
                vars(module)[_CALL] = other(call)
            yield
        finally:
            for module, call in zip(self._modules, calls, strict=True):
                vars(module)[_CALL] = call

    @contextlib.contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Launches the kernels of a graph themselves meanwhile, so that a trace shows of which."""
        with self._found.one_by_one():
            yield

    def capture_anew(self) -> None:
        """Forgets all captured graphs; the next passes warm up and capture them again."""
        if self.uses_graphs:
            self._found.capture_anew()

    def write(self, path: Path) -> None:
        """Writes what the kernels were compiled from."""
        write_provenance(path, tuple(self._found.graphs.values()))


def _without_modes(call: _Call) -> _Call:
    def unseen(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return call(*args, **kwargs)

    return unseen


@contextlib.contextmanager
def compiled(model: nn.Module, config: RunConfig) -> Iterator[Compilation]:
    """Compiles `model` as `config` says; nothing is compiled before its first pass.

    Raises:
        ConfigError: this torch has not what is needed.
    """
    import torch._dynamo.config as dynamo

    decoder = find_decoder(model)
    by_layer = config.compile_scope == "layer"
    modules = list(decoder.layers) if by_layer else [model]
    labels = module_labels(model)
    paths = {module: path for path, module in model.named_modules()}
    root = f"{paths[decoder.layers]}.*" if by_layer else ""
    limit = max(dynamo.recompile_limit, _GRAPHS_PER_LAYER * len(decoder.layers))
    with ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        if config.dtype != "float32":
            # Of the few products that such a model computes in float32, those of its rotary angles.
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
        torch._dynamo.reset()
        undo.callback(torch._dynamo.reset)
        undo.enter_context(dynamo.patch(recompile_limit=limit))
        found = undo.enter_context(recorded(labels, root))
        for module in modules:
            undo.callback(vars(module).__setitem__, _CALL, vars(module).get(_CALL))
            module.compile(mode=config.compile_mode, dynamic=False)
        device = next(model.parameters()).device
        graphs = device.type == "cuda" and config.compile_mode != COMPILE_MODES[0]
        yield Compilation(modules, found, uses_graphs=graphs)


class CompiledExecution(EagerExecution):
    """As eager, with compiled passes; what nobody looks at is run eagerly."""

    kinds: tuple[PassKind, ...] = WITHOUT_CLOCK

    def __init__(self, model: Any, inputs: Inputs, config: RunConfig, recorder: Recorder) -> None:
        super().__init__(model, inputs, config, recorder)
        self._compilation: Compilation
        self._worker: str
        self._kept: Any = None
        if config.cache == "static":
            length = config.input_len + config.decode_steps
            self._kept = filled_cache(model, config.batch_size, length)

    @contextlib.contextmanager
    def prepared(self, files: ConfigFiles) -> Iterator[Compiled]:
        self._worker = files.worker
        with compiled(self._model, self.config) as self._compilation:
            yield self._compile(files)

    def labelled(
        self, labels: LabelMaker = PROFILER_RANGES
    ) -> AbstractContextManager[Instrumentation]:
        if self.config.compile_scope == "layer":
            return instrument.labelled(self._model, inside_layers=False, labels=labels)
        layers = find_decoder(self._model).layers
        called = CalledFunctions(compiled_functions(layers))
        return nullcontext(Instrumentation(len(layers), frozenset(), (), (), (), (), called))

    def warm_up(self) -> None:
        for _ in range(_PASSES_TO_REPLAY if self._compilation.uses_graphs else 1):
            super().warm_up()

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        count = self._compilation.count
        with self._graphs_for(kind) if self._compilation.uses_graphs else nullcontext():
            yield from self._series()
        if self._compilation.count != count:
            raise RunError(
                f"config {self._worker}",
                "was compiled anew in a measured pass, whose time is that of the compiler",
                "raise --warmup-runs",
            )

    def counted(self) -> SeriesOfPasses:
        """As of eager passes, of what runs outside the compiled graphs.

        What runs inside is known from what it was compiled to, and is in the provenance.
        """
        with self._compilation.unseen():
            yield from self._series()

    @contextlib.contextmanager
    def _graphs_for(self, kind: PassKind) -> Iterator[None]:
        """Captures graphs: none lives through a session that it was not captured for."""
        self._compilation.capture_anew()
        if not kind.in_session:
            self._recorder.settle(self._lead_in())
            self.warm_up()
            yield
            return
        with self._recorder.attached(self._lead_in()):
            self.warm_up()
            yield
            self._compilation.capture_anew()

    def _compile(self, files: ConfigFiles) -> Compiled:
        """Compiles both phases, compares them with eager ones, and keeps their provenance."""
        with self._compilation.paused():
            expected, _ = self._outputs(None)
        first, first_pass_ns = self._outputs(expected)
        self.warm_up()
        # By now graphs are replayed, where the mode has any.
        later, _ = self._outputs(expected)
        error = self._check([*first, *later], expected)
        provenance, path = files.provenance()
        self._compilation.write(path)
        references = self._references(files) if self._compilation.uses_graphs else {}
        return Compiled(provenance, first_pass_ns, error, references)

    def _outputs(self, followed: Sequence[Output] | None) -> tuple[list[Output], dict[str, int]]:
        """What a generation computes, and the wall-clock of the first pass of each phase.

        Args:
            followed: another generation, whose tokens are taken in place of its own.
        """
        generation = self._generation()
        first_pass_ns = {"prefill": self._recorder.timed(generation.prefill)}
        found = [Output(generation.logits.clone(), generation.next_ids)]
        for step in range(min(self.config.decode_steps, _COMPARED_STEPS)):
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
        allowed = TOLERANCES[self.config.dtype]
        if error <= allowed:
            return error
        with self._compilation.paused(), rounded_once_more(self._model):
            rounded, _ = self._outputs(expected)
        allowed = max(allowed, allowed_error(rounded, expected))
        if not error <= allowed:  # nor where it is not a number
            raise RunError(
                f"config {self._worker}",
                f"compiled logits differ from eager ones by {error:.2g} of their length, over "
                f"the {allowed:.2g} that rounding to {self.config.dtype} can explain",
                "the compiled model computes something else; its times are not taken",
            )
        return error

    def _references(self, files: ConfigFiles) -> dict[str, str]:
        """A trace of each phase in which the kernels of the graphs are launched one by one."""
        self._compilation.capture_anew()
        with self._compilation.one_by_one(), self.labelled():
            return {
                series.phase: TRACED.take(
                    self._recorder, series, partial(files.slot, series.phase, "reference")
                ).trace
                for series in self._series()
            }

    def _generation(self) -> Generation:
        return _CompiledGeneration(
            self._compilation, self._model, self._inputs, self.config, self._kept
        )

    def _lead_in(self) -> Callable[[], None]:
        """Eager, so that neither the kept cache nor any graph is touched."""
        return self._eager(self._inputs.ids, self._inputs.mask)

    def _step_lead_in(self) -> Callable[[], None]:
        return self._eager(self._inputs.ids[:, -1:], None)

    def _eager(self, ids: torch.Tensor, mask: torch.Tensor | None) -> Callable[[], None]:
        def lead_in() -> None:
            with self._compilation.paused():
                Generation(self._model, ids, mask=mask).prefill()

        return lead_in


class _CompiledGeneration(Generation):
    """As `Generation`, and each pass begins by giving up the outputs of the one before."""

    def __init__(
        self, compilation: Compilation, model: Any, inputs: Inputs, config: RunConfig, kept: Any
    ) -> None:
        super().__init__(model, inputs.ids, config.decode_steps, config.cache, inputs.mask, kept)
        self._compilation = compilation

    def _forward(self, input_ids: torch.Tensor) -> None:
        self._compilation.begin_pass()
        super()._forward(input_ids)
