"""What ran in compiled graphs in, its entry of `timing_records.json` out; times in seconds."""

from __future__ import annotations

from typing import Any

from qwen3_profile.compiled.times import CompiledTimes, KernelTimes, bounds

_NS_PER_S = 1e9
_KINDS = ("least", "anchored", "most")


def compiled_json(compiled: CompiledTimes, steps: int) -> dict[str, Any]:
    """The kernels by the labels that they compute, and what each part had of them.

    Args:
        compiled: summed over `steps` passes; times and calls are given per pass.
    """
    unit = steps * _NS_PER_S
    return {
        "graphs": compiled.graphs / steps,
        "kernel_calls": compiled.calls / steps,
        "refusals": list(dict.fromkeys(compiled.refusals)),
        "kernels": [_kernel_json(kernel, steps) for kernel in compiled.kernels],
        "parts": {
            each.part: {
                f"{kind}{suffix}": getattr(each, f"{kind}_{column}_ns") / unit
                for kind in _KINDS
                for suffix, column in (("", "cpu"), ("_cuda", "device"))
            }
            for each in bounds(compiled)
        },
    }


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
    }
