"""A loaded model and a config in; bare times and raw traces on disk out, run after run.

Bare and traced passes are taken in turn. What nobody times, tokens per expert and bytes, is counted
in passes of its own behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import torch

from qwen3_profile.config import CUDA_GRAPH, RunConfig
from qwen3_profile.measure import instrument
from qwen3_profile.measure.count_bytes import count_pass
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.executions.graph_runs import GraphRuns, Session, count_captured
from qwen3_profile.measure.executions.train_step import TrainStep, with_gradients
from qwen3_profile.measure.model.experts import counted_routing, experts_of
from qwen3_profile.measure.model.inputs import config_inputs
from qwen3_profile.measure.model.load import LoadedModel
from qwen3_profile.measure.profiler import Recorder, no_collections
from qwen3_profile.run_folder.bytes_moved import Traffic, write_traffic
from qwen3_profile.run_folder.layout import RAW_FOLDER
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.run_folder.run_json import Compiled, Measurement, write_nodes

Phase = Literal["prefill", "decode", "train_step"]


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run: what was taken of each phase, and of every decode step's bare time.

    first: of the prefill, or of the training step.
    compiled: how its model was compiled, if it was.
    """

    first: Measurement
    decode: tuple[Measurement, ...]
    step_times_ns: tuple[int, ...]
    labels: instrument.Instrumentation
    compiled: Compiled | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Where the passes of a run's configs are taken, and what becomes of their traces.

    folder: the run's folder; traces go into `raw/` under it.
    advance: called after each bare and each traced pass.
    prompts: token ids of each prompt, where the inputs are prompts.
    """

    loaded: LoadedModel
    device: torch.device
    seed: int
    folder: Path
    advance: Callable[[], None]
    prompts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """A pass that is to be traced, and what is known of it beforehand; see `Measurement`."""

    phase: Phase
    run_index: int
    started: str
    position: int
    bare_ns: int


class Measuring:
    """The eager passes of one config, one generation after the other."""

    def __init__(self, site: Site, config: RunConfig, worker: str) -> None:
        self._config = config
        self._worker = worker
        self._model = site.loaded.model
        self._folder = site.folder
        self._advance = site.advance
        self._recorder = Recorder(site.device)
        vocab_size = site.loaded.facts.shape.vocab_size
        self.inputs = config_inputs(config, vocab_size, site.seed, site.device, site.prompts)
        self._steps = 0

    def runs(self) -> Iterator[Run]:
        """Warms up, then yields each measured run as it ends."""
        for _ in range(self._config.warmup_runs):
            self._warm_up()
            self._advance()
        for run_index in range(self._config.num_runs):
            if self._config.backward:
                yield self._train(run_index)
            elif self._config.execution == CUDA_GRAPH:
                yield self._graphs(run_index)
            else:
                yield self._run(run_index)

    def opened(self) -> AbstractContextManager[None]:
        """Round all runs: the model as the config wants it."""
        return with_gradients(self._model) if self._config.backward else nullcontext()

    def _warm_up(self) -> None:
        if self._config.backward:
            step = TrainStep(self._model, self.inputs)
            step.run()
            step.forget()
            return
        generation = self._generation()
        generation.prefill()
        # All steps: some kernels are prepared anew for each length of the context that they meet.
        for _ in range(self._config.decode_steps):
            generation.decode()

    def _train(self, run_index: int) -> Run:
        """A bare and a traced training step; each begins without gradients."""
        started = _now()
        step = TrainStep(self._model, self.inputs)
        self._recorder.settle(self._warm_up)
        bare_ns = self._recorder.timed(step.run)
        step.forget()
        self._advance()
        with instrument.labelled(self._model) as labels:
            plan = _Plan("train_step", run_index, started, 0, bare_ns)
            measurement = self._traced(plan, step.run, self._warm_up)
        step.forget()
        self._advance()
        return Run(measurement, (), (), labels)

    def routing(self) -> dict[str, tuple[LayerRouting, ...]]:
        """Phase -> where its tokens go, of a generation that nobody times; empty if dense."""
        if not experts_of(self._model):
            return {}
        with counted_routing(self._model) as counter:
            generation = self._generation()
            generation.prefill()
            found = {str(self._config.first_phase): counter.take()}
            for _ in range(self._config.decode_steps):
                generation.decode()
            return found | {"decode": counter.take()}

    def traffic(self) -> dict[str, str]:
        """Phase -> the file of what each traced pass moves; counted in passes that nobody times."""
        if self._config.backward:
            return {}
        with self._labelled():
            if self._config.execution == CUDA_GRAPH:
                found = count_captured(self._model, self.inputs, self._config)
            else:
                found = self._counted()
        names = {phase: f"{self._worker}_{phase}.traffic.json" for phase in found}
        for phase, passes in found.items():
            write_traffic(self._folder / names[phase], passes)
        return names

    def _counted(self) -> dict[str, dict[int, Traffic]]:
        """Phase -> position -> traffic of a generation."""
        generation = self._generation()
        found = {"prefill": {0: count_pass(generation.prefill)}}
        if not self._config.decode_steps:
            return found
        decode = found["decode"] = {}
        chosen = frozenset(self._config.traced_positions)
        for position in range(max(chosen, default=-1) + 1):
            if position in chosen:
                decode[position] = count_pass(generation.decode)
            else:
                generation.decode()
        return found

    def _run(self, run_index: int) -> Run:
        started = _now()
        prefill_ns, step_times_ns = self._bare()
        self._advance()
        found = self._traced_phases(run_index, started, prefill_ns, step_times_ns)
        self._advance()
        return found

    def _traced_phases(
        self, run_index: int, started: str, prefill_ns: int, step_times_ns: tuple[int, ...]
    ) -> Run:
        """A traced generation that goes with a bare one."""
        with self._labelled() as labels:
            generation = self._generation()
            plan = _Plan("prefill", run_index, started, 0, prefill_ns)
            prefill = self._traced(plan, generation.prefill, self._lead_in())
            decode = tuple(self._decode(run_index, started, generation, step_times_ns))
        return Run(prefill, decode, step_times_ns, labels)

    def _graphs(self, run_index: int) -> Run:
        """Bare and traced replays of the prefill, and of the decode steps if there are any."""
        started = _now()
        runs = GraphRuns(
            self._model,
            self.inputs,
            self._config,
            self._recorder,
            lambda phase, *given: self._session(phase, run_index, *given),
            lambda phase, labels: self._keep_nodes(phase, run_index, labels),
        )
        prefill = runs.measure("prefill", run_index, started)
        self._advance()
        found = Run(prefill.measurements[0], (), (), prefill.labels)
        if self._config.decode_steps:
            decode = runs.measure("decode", run_index, started)
            found = replace(found, decode=decode.measurements, step_times_ns=decode.step_times_ns)
        self._advance()
        return found

    def _bare(self) -> tuple[int, tuple[int, ...]]:
        """Wall-clock of the prefill and of each decode step, without profiler and labels."""
        self._recorder.settle(self._lead_in())
        generation = self._generation()
        prefill_ns = self._recorder.timed(generation.prefill)
        steps = range(self._config.decode_steps)
        with no_collections():
            return prefill_ns, tuple(self._recorder.timed(generation.decode) for _ in steps)

    def _decode(
        self, run_index: int, started: str, generation: Generation, bare_ns: tuple[int, ...]
    ) -> Iterator[Measurement]:
        """Runs all decode steps, and traces the chosen ones."""
        chosen = frozenset(self._config.traced_positions)
        lead_in = self._decode_lead_in(2 * len(chosen)) if chosen else generation.decode
        for position in range(max(chosen, default=-1) + 1):
            if position not in chosen:
                generation.decode()
                continue
            self._recorder.settle(lead_in)
            plan = _Plan("decode", run_index, started, position, bare_ns[position])
            yield self._traced(plan, generation.decode, lead_in)

    def _traced(
        self, plan: _Plan, forward: Callable[[], object], lead_in: Callable[[], None]
    ) -> Measurement:
        traced = self._session(plan.phase, plan.run_index, plan.position, forward, lead_in)
        return Measurement(
            run_index=plan.run_index,
            started=plan.started,
            bare_ns=plan.bare_ns,
            profiled_ns=traced.profiled_ns,
            step=traced.step,
            trace=traced.trace,
            profiler_messages=traced.messages,
            position=plan.position,
        )

    def _session(
        self,
        phase: Phase,
        run_index: int,
        position: int,
        forward: Callable[[], object],
        lead_in: Callable[[], None],
        kind: str = "",
    ) -> Session:
        part = f".step{position}" if phase == "decode" else ""
        part += f".{kind}" if kind else ""
        name = f"{self._worker}_{phase}.run{run_index}{part}.kineto.json.gz"
        trace = f"{RAW_FOLDER}/{name}"
        step = self._next_step()
        traced = self._recorder.traced(forward, lead_in, phase, step, self._folder / trace)
        return Session(step, trace, traced.profiled_ns, traced.messages)

    def _keep_nodes(self, phase: Phase, run_index: int, labels: Mapping[int, str]) -> str:
        name = f"{RAW_FOLDER}/{self._worker}_{phase}.run{run_index}.nodes.json"
        write_nodes(self._folder / name, labels)
        return name

    def _next_step(self) -> int:
        """k of the next `ProfilerStep#k`, which is unique in the config."""
        self._steps += 1
        return self._steps - 1

    def _generation(self) -> Generation:
        config, inputs = self._config, self.inputs
        return Generation(
            self._model, inputs.ids, config.decode_steps, config.cache, mask=inputs.mask
        )

    def _labelled(self) -> AbstractContextManager[instrument.Instrumentation]:
        return instrument.labelled(self._model)

    def _decode_lead_in(self, times: int) -> Callable[[], None]:
        """A decode step that nobody looks at, of a short sequence of its own, for so many calls."""
        aside = Generation(self._model, self.inputs.ids[:, -1:], times + 2)
        aside.prefill()
        return aside.decode

    def _lead_in(self) -> Callable[[], None]:
        """A prefill that is not timed; its memory is free again afterwards."""

        def lead_in() -> None:
            self._generation().prefill()

        return lead_in


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
