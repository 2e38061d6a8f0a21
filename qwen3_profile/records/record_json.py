"""A record as an entry of `timing_records.json`: all of its names but those of the parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qwen3_profile import labels
from qwen3_profile.attribution.findings import DAMAGE
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.attribution.pass_parts import collectives, layers, mixer_of, short_name
from qwen3_profile.records.parts_json import pair_json, split_json
from qwen3_profile.records.quantiles import token_times
from qwen3_profile.run_folder.bytes_moved import per_pass
from qwen3_profile.run_folder.routing import LayerRouting

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.kernel_times import Bounds, KernelTimes
    from qwen3_profile.passes.pass_times import PassTimes
    from qwen3_profile.records.record import RunFacts, TimingRecord, TracedStep
    from qwen3_profile.run_folder.gpu_state import GpuState
    from qwen3_profile.run_folder.run_json import ModelFacts

SCHEMA_VERSION = 2

_NS_PER_S = 1e9
_BYTES_PER_GB = 1e9
_BOUNDS = ("least", "anchored", "most")


def record_json(record: TimingRecord) -> dict[str, Any]:
    """The record in the user's names; times in seconds."""
    return {
        "timestamp": record.timestamp,
        "batch_size": record.config.batch_size if record.config else None,
        "input_len": record.config.input_len if record.config else None,
        "total_time": _seconds(record.total_ns),
        **split_json(record.times.forward, record.steps),
        "schema_version": SCHEMA_VERSION,
        "id": record.id,
        "run": record.facts.run,
        "config_index": record.config_index,
        "run_index": record.run_index,
        "phase": record.phase,
        "phase_source": record.phase_source,
        "steps": record.steps,
        **_decode_json(record),
        "profiled_time": _seconds(record.profiled_ns),
        "disturbance": record.disturbance,
        "overhead": asdict(overhead) if (overhead := record.overhead) else None,
        "cpu_source": record.cpu_source,
        "idle_source": record.idle_source,
        **_clock_json(record),
        **({} if record.gpu is None else {"gpu": _gpu_json(record.gpu)}),
        "tokens_per_second": record.tokens_per_second,
        **_step_json(record.times, record.steps),
        "dtype": record.config.dtype if record.config else None,
        "num_runs": record.config.num_runs if record.config else None,
        "warmup_runs": record.config.warmup_runs if record.config else None,
        "decode_steps": record.config.decode_steps if record.config else None,
        "cache": record.config.cache if record.config else None,
        "inputs": record.config.inputs if record.config else None,
        "tokens": _tokens_json(record),
        **_eager_json(record),
        **_facts_json(record.facts),
        **_compiled_json(record),
        **_traffic_json(record),
        **_flops_json(record),
        **_memory_json(record),
        **({} if record.energy is None else {"energy": asdict(record.energy)}),
        **({} if record.own_total_ns is None else {"rank_time": _seconds(record.own_total_ns)}),
        **_collectives_json(record),
        "attn_kernel": asdict(attention) if (attention := record.times.attention) else None,
        "routing": [_routing_json(layer, record.facts.model) for layer in record.routing],
        "damaged": any(finding.severity == DAMAGE for finding in record.findings),
        "findings": [asdict(finding) for finding in record.findings],
    }


def _clock_json(record: TimingRecord) -> dict[str, Any]:
    """MHz around each kind of pass, where NVML told."""
    found = {kind: list(mhz) for kind, mhz in asdict(record.sm_clock).items() if mhz}
    return {"sm_clock_mhz": found} if found else {}


def _gpu_json(gpu: GpuState) -> dict[str, Any]:
    found = asdict(gpu)
    found.pop("run_index")
    return found


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / _NS_PER_S


def _step_json(times: PassTimes, steps: int) -> dict[str, Any]:
    """Seconds per forward pass; what is counted in ns or in events is of all `steps` of them."""
    unit = steps * _NS_PER_S
    nccl: Counter[str] = Counter()
    for part in collectives(times.forward):
        # Ranges of one name may lie in several others.
        if short_name(part) == labels.NCCL:
            nccl[part.name] += part.own.device_ns
    return {
        "cuda_total": times.device_ns / unit,
        "cuda_busy": times.busy_ns / unit,
        "cuda_gap": times.gap_ns / unit,
        **{f"cuda_{name[:-3]}": ns / unit for name, ns in times.idle._asdict().items()},
        "unattributed_cuda": times.unattributed_ns / unit,
        "nccl_cuda": nccl.total() / unit,
        "nccl": {name: ns / unit for name, ns in nccl.items()},
        "communication": {kind: ns / unit for kind, ns in times.communication},
        "unattributed": [asdict(item) for item in times.unattributed],
        "ledger_ns": {
            "device_time": times.device_ns,
            "labels": times.forward.total.device_ns,
            "unattributed": times.unattributed_ns,
        },
        "device_events": times.device_events,
        "cross_thread_cuda": times.cross_thread_ns / unit,
        "cross_thread_events": times.cross_thread_events,
    }


def _traffic_json(record: TimingRecord) -> dict[str, Any]:
    """What the operators move, where it was counted."""
    if record.times.traffic is None:
        return {}
    from qwen3_profile.records.part_bytes import traffic_json

    return {"traffic": traffic_json(record.times, record.steps)}


def _flops_json(record: TimingRecord) -> dict[str, Any]:
    """What the parts compute, where the model's sizes are known."""
    if record.flops is None:
        return {}
    from qwen3_profile.records.flops import flops_json

    return {"flops": flops_json(record.flops, record.steps)}


def _collectives_json(record: TimingRecord) -> dict[str, Any]:
    """What a rank exchanged with others, in seconds per pass, and GB/s as nccl-tests has them."""
    unit = record.steps * _NS_PER_S
    rows = [
        {
            "label": each.label,
            "kind": each.kind,
            "count": each.count / record.steps,
            "bytes": each.bytes,
            "ranks": each.group_size or None,
            "time": each.ns / unit,
            "transfer_at_most": None if each.transfer_ns is None else each.transfer_ns / unit,
            "waiting": None if each.waiting_ns is None else each.waiting_ns / unit,
            "exposed": each.exposed_ns / unit,
            "overlapped": each.overlapped_ns / unit,
            "algbw": _gigabytes(each.algorithm_bytes_per_s),
            "busbw": _gigabytes(each.bus_bytes_per_s),
        }
        for each in record.collectives
    ]
    return {"collectives": rows} if rows else {}


def _gigabytes(rate: float | None) -> float | None:
    return None if rate is None else rate / _BYTES_PER_GB


def _memory_json(record: TimingRecord) -> dict[str, Any]:
    """What a pass allocates, where that was recorded."""
    if record.memory is None:
        return {}
    from qwen3_profile.records.part_memory import memory_json

    return {"memory": memory_json(record.memory)}


def _eager_json(record: TimingRecord) -> dict[str, Any]:
    """What only replays of graphs have: the eager pass next to them, and what the graph saved."""
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
    """The kernels by the labels that they compute, and what each part had of them; per pass."""
    compiled, steps = record.times.compiled, record.steps
    if compiled is None:
        return {}
    return {
        "compiled": {
            "graphs": compiled.graphs / steps,
            "kernel_calls": compiled.calls / steps,
            "refusals": list(dict.fromkeys(compiled.refusals)),
            "kernels": [_kernel_json(kernel, steps) for kernel in compiled.kernels],
            "parts": {each.part: _bounds_json(each, steps) for each in compiled.bounds},
        }
    }


def _bounds_json(each: Bounds, steps: int) -> dict[str, float | None]:
    unit = steps * _NS_PER_S
    found: dict[str, float | None] = {}
    for kind in _BOUNDS:
        found[kind] = getattr(each, f"{kind}_cpu_ns") / unit
        found[f"{kind}_cuda"] = getattr(each, f"{kind}_device_ns") / unit
        found[f"{kind}_bytes"] = per_pass(getattr(each, f"{kind}_bytes"), steps)
    return found


def _kernel_json(kernel: KernelTimes, steps: int) -> dict[str, Any]:
    unit = steps * _NS_PER_S
    return {
        "labels": list(kernel.labels),
        "fused": kernel.is_fused,
        "anchor": kernel.anchor,
        "calls": kernel.calls / steps,
        "cpu": kernel.cpu_ns / unit,
        "cuda": kernel.device_ns / unit,
        "events": kernel.device_events / steps,
        "gap": kernel.gap_ns / unit,
        "bytes": per_pass(kernel.bytes, steps),
    }


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
    for block, part in (("attn", mixer_of(layer)[1]), ("ffn", layer.find(f"{layer.name}.ffn"))):
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
    for key in ("dtype_in_place_of", "ceilings", "parallel"):
        if found[key] is None:
            found.pop(key)
    if facts.model is not None and facts.model.packed is None:
        found["model"].pop("packed")
    if facts.model is not None and facts.model.shape is not None:
        # Of the table of published shapes, and not of a model that was loaded.
        found["model"]["shape"].pop("sources")
    return found
