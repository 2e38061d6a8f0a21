"""One config, run on one model: what was measured, and what became of it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qwen3_profile.config import COMPILED, CUDA_GRAPH, EAGER, RunConfig
from qwen3_profile.errors import OutputError, ProfileError, RunError, in_words
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.executions import Execution
from qwen3_profile.measure.executions.compiled import CompiledExecution
from qwen3_profile.measure.executions.cuda_graph import CudaGraphExecution
from qwen3_profile.measure.executions.eager import EagerExecution, count_routing
from qwen3_profile.measure.executions.train_step import TrainStepExecution
from qwen3_profile.measure.failed_part import failed_part
from qwen3_profile.measure.measurement import MeasurementLoop, unmeasured
from qwen3_profile.measure.model.inputs import Inputs, config_inputs
from qwen3_profile.measure.model.load import LoadedModel, set_attention, set_experts
from qwen3_profile.measure.model.memory import check_room, is_out_of_memory, out_of_memory
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.rank_group import Ranks
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.run_folder.run_json import ConfigResult
from qwen3_profile.system import signals

_EXECUTIONS = {
    EAGER: EagerExecution,
    COMPILED: CompiledExecution,
    CUDA_GRAPH: CudaGraphExecution,
}


@dataclass(frozen=True, slots=True)
class RunContext:
    """Where configs run, and what becomes of their traces.

    folder: the run's folder; traces go into `raw/` under it.
    prompts: token ids of each prompt, where the inputs are prompts.
    ranks: the processes that measure together; None where this one is alone.
    """

    loaded: LoadedModel
    device: torch.device
    seed: int
    folder: Path
    prompts: tuple[tuple[int, ...], ...] = ()
    ranks: Ranks | None = None


def run_config(
    context: RunContext, index: int, config: RunConfig, worker: str, step: Callable[[str], None]
) -> tuple[ConfigResult, ...]:
    """Measures one config.

    Args:
        step: see `MeasurementLoop`.

    Returns:
        A result for the prefill or the training step and, where the config has decode steps, one
        for them; with status "failed" or "interrupted" and the measurements so far where it did
        not come to its end.
    """
    return _ConfigRun(context, index, config, worker).results(step)


class _ConfigRun:
    """What is known of a config's results so far, which is kept when something goes wrong."""

    def __init__(self, context: RunContext, index: int, config: RunConfig, worker: str) -> None:
        self._context, self._config, self._worker = context, config, worker
        self._ranks = context.ranks
        self._own_worker = worker if self._ranks is None else self._ranks.name(worker)
        self._result = unmeasured(index, config, self._own_worker)
        if self._ranks is not None:
            self._know(rank=self._ranks.rank)
        self._loop: MeasurementLoop | None = None
        self._routing: dict[str, tuple[LayerRouting, ...]] = {}

    def results(self, step: Callable[[str], None]) -> tuple[ConfigResult, ...]:
        # torchrun ends the other ranks as soon as one has ended: at any time, this one too.
        with signals.noted():
            try:
                with signals.allowed():
                    self._measure(step)
                    self._keep()
                    if self._ranks is not None:
                        self._ranks.meet()
            # The model's code is the library's, and may raise anything.
            except (Exception, KeyboardInterrupt) as error:
                self._end(error)
            return self._of_all()

    def _of_all(self) -> tuple[ConfigResult, ...]:
        """The results, on rank 0 with those of the other ranks."""
        if self._ranks is None:
            return self._results()
        if self._ranks.is_apart:
            signals.take()  # which would tell no more than that
        if self._ranks.rank:
            return self._results()
        return self._ranks.gather(self._context.folder, self._worker, self._results())

    def _results(self) -> tuple[ConfigResult, ...]:
        results = self._loop.results(self._result) if self._loop is not None else (self._result,)
        return tuple(replace(each, routing=self._routing.get(each.phase, ())) for each in results)

    def _keep(self) -> None:
        """Writes down what a rank has so far, which is there then whatever becomes of it."""
        if self._ranks is not None:
            self._ranks.keep(self._context.folder, self._worker, self._results())

    def _measure(self, step: Callable[[str], None]) -> None:
        context, config, loaded = self._context, self._config, self._context.loaded
        self._set_model()
        vocab_size = loaded.facts.shape.vocab_size
        inputs = config_inputs(config, vocab_size, context.seed, context.device, context.prompts)
        self._know(lengths=inputs.lengths)
        recorder = Recorder(context.device, _alone if self._ranks is None else self._ranks.meet)
        execution = execution_of(loaded.model, inputs, config, recorder)
        files = ConfigFiles(context.folder, self._own_worker)
        self._loop = MeasurementLoop(execution, recorder, files, step, loaded.model, self._keep)
        self._loop.measure()
        self._routing = count_routing(loaded.model, inputs, config)

    def _set_model(self) -> None:
        """The model's attention and experts as the config wants them, if it fits into memory."""
        loaded, config = self._context.loaded, self._config
        attn = set_attention(loaded, config.attn_implementation)
        self._know(attn_implementation=attn)
        experts = set_experts(loaded, config.experts_implementation)
        self._know(experts_implementation=experts)
        if loaded.facts.is_qwen3:
            check_room(loaded.facts.shape, config, attn, loaded.model.dtype, self._context.device)

    def _end(self, error: BaseException) -> None:
        stopped = signals.take(error)
        if stopped is not None:
            runs = len(self._loop.runs) if self._loop is not None else 0
            line = f"config {self._worker}: {stopped} after {runs} of {self._config.num_runs} runs"
            if self._ranks is not None and stopped.number == signal.SIGTERM:
                line += "; torchrun ends all ranks so when one of them has ended"
            self._know(status="interrupted", error=line)
        else:
            told = self._run_error(error)
            # A signal meanwhile says less than what went wrong.
            with contextlib.suppress(signals.Stopped), signals.allowed():
                told = self._tell_others(told)
            self._know(status="failed", error=told.english)
        with contextlib.suppress(OutputError):
            self._keep()

    def _tell_others(self, error: RunError) -> RunError:
        if self._ranks is None:
            return error
        return self._ranks.fail(f"config {self._config.worker}", error)

    def _know(self, **facts: Any) -> None:
        self._result = replace(self._result, **facts)

    def _run_error(self, error: BaseException) -> RunError:
        if isinstance(error, RunError):
            return error
        where = f"config {self._config.worker}"
        if isinstance(error, ProfileError):
            return RunError(f"{where}: {error.where}", error.what, error.do)
        if is_out_of_memory(error):
            attn = self._result.attn_implementation
            part = failed_part(self._context.loaded.model, error)
            return out_of_memory(self._config, attn, self._context.device, error, part)
        return RunError(where, in_words(error))


def _alone() -> None:
    """Nobody has to be waited for."""


def execution_of(model: Any, inputs: Inputs, config: RunConfig, recorder: Recorder) -> Execution:
    """The way in which `config` wants its passes run."""
    return execution_class(config)(model, inputs, config, recorder)


def execution_class(config: RunConfig) -> type[EagerExecution | TrainStepExecution]:
    return TrainStepExecution if config.backward else _EXECUTIONS[config.execution]
