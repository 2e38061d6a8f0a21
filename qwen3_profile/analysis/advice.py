"""What people usually do about what holds a pass up, other than what the pass does already."""

from __future__ import annotations

from qwen3_profile.analysis.verdict import (
    BLOCKED,
    COMMUNICATION_BOUND,
    COMPUTE_BOUND,
    LATENCY_BOUND,
    LAUNCH_BOUND,
    MEMORY_BOUND,
)
from qwen3_profile.config import COMPILED, CUDA_GRAPH

ADVICE = {
    LAUNCH_BOUND: "launch less often from Python: a CUDA graph (--cuda-graph), torch.compile "
    "(--compile), a larger batch",
    MEMORY_BOUND: "move fewer bytes: quantised weights, a larger batch for each read of the "
    "weights, fused kernels",
    COMPUTE_BOUND: "compute less, or in a dtype with faster products (fp8); more devices",
    LATENCY_BOUND: "fewer and larger kernels: fuse them (--compile), or batch more",
    COMMUNICATION_BOUND: "overlap communication with work, or send less, in fewer pieces",
    BLOCKED: "leave out what makes the CPU wait: .item(), .cpu(), printing tensors, nonzero",
}
_OF_EXECUTION: dict[str, dict[str, str]] = {
    CUDA_GRAPH: {
        LAUNCH_BOUND: "one launch of a graph per pass is too many: several steps in one graph, or "
        "a larger batch",
    },
    COMPILED: {
        LAUNCH_BOUND: "launch less often from Python: a CUDA graph (--cuda-graph), a larger batch",
        LATENCY_BOUND: "fewer and larger kernels: batch more",
    },
}
_OF_OTHERS = {
    LAUNCH_BOUND: "launch less often from Python: CUDA graphs, torch.compile, a larger batch",
    LATENCY_BOUND: "fewer and larger kernels: fuse them, or batch more",
}
_CALL_LESS = "call fewer operators from Python: torch.compile (--compile), a larger batch"
_ON_HOST = {
    LAUNCH_BOUND: _CALL_LESS,
    LATENCY_BOUND: _CALL_LESS,
    MEMORY_BOUND: "move fewer bytes: quantised weights, a larger batch for each read of the "
    "weights, fused operators (--compile)",
    COMPUTE_BOUND: "compute less, in a dtype that this CPU has instructions for, on more cores",
}
_ON_HOST_COMPILED = dict.fromkeys((LAUNCH_BOUND, LATENCY_BOUND), "a larger batch for each call")


def advice(kind: str, execution: str | None, on_device: bool, *, is_ours: bool = True) -> str:
    """What usually helps against a verdict's kind; "" where it names nothing to help against.

    Args:
        execution: how the pass ran, where that is known.
        is_ours: whether our flags ran the pass; else none of them is named.
    """
    known = ADVICE | _OF_EXECUTION.get(execution or "", {}) | ({} if is_ours else _OF_OTHERS)
    if not on_device:
        known |= _ON_HOST | (_ON_HOST_COMPILED if execution == COMPILED else {})
    return known.get(kind, "")
