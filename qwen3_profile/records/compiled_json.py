"""What ran in compiled graphs in, its entry of `timing_records.json` out; times in seconds."""

from __future__ import annotations

from typing import Any

from qwen3_profile.passes.compiled.kernel_times import Bounds, CompiledTimes, KernelTimes, bounds
from qwen3_profile.run_folder.bytes_moved import per_pass

_NS_PER_S = 1e9
_KINDS = ("least", "anchored", "most")


def compiled_json(compiled: CompiledTimes, steps: int) -> dict[str, Any]:
    """The kernels by the labels that they compute, and what each part had of them.

    Args:
        compiled: summed over `steps` passes; times and calls are given per pass.
    """
    return {
        "graphs": compiled.graphs / steps,
        "kernel_calls": compiled.calls / steps,
        "refusals": list(dict.fromkeys(compiled.refusals)),
        "kernels": [_kernel_json(kernel, steps) for kernel in compiled.kernels],
        "parts": {each.part: _bounds_json(each, steps) for each in bounds(compiled)},
    }


def _bounds_json(each: Bounds, steps: int) -> dict[str, float | None]:
    unit = steps * _NS_PER_S
    found: dict[str, float | None] = {}
    for kind in _KINDS:
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
