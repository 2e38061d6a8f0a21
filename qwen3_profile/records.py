"""A step's parts and a run's facts in, a `TimingRecord` out; and its JSON, in the user's names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution import Attribution, Reason
from qwen3_profile.config import RunConfig
from qwen3_profile.health import DAMAGE, Finding
from qwen3_profile.parts import Part, Times, fold
from qwen3_profile.runs import Environment, ModelFacts
from qwen3_profile.scopes import NO_SCOPE

SCHEMA_VERSION = 1

_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Unattributed:
    """Device time of a step that belongs to no label, and why."""

    reason: str
    ns: int
    events: int


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What one step of a trace says.

    number: k of `ProfilerStep#k`. start_ns: of the step, in the trace's own time.
    forward: the forward pass's label with all its parts; its name is the phase.
    device_ns: the sum of all device events of the step. device_events: how many.
    busy_ns: the union of their intervals. gap_ns: idle device time before them.
    cross_thread_events: attributed from a thread that had no labels.
    """

    number: int
    start_ns: int
    forward: Part
    device_ns: int
    device_events: int
    busy_ns: int
    gap_ns: int
    unattributed: tuple[Unattributed, ...]
    cross_thread_events: int

    @property
    def unattributed_ns(self) -> int:
        return sum(item.ns for item in self.unattributed)

    @property
    def balances(self) -> bool:
        """Labels and unattributed are the sum of all device events, to the nanosecond."""
        return self.forward.total.device_ns + self.unattributed_ns == self.device_ns


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a record says of the run beside its times; None where a lone trace does not tell.

    model_class: the class of the model, where the trace of another program names it.
    rank, world_size: which process of how many wrote the trace.
    """

    run: str
    trace: str
    model: ModelFacts | None = None
    environment: Environment | None = None
    requested_device: str | None = None
    device: str | None = None
    attn_implementation: str | None = None
    seed: int | None = None
    logits_to_keep: int | None = None
    use_cache: bool | None = None
    inference_mode: bool | None = None
    warnings: tuple[str, ...] = ()
    model_class: str | None = None
    rank: int | None = None
    world_size: int | None = None


@dataclass(frozen=True, slots=True)
class TimingRecord:
    """One measured run of one config in one phase.

    id: unique; the run's id, the config's index, the run's index and the phase.
    total_ns: wall-clock of the bare forward pass; None where only a trace is known.
    profiled_ns: the same with profiler and labels.
    phase_source: how the phase is known: "label" of ours, "annotation: " and its text of a serving
        engine, or "unknown".
    """

    id: str
    timestamp: str
    config_index: int
    run_index: int
    phase: str
    config: RunConfig | None
    total_ns: int | None
    profiled_ns: int | None
    times: StepTimes
    findings: tuple[Finding, ...]
    facts: RunFacts
    phase_source: str = "label"

    @property
    def disturbance(self) -> float | None:
        """How many times as long the traced forward pass took as the bare one."""
        if self.total_ns is None or self.profiled_ns is None:
            return None
        return self.profiled_ns / self.total_ns

    def to_json(self) -> dict[str, Any]:
        """The record under the names of `timing_records.json`; times in seconds."""
        return {
            "timestamp": self.timestamp,
            "batch_size": self.config.batch_size if self.config else None,
            "input_len": self.config.input_len if self.config else None,
            "total_time": _seconds(self.total_ns),
            "layer_details": [_layer_json(part) for part in layers(self.times.forward)],
            "model_details": _model_json(self.times.forward),
            "schema_version": SCHEMA_VERSION,
            "id": self.id,
            "run": self.facts.run,
            "config_index": self.config_index,
            "run_index": self.run_index,
            "phase": self.phase,
            "phase_source": self.phase_source,
            "steps": 1,
            "profiled_time": _seconds(self.profiled_ns),
            "disturbance": self.disturbance,
            **_step_json(self.times),
            "dtype": self.config.dtype if self.config else None,
            "num_runs": self.config.num_runs if self.config else None,
            "warmup_runs": self.config.warmup_runs if self.config else None,
            **_facts_json(self.facts),
            "damaged": any(finding.severity == DAMAGE for finding in self.findings),
            "findings": [asdict(finding) for finding in self.findings],
        }


def read_steps(attribution: Attribution) -> tuple[StepTimes, ...]:
    """The times of each step that holds a labelled forward pass."""
    found = []
    for index in range(len(attribution.steps)):
        inside = attribution.scope_step == index
        roots = fold(attribution, inside & _below_phases(attribution))
        found += [_step_times(attribution, index, root) for root in roots]
    return tuple(found)


def layers(forward: Part) -> tuple[Part, ...]:
    """The layers of a forward pass, in order."""
    found = [(labels.parse(part.name), part) for part in forward.parts]
    numbered = [
        (label.layer, part)
        for label, part in found
        if label is not None and label.kind == "layer" and label.layer is not None
    ]
    return tuple(part for _, part in sorted(numbered, key=lambda pair: pair[0]))


def collectives(forward: Part) -> tuple[Part, ...]:
    """The parts `nccl`, wherever in a forward pass they were launched."""
    walk = (part for _, part in forward.walk())
    return tuple(part for part in walk if short_name(part) == labels.COLLECTIVES)


def short_name(part: Part) -> str:
    """The last component of the part's name: `q_proj` of `layer.7.attn.q_proj`."""
    return part.name.rpartition(".")[2]


def _below_phases(attribution: Attribution) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which scopes are a forward pass's label, or lie in one."""
    scopes = attribution.scopes
    phases = (*labels.PHASES, labels.NEUTRAL_PHASE)
    is_phase = np.array([name in phases for name in scopes.names], bool)[scopes.name]
    inside = is_phase.copy()
    for i, parent in enumerate(scopes.parent.tolist()):
        if parent != NO_SCOPE and inside[parent]:
            inside[i] = True
    return inside


def _step_times(attribution: Attribution, index: int, forward: Part) -> StepTimes:
    mine = attribution.device_step == index
    dur_ns = attribution.trace.device.dur_ns
    unattributed = []
    for reason in Reason:
        events = mine & (attribution.owner == reason)
        if events.any():
            unattributed.append(
                Unattributed(reason.text, int(dur_ns[events].sum()), int(events.sum()))
            )
    return StepTimes(
        number=attribution.steps[index].number,
        start_ns=attribution.steps[index].start_ns,
        forward=forward,
        device_ns=int(dur_ns[mine].sum()),
        device_events=int(mine.sum()),
        busy_ns=attribution.busy_ns(index),
        gap_ns=int(attribution.gap_ns[mine].sum()),
        unattributed=tuple(unattributed),
        cross_thread_events=int(attribution.cross_thread[mine].sum()),
    )


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_S


def _pair(name: str, times: Times) -> dict[str, float]:
    return {name: times.cpu_ns / _NS_PER_S, f"{name}_cuda": times.device_ns / _NS_PER_S}


def _parts_json(part: Part) -> dict[str, float]:
    """Each child of `part`, and `other`: what of it no child explains."""
    found: dict[str, float] = {}
    for child in part.parts:
        found |= _pair(short_name(child), child.total)
    return found | _pair(labels.OTHER, part.own)


def _layer_json(layer: Part) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in ("attn", "ffn"):
        part = layer.find(f"{layer.name}.{block}") or Part(block, Times(), Times())
        found |= {**_pair(block, part.total), f"{block}_details": _parts_json(part)}
    rest = [part for part in layer.parts if short_name(part) not in ("attn", "ffn")]
    for part in rest:
        found |= _pair(short_name(part), part.total)
    return found | _pair(labels.OTHER, layer.own)


def _model_json(forward: Part) -> dict[str, float]:
    inside = set(layers(forward))
    rest = tuple(part for part in forward.parts if part not in inside)
    return _parts_json(Part(forward.name, forward.total, forward.own, rest))


def _step_json(times: StepTimes) -> dict[str, Any]:
    return {
        "forward": times.forward.total.cpu_ns / _NS_PER_S,
        "forward_cuda": times.forward.total.device_ns / _NS_PER_S,
        "cuda_total": times.device_ns / _NS_PER_S,
        "cuda_busy": times.busy_ns / _NS_PER_S,
        "cuda_gap": times.gap_ns / _NS_PER_S,
        "unattributed_cuda": times.unattributed_ns / _NS_PER_S,
        "nccl_cuda": sum(part.own.device_ns for part in collectives(times.forward)) / _NS_PER_S,
        "nccl": {part.name: part.own.device_ns / _NS_PER_S for part in collectives(times.forward)},
        "unattributed": [asdict(item) for item in times.unattributed],
        "ledger_ns": {
            "device_time": times.device_ns,
            "labels": times.forward.total.device_ns,
            "unattributed": times.unattributed_ns,
        },
        "device_events": times.device_events,
        "cross_thread_events": times.cross_thread_events,
    }


def _facts_json(facts: RunFacts) -> dict[str, Any]:
    found = asdict(facts)
    found.pop("run")
    return found
