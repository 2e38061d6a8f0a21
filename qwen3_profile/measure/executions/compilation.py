"""A model and a config in, the same model compiled for the length of a block out; undone on exit.

The model is compiled as a whole, or each of its decoder layers by itself. What it is compiled to is
kept (`inductor`); the first pass of each phase compiles, and those after it do not.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from qwen3_profile.config import COMPILE_MODES, RunConfig
from qwen3_profile.measure.inductor.hooks import Compilations, recorded
from qwen3_profile.measure.inductor.module_labels import module_labels
from qwen3_profile.measure.model.structure import find_decoder
from qwen3_profile.run_folder.provenance import write_provenance

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
