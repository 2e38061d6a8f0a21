"""A config that is to run as CUDA graphs in, its measured runs out: replays, and the eager passes.

One phase of one run is measured so, with the same batch from the same state each time:

    bare eager passes                       the time that the graph saves is theirs
    capture, bare replays                   total_time
    traced eager passes, labelled           what launched each kernel, in the order of the graph
    one more, on the code for captures      in case that the graph launches other kernels
    capture, traced replays                 the kernels themselves

No capture lies in a session of the profiler, and no graph lives through the detaching of CUPTI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwen3_profile.config import RunConfig
from qwen3_profile.measure import instrument
from qwen3_profile.measure.count_bytes import count_pass
from qwen3_profile.measure.executions.cuda_graph import FixedPass, Graph, as_captured
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.profiler import Recorder, no_collections
from qwen3_profile.run_folder.bytes_moved import Traffic
from qwen3_profile.run_folder.run_json import EagerPass, Measurement

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Session:
    """One traced pass: its step, its trace relative to the run's folder, and its wall-clock."""

    step: int
    trace: str
    profiled_ns: int
    messages: tuple[str, ...]


# Traces one pass: phase, its position, the pass, what runs before it, and what the file is called.
Trace = Callable[[Phase, int, Callable[[], object], Callable[[], None], str], Session]


@dataclass(frozen=True, slots=True)
class GraphPhase:
    """What was measured of one phase. step_times_ns: of a decode, the bare time of each replay."""

    measurements: tuple[Measurement, ...]
    step_times_ns: tuple[int, ...]
    labels: instrument.Instrumentation


@dataclass(frozen=True, slots=True)
class GraphRuns:
    """Measures the phases of one config.

    trace: traces one pass of the run that is under way.
    keep: writes the labels of a phase's graph; gives the file, relative to the run's folder.
    """

    model: Any
    inputs: Inputs
    config: RunConfig
    recorder: Recorder
    trace: Trace
    keep: Callable[[Phase, Mapping[int, str]], str]

    def measure(self, phase: Phase, run_index: int, started: str) -> GraphPhase:
        """Takes the bare and the traced passes of one phase.

        Raises:
            RunError: the pass cannot be captured, or its graph computes something else.
        """
        is_decode = phase == "decode"
        chosen = self.config.traced_positions if is_decode else (0,)
        forward = FixedPass(self.model, self.inputs, self.config, phase)
        aside = Generation(self.model, self.inputs.ids[:, -1:], 1 << 10)
        aside.prefill()
        self.recorder.settle(aside.decode)
        count = self.config.decode_steps if is_decode else 1
        eager_ns = self._bare(forward, forward.run, count)
        graph = self._capture(forward)
        bare_ns = self._bare(forward, graph.replay, count)
        graph.release()
        with instrument.labelled(self.model) as labels:
            eager = self._sessions(forward, forward.run, aside, phase, chosen, "eager")
            other = self._captured_code(forward, aside, phase)
        with self.recorder.attached(aside.decode):
            with instrument.labelled(self.model):
                graph = self._capture(forward, marked=True)
            nodes = self.keep(phase, graph.labels) if graph.labels else ""
            replays = self._sessions(forward, graph.replay, aside, phase, chosen, "")
            graph.release()
        measurements = tuple(
            Measurement(
                run_index=run_index,
                started=started,
                bare_ns=bare_ns[position],
                profiled_ns=replay.profiled_ns,
                step=replay.step,
                trace=replay.trace,
                profiler_messages=replay.messages,
                position=position,
                eager=EagerPass(
                    eager_ns[position], beside.profiled_ns, beside.step, beside.trace,
                    beside.messages, other.step, other.trace, nodes,
                ),
            )
            for position, replay, beside in zip(chosen, replays, eager, strict=True)
        )  # fmt: skip
        return GraphPhase(measurements, bare_ns if is_decode else (), labels)

    def _capture(self, forward: FixedPass, *, marked: bool = False) -> Graph:
        return Graph(forward, f"config {self.config.worker}", marked=marked)

    def _bare(self, forward: FixedPass, run: Callable[[], None], count: int) -> tuple[int, ...]:
        """Wall-clock of each pass from the first on, after one that is not timed."""
        forward.rewind()
        run()
        forward.rewind()
        with no_collections():
            return tuple(self.recorder.timed(run) for _ in range(count))

    def _sessions(
        self,
        forward: FixedPass,
        run: Callable[[], None],
        aside: Generation,
        phase: Phase,
        chosen: tuple[int, ...],
        kind: str,
    ) -> list[Session]:
        """Runs all passes up to the last chosen one, and traces the chosen ones."""
        forward.rewind()
        found = []
        for position in range(max(chosen) + 1):
            if position in chosen:
                self.recorder.settle(aside.decode)
                found.append(self.trace(phase, position, run, aside.decode, kind))
            else:
                run()
        return found

    def _captured_code(self, forward: FixedPass, aside: Generation, phase: Phase) -> Session:
        def run() -> None:
            with as_captured():
                forward.run()

        self.recorder.settle(aside.decode)
        forward.rewind()
        return self.trace(phase, 0, run, aside.decode, "captured")


def count_captured(model: Any, inputs: Inputs, config: RunConfig) -> dict[str, dict[int, Traffic]]:
    """Phase -> position -> what a pass moves, on the code that is captured.

    A graph launches the same at every position, so there is but one of a decode, the first.

    Args:
        model: labelled.
    """
    phases: list[Phase] = ["prefill", "decode"] if config.decode_steps else ["prefill"]
    found = {}
    for phase in phases:
        forward = FixedPass(model, inputs, config, phase)
        with as_captured():
            found[str(phase)] = {0: count_pass(forward.run)}
    return found
