"""A step's parts and a run's facts in, a `TimingRecord` out; and its JSON, in the user's names."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from qwen3_profile.attribution.findings import DAMAGE, Finding
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.passes.pass_times import StepTimes, collectives, layers
from qwen3_profile.records.parts_json import pair_json, split_json
from qwen3_profile.records.percentiles import token_times
from qwen3_profile.run_folder.routing import LayerRouting

if TYPE_CHECKING:
    from qwen3_profile.config import RunConfig
    from qwen3_profile.run_folder.run_json import Environment, ModelFacts

SCHEMA_VERSION = 1

_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a record says of the run beside its times; None where a lone trace does not tell.

    model_class: the class of the model, where the trace of another program names it.
    rank, world_size: which process of how many wrote the trace.
    lengths: the tokens of each sequence of the input, without its padding.
    execution: how the forward pass got to the device, one of `config.EXECUTIONS`.
    compile_mode, compile_scope: as in `RunConfig`; None where nothing was compiled.
    compile_time: seconds of the first pass of this phase, which compiles.
    output_error: by how much compiled logits differ from eager ones; see `runs.Compiled`.
    """

    run: str
    trace: str
    model: ModelFacts | None = None
    environment: Environment | None = None
    requested_device: str | None = None
    device: str | None = None
    attn_implementation: str | None = None
    experts_implementation: str | None = None
    seed: int | None = None
    logits_to_keep: int | None = None
    use_cache: bool | None = None
    inference_mode: bool | None = None
    warnings: tuple[str, ...] = ()
    model_class: str | None = None
    rank: int | None = None
    world_size: int | None = None
    lengths: tuple[int, ...] = ()
    execution: str | None = None
    compile_mode: str | None = None
    compile_scope: str | None = None
    compile_time: float | None = None
    output_error: float | None = None


@dataclass(frozen=True, slots=True)
class EagerStep:
    """The eager passes beside replays of a graph; times are sums where those of the replays are."""

    bare_ns: float
    profiled_ns: float
    times: StepTimes


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One traced forward pass of a decode.

    position: how many decode steps came before it. context_len: tokens that its attention saw.
    eager: where it is the replay of a graph, the eager pass beside it.
    """

    position: int
    context_len: int
    bare_ns: int
    profiled_ns: int
    times: StepTimes
    eager: EagerStep | None = None


@dataclass(frozen=True, slots=True)
class TimingRecord:
    """One measured run of one config in one phase.

    A decode record is of several forward passes: its totals are means per pass, and its `times`
    sums over the traced ones.

    id: unique; the run's id, the config's index, the run's index and the phase.
    total_ns: wall-clock of the bare forward pass; None where only a trace is known.
    profiled_ns: the same with profiler and labels.
    phase_source: how the phase is known: "label" of ours, "annotation: " and its text of a serving
        engine, or "unknown".
    traced: of a decode, each traced step; empty for a prefill.
    step_times_ns: of a decode, the bare wall-clock of every step.
    routing: of a mixture of experts, where its tokens went, layer by layer.
    eager: of replays of a graph, the eager passes beside the traced ones.
    """

    id: str
    timestamp: str
    config_index: int
    run_index: int
    phase: str
    config: RunConfig | None
    total_ns: float | None
    profiled_ns: float | None
    times: StepTimes
    findings: tuple[Finding, ...]
    facts: RunFacts
    phase_source: str = "label"
    traced: tuple[TracedStep, ...] = ()
    step_times_ns: tuple[int, ...] = ()
    routing: tuple[LayerRouting, ...] = ()
    eager: EagerStep | None = None

    @property
    def steps(self) -> int:
        """How many traced forward passes `times` is the sum of."""
        return len(self.traced) or 1

    @property
    def disturbance(self) -> float | None:
        """How many times as long the traced forward passes took as the same ones bare."""
        if self.traced:
            bare = sum(step.bare_ns for step in self.traced)
            return sum(step.profiled_ns for step in self.traced) / bare
        if self.total_ns is None or self.profiled_ns is None:
            return None
        return self.profiled_ns / self.total_ns

    @property
    def tokens_per_second(self) -> float | None:
        """Of the bare pass: real tokens of its input; of a decode, tokens that it chooses.

        All sequences together; of a decode at its median step.
        """
        if self.config is None or not self.total_ns:
            return None
        if self.step_times_ns:
            return self.config.batch_size * _NS_PER_S / median(self.step_times_ns)
        return sum(self.facts.lengths) * _NS_PER_S / self.total_ns

    def one_by_one(self) -> tuple[TimingRecord, ...]:
        """The same with one traced forward pass each, so that each adds up by itself."""
        if not self.traced:
            return (self,)
        return tuple(
            replace(
                self,
                total_ns=step.bare_ns,
                profiled_ns=step.profiled_ns,
                times=step.times,
                traced=(step,),
                eager=step.eager,
            )
            for step in self.traced
        )

    def to_json(self) -> dict[str, Any]:
        """The record under the names of `timing_records.json`; times in seconds."""
        return {
            "timestamp": self.timestamp,
            "batch_size": self.config.batch_size if self.config else None,
            "input_len": self.config.input_len if self.config else None,
            "total_time": _seconds(self.total_ns),
            **split_json(self.times.forward, self.steps),
            "schema_version": SCHEMA_VERSION,
            "id": self.id,
            "run": self.facts.run,
            "config_index": self.config_index,
            "run_index": self.run_index,
            "phase": self.phase,
            "phase_source": self.phase_source,
            "steps": self.steps,
            **_decode_json(self),
            "profiled_time": _seconds(self.profiled_ns),
            "disturbance": self.disturbance,
            "tokens_per_second": self.tokens_per_second,
            **_step_json(self.times, self.steps),
            "dtype": self.config.dtype if self.config else None,
            "num_runs": self.config.num_runs if self.config else None,
            "warmup_runs": self.config.warmup_runs if self.config else None,
            "decode_steps": self.config.decode_steps if self.config else None,
            "cache": self.config.cache if self.config else None,
            "inputs": self.config.inputs if self.config else None,
            "tokens": _tokens_json(self),
            **_eager_json(self),
            **_facts_json(self.facts),
            **_compiled_json(self),
            **_traffic_json(self),
            "attn_kernel": asdict(attention) if (attention := self.times.attention) else None,
            "routing": [_routing_json(layer, self.facts.model) for layer in self.routing],
            "damaged": any(finding.severity == DAMAGE for finding in self.findings),
            "findings": [asdict(finding) for finding in self.findings],
        }


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / _NS_PER_S


def _step_json(times: StepTimes, steps: int) -> dict[str, Any]:
    """Seconds per forward pass; what is counted in ns or in events is of all `steps` of them."""
    unit = steps * _NS_PER_S
    nccl: Counter[str] = Counter()
    for part in collectives(times.forward):
        # Ranges of one name may lie in several others.
        nccl[part.name] += part.own.device_ns
    return {
        "cuda_total": times.device_ns / unit,
        "cuda_busy": times.busy_ns / unit,
        "cuda_gap": times.gap_ns / unit,
        "unattributed_cuda": times.unattributed_ns / unit,
        "nccl_cuda": nccl.total() / unit,
        "nccl": {name: ns / unit for name, ns in nccl.items()},
        "unattributed": [asdict(item) for item in times.unattributed],
        "ledger_ns": {
            "device_time": times.device_ns,
            "labels": times.forward.total.device_ns,
            "unattributed": times.unattributed_ns,
        },
        "device_events": times.device_events,
        "cross_thread_events": times.cross_thread_events,
    }


def _traffic_json(record: TimingRecord) -> dict[str, Any]:
    """What the operators move, where it was counted."""
    if record.times.traffic is None:
        return {}
    from qwen3_profile.records.part_bytes import traffic_json

    return {"traffic": traffic_json(record.times, record.steps)}


def _eager_json(record: TimingRecord) -> dict[str, Any]:
    """What only replays of graphs have: the eager pass beside them, and what the graph saved."""
    eager = record.eager
    if eager is None:
        return {}
    from qwen3_profile.records.graph_savings import savings_json

    return {
        "eager": {
            "total_time": _seconds(eager.bare_ns),
            "profiled_time": _seconds(eager.profiled_ns),
            **split_json(eager.times.forward, record.steps),
            **_step_json(eager.times, record.steps),
        },
        "saved": {
            "total_time": _seconds(eager.bare_ns - (record.total_ns or 0)),
            "parts": savings_json(eager.times.forward, record.times.forward, record.steps),
        },
    }


def _compiled_json(record: TimingRecord) -> dict[str, Any]:
    compiled = record.times.compiled
    if compiled is None:
        return {}
    from qwen3_profile.records.compiled_json import compiled_json

    return {"compiled": compiled_json(compiled, record.steps)}


def _decode_json(record: TimingRecord) -> dict[str, Any]:
    """What only a generation has: TTFT, or TPOT, every step's bare time and the traced steps."""
    if not record.traced:
        generates = record.config is not None and record.config.decode_steps
        return {"ttft": _seconds(record.total_ns)} if generates else {}
    return {
        "tpot": asdict(token_times([ns / _NS_PER_S for ns in record.step_times_ns])),
        "step_times": [ns / _NS_PER_S for ns in record.step_times_ns],
        "traced_steps": [_traced_json(step) for step in record.traced],
    }


def _traced_json(step: TracedStep) -> dict[str, Any]:
    blocks = layers(step.times.forward)
    return {
        "position": step.position,
        "context_len": step.context_len,
        "total_time": step.bare_ns / _NS_PER_S,
        "profiled_time": step.profiled_ns / _NS_PER_S,
        "cuda_total": step.times.device_ns / _NS_PER_S,
        "cuda_busy": step.times.busy_ns / _NS_PER_S,
        "cuda_gap": step.times.gap_ns / _NS_PER_S,
        "layers": [_blocks_json(layer) for layer in blocks],
    }


def _blocks_json(layer: Part) -> dict[str, float]:
    found: dict[str, float] = {}
    for block in ("attn", "ffn"):
        part = layer.find(f"{layer.name}.{block}")
        found |= pair_json(block, part.total if part else Times())
    return found


def _tokens_json(record: TimingRecord) -> dict[str, Any] | None:
    """Real tokens of the input, places that are padding, and the real ones of each sequence."""
    if record.config is None:
        return None
    lengths = record.facts.lengths
    real = sum(lengths)
    padded = record.config.batch_size * record.config.input_len - real
    return {"real": real, "padded": padded, "lengths": list(lengths)}


def _routing_json(layer: LayerRouting, model: ModelFacts | None) -> dict[str, Any]:
    """One layer; random weights route otherwise than trained ones, so each entry says which."""
    return {
        **asdict(layer),
        "imbalance": layer.imbalance,
        "idle_experts": layer.idle_experts,
        "weights": model.weights if model else None,
    }


def _facts_json(facts: RunFacts) -> dict[str, Any]:
    found = asdict(facts)
    found.pop("run")
    found.pop("lengths")
    if facts.model is not None and facts.model.shape is not None:
        # Of the table of published shapes, and not of a model that was loaded.
        found["model"]["shape"].pop("sources")
    return found
