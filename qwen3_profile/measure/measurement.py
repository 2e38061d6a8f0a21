"""The loop of every measurement: warm up, take each kind of pass in turn, run after run, count.

It is the same for every execution. What nobody times, the bytes that are moved, is counted in
passes of its own behind the measured ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeVar

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import in_words
from qwen3_profile.labels import fold_layers
from qwen3_profile.measure.config_files import ConfigFiles, TraceSlot
from qwen3_profile.measure.count_bytes import count_pass
from qwen3_profile.measure.energy_loop import measure_energy
from qwen3_profile.measure.executions import Execution, UncountedError
from qwen3_profile.measure.gpu_state import gpu_state
from qwen3_profile.measure.implementations import is_fallback
from qwen3_profile.measure.instrument import Instrumentation
from qwen3_profile.measure.memory_pass import take_memory
from qwen3_profile.measure.pass_kinds import (
    BARE,
    CLOCK,
    DEVICE,
    TRACED,
    PassKind,
    PassSeries,
    Taken,
    Variant,
    kinds_on,
)
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import Phase
from qwen3_profile.run_folder.bytes_moved import Traffic
from qwen3_profile.run_folder.clocked import ClockedPass
from qwen3_profile.run_folder.energy import Energy
from qwen3_profile.run_folder.gpu_state import GpuState
from qwen3_profile.run_folder.memory_events import MemoryPass
from qwen3_profile.run_folder.run_json import (
    Compiled,
    ConfigResult,
    EagerPass,
    Measurement,
)
from qwen3_profile.run_folder.sm_clock import SmClock
from qwen3_profile.system import signals
from qwen3_profile.system.collector import no_collections

# Kind of pass, phase, variant.
_Key = tuple[str, Phase, Variant]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class MeasuredPhase:
    """What one run took of a phase. bare_ns: of all its passes, traced or not."""

    measurements: tuple[Measurement, ...]
    bare_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One measured run, and what was labelled in its traces."""

    phases: Mapping[Phase, MeasuredPhase]
    labels: Instrumentation


class MeasurementLoop:
    """Measures one config. What was taken before something went wrong stays in `runs`.

    Args:
        step: is told what begins: the preparation, each warm-up, each kind of pass of each run,
            and the counting of bytes.
        model: whose weights are told apart where memory is recorded.
        keep: called after each run.
    """

    def __init__(
        self,
        execution: Execution,
        recorder: Recorder,
        files: ConfigFiles,
        step: Callable[[str], None],
        model: Any = None,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._keep = keep
        self.runs: list[MeasuredRun] = []
        self._execution = execution
        self._recorder = recorder
        self._files = files
        self._step = step
        self._kinds = kinds_on(execution.kinds, recorder)
        self._compiled: Compiled | None = None
        self._traffic: dict[str, str] = {}
        self._called: dict[Phase, dict[str, None]] = {}
        self._uncounted = ""
        self._model = model
        self._memory: dict[str, str] = {}
        self._energy: dict[Phase, Energy] = {}
        self._no_energy = ""
        self._gpu: list[GpuState] = []
        # Whether nothing but passes ran since the last one that nobody looks at.
        self._settled = False

    def measure(self) -> None:
        """Takes all runs of the config."""
        config = self._execution.config
        self._step("preparation")
        with self._execution.prepared(self._files) as self._compiled:
            for _ in range(config.warmup_runs):
                self._step("warm-up")
                self._execution.warm_up()
                signals.obey()
            for run_index in range(config.num_runs):
                self.runs.append(self._run(run_index))
                state = gpu_state(self._recorder.device, run_index)
                self._gpu += [] if state is None else [state]
                self._keep()
                self._recorder.meet()
            self._count()
            if config.memory:
                self._step("memory")
                self._watch_memory()
            if config.energy:
                self._step("energy")
                self._energy, self._no_energy = measure_energy(self._execution, self._recorder)

    def results(self, result: ConfigResult) -> tuple[ConfigResult, ...]:
        """One for each phase, of what `result` says of the config; an error is told once."""
        if not self.runs:
            return (result,)
        labels = self.runs[-1].labels
        result = replace(
            result,
            unlabelled=labels.missing,
            replaced=labels.replaced,
            labels=fold_layers(labels.expected, labels.num_layers),
            quantised=fold_layers(labels.quantised, labels.num_layers),
            compiled=self._compiled,
            uncounted=self._uncounted,
            no_energy=self._no_energy,
            gpu=tuple(self._gpu),
        )
        first, *others = self._execution.phases
        told_before = replace(result, error="")
        return (
            self._of_phase(first, result),
            *(self._of_phase(phase, told_before) for phase in others),
        )

    def _of_phase(self, phase: Phase, result: ConfigResult) -> ConfigResult:
        taken = [run.phases[phase] for run in self.runs]
        called = self._called.get(phase, {})
        return replace(
            result,
            phase=phase,
            worker=f"{self._files.worker}_{phase}",
            measurements=tuple(each for run in taken for each in run.measurements),
            step_times_ns=tuple(run.bare_ns for run in taken) if phase == "decode" else (),
            traffic=self._traffic.get(phase, ""),
            memory=self._memory.get(phase, ""),
            energy=self._energy.get(phase),
            replaced=(*result.replaced, *(line for line in called if not is_fallback(line))),
            fallbacks=tuple(line for line in called if is_fallback(line)),
        )

    def _run(self, run_index: int) -> MeasuredRun:
        run = _TakenRun(self._files, run_index)
        for kind in self._kinds:
            self._step(f"run {run_index + 1} of {self._execution.config.num_runs}, {kind.name}")
            maker = kind.labels
            labelled = nullcontext() if maker is None else self._execution.labelled(maker)
            with labelled as labels, closing(self._execution.passes(kind)) as passes:
                # While it waits for the next series, map holds none: two may not fit into memory.
                run.taken.update(map(partial(self._take, run, kind, labels), passes))
            run.labels = labels or run.labels
        return run.assembled(self._execution.phases)

    def _take(
        self, run: _TakenRun, kind: PassKind, labels: Instrumentation | None, series: PassSeries
    ) -> tuple[_Key, dict[int, Taken]]:
        """Runs a series, and measures its passes as `kind` does."""
        run.keep_nodes(series)
        positions = kind.positions(series)

        def take(position: int) -> Taken:
            # Each session has a pass of its own that nobody looks at: the first one alone settles.
            if not kind.in_session or position == positions[0]:
                self._settle(series)
            clock = self._recorder.sm_clock
            with signals.held(), clock.left_alone(kind.is_between(series, position)):
                clock.take()  # of what nobody keeps
                one = kind.take(self._recorder, series, lambda: run.slot(kind, series, position))
                self._settled = not kind.in_session
                return replace(one, sm_mhz=clock.take())

        several = kind.in_session and len(positions) > 1
        together = self._recorder.kept_attached(series.lead_in) if several else nullcontext()
        # Collecting before each step would take longer than the step.
        with together, no_collections() if kind.every_step else nullcontext():
            taken = dict(_each(series, positions, take))
        if labels is not None:
            called = dict.fromkeys(labels.called.take())
            self._called.setdefault(series.phase, {}).update(called)
        return (kind.name, series.phase, series.variant), taken

    def _settle(self, series: PassSeries) -> None:
        """Lets the device recover from what ran before a pass, if that was a session."""
        if not self._settled:
            self._recorder.settle(series.lead_in)

    def _count(self) -> None:
        """Counts what the passes move.

        Code that cannot run under torch's dispatch modes costs the bytes, not the measurement.
        """
        self._step("counting bytes")
        try:
            counting = closing(self._execution.counted())
            with self._execution.labelled() as labels, counting as passes:
                count = partial(_count_series, packed=labels.quantised)
                counted = dict(map(count, passes))
            for phase, found in counted.items():
                self._traffic[phase] = self._files.write_traffic(phase, found)
        except UncountedError as error:
            self._uncounted = str(error)
        except Exception as error:  # the model's code is not ours, and may raise anything
            self._traffic, self._uncounted = {}, in_words(error)
        signals.obey()

    def _watch_memory(self) -> None:
        """Records what the last traced pass of each phase allocates.

        A replay of a graph allocates nothing: the pass that is captured does, and of that, run
        without a capture, it is recorded; of the graph itself the size of its pool.
        """
        found: list[MemoryPass] = []
        with self._execution.labelled(), closing(self._execution.passes(TRACED)) as passes:
            for each in passes:
                if each.pool_bytes is not None:
                    found = [replace(one, graph_pool_bytes=each.pool_bytes()) for one in found]
                elif each.variant != "eager":
                    slot = self._files.slot(each.phase, "memory")
                    take = partial(take_memory, self._recorder, self._model, each, slot)
                    found = [memory for _, memory in _each(each, each.chosen[-1:], take)]
                if not each.variant:
                    self._memory[each.phase] = self._files.write_memory(each.phase, found)
        signals.obey()


def unmeasured(index: int, config: RunConfig, worker: str) -> ConfigResult:
    """The result of a config before its first measured run."""
    return ConfigResult(
        index=index,
        config=config,
        worker=f"{worker}_{config.first_phase}",
        phase=config.first_phase,
        status="done",
        error="",
        attn_implementation="",
        unlabelled=(),
        trace="",
        measurements=(),
    )


class _TakenRun:
    """The passes of the run that is under way."""

    def __init__(self, files: ConfigFiles, run_index: int) -> None:
        self.taken: dict[_Key, dict[int, Taken]] = {}
        self.labels: Instrumentation | None = None
        self._nodes: dict[Phase, str] = {}
        self._files = files
        self._run_index = run_index
        self._started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")

    def slot(self, kind: PassKind, series: PassSeries, position: int) -> TraceSlot:
        words = [f"run{self._run_index}"]
        words += [f"step{position}"] if series.phase == "decode" else []
        words += [series.variant] if series.variant else []
        words += [kind.name] if kind is not TRACED else []
        return self._files.slot(series.phase, ".".join(words))

    def keep_nodes(self, series: PassSeries) -> None:
        if series.nodes:
            name = self._files.write_nodes(series.phase, self._run_index, series.nodes)
            self._nodes[series.phase] = name

    def assembled(self, phases: tuple[Phase, ...]) -> MeasuredRun:
        """The run, now that all kinds of pass have been taken."""
        assert self.labels is not None
        return MeasuredRun({phase: self._phase(phase) for phase in phases}, self.labels)

    def _phase(self, phase: Phase) -> MeasuredPhase:
        bare, traced = self.taken[BARE.name, phase, ""], self.taken[TRACED.name, phase, ""]
        clocked = self.taken.get((CLOCK.name, phase, ""), {})
        clock = self._keep_clocked(phase, clocked)
        seen = self.taken.get((DEVICE.name, phase, ""), {})
        measurements = (
            Measurement(
                run_index=self._run_index,
                started=self._started,
                bare_ns=bare[position].wall_ns,
                profiled_ns=each.wall_ns,
                step=each.step,
                trace=each.trace,
                profiler_messages=each.messages,
                position=position,
                eager=self._eager(phase, position),
                clock_ns=clocked[position].wall_ns if clocked else None,
                clock=clock,
                device=seen[position].device if seen else None,
                sm_clock=SmClock(
                    bare=_all_mhz(bare),
                    clock=_all_mhz(clocked),
                    device=seen[position].sm_mhz if seen else (),
                    traced=each.sm_mhz,
                ),
            )
            for position, each in traced.items()
        )
        return MeasuredPhase(tuple(measurements), tuple(each.wall_ns for each in bare.values()))

    def _keep_clocked(self, phase: Phase, taken: Mapping[int, Taken]) -> str:
        passes = (
            ClockedPass(position, each.wall_ns, each.clocked)
            for position, each in taken.items()
            if each.clocked is not None
        )
        return self._files.write_clocked(phase, self._run_index, tuple(passes)) if taken else ""

    def _eager(self, phase: Phase, position: int) -> EagerPass | None:
        """The eager pass beside the replay of a graph, if this was one."""
        if (TRACED.name, phase, "eager") not in self.taken:
            return None
        traced = self.taken[TRACED.name, phase, "eager"][position]
        captured = self.taken[TRACED.name, phase, "captured"][0]
        return EagerPass(
            bare_ns=self.taken[BARE.name, phase, "eager"][position].wall_ns,
            profiled_ns=traced.wall_ns,
            step=traced.step,
            trace=traced.trace,
            profiler_messages=traced.messages,
            captured_step=captured.step,
            captured_trace=captured.trace,
            nodes=self._nodes.get(phase, ""),
        )


def _all_mhz(taken: Mapping[int, Taken]) -> tuple[int, ...]:
    """Of a series whose passes follow each other: only its ends were asked for."""
    return tuple(mhz for each in taken.values() for mhz in each.sm_mhz)


def _count_series(
    series: PassSeries, packed: Mapping[str, int | None]
) -> tuple[Phase, dict[int, Traffic]]:
    counted = _each(series, series.chosen, lambda _: count_pass(series.forward, packed))
    return series.phase, dict(counted)


def _each(
    series: PassSeries, wanted: tuple[int, ...], take: Callable[[int], _T]
) -> Iterator[tuple[int, _T]]:
    """Runs a series up to the last wanted position; what `take` makes of each that is wanted."""
    for position in range(max(wanted) + 1):
        if position in wanted:
            yield position, take(position)
        else:
            series.forward()
