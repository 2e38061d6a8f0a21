"""What sdpa chose in each step of an attribution: flash, efficient, cudnn or math.

`attn_implementation` says who was asked; sdpa chooses by device, dtype, shape and mask, and says so
only by the operator that it calls inside the `attn_forward` labels, such as

    aten::scaled_dot_product_attention                        asked, whatever it chooses
      aten::_scaled_dot_product_flash_attention_for_cpu       chosen
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.labels import ATTN_CORES
from qwen3_profile.trace.columns import Bool, Category, Int32, Int64, occurring, which

# As torch names them, whatever follows: `..._for_cpu`, `..._for_mps`. Backward passes of these
# have operators of their own, and are not the choice of a forward pass.
_CHOICE = re.compile(
    r"aten::_scaled_dot_product_(?P<one>flash|efficient|cudnn|fused)_attention(?!.*_backward)"
    r"|aten::_scaled_dot_product_attention_(?P<other>math)(?!.*_backward)"
)


@dataclass(frozen=True, slots=True)
class AttentionKernel:
    """What ran as attention in one forward pass, or in several.

    name: sdpa's choice: "flash", "efficient", "cudnn" or "math" ("fused" on devices that are not
        NVIDIA's); several are joined by "+"; empty where it was not sdpa that ran.
    ops: the operators by which that is known.
    kernels: device kernels launched by these operators, or where there are none in all of
        `attn_forward`; by their time, the longest first. Empty on a CPU.
    """

    name: str
    ops: tuple[str, ...]
    kernels: tuple[str, ...]


def is_choice(op: str) -> bool:
    """Whether an operator of this name is what sdpa chose."""
    return _CHOICE.match(op) is not None


def find_attention(attribution: Attribution) -> tuple[AttentionKernel | None, ...]:
    """What ran inside the `attn_forward` labels, one entry for each of `attribution.steps`.

    An entry is None where that is not to be seen.
    """
    inside = _attention_scopes(attribution)
    if not inside.any():
        return (None,) * len(attribution.steps)
    ops, scope = _chosen_ops(attribution, inside)
    events = np.flatnonzero(
        _among(attribution.owner, inside) & (attribution.trace.device.category == Category.KERNEL)
    )
    ops_step, events_step = (
        attribution.scope_step[scope],
        attribution.scope_step[attribution.owner[events]],
    )
    return tuple(
        _attention(attribution, ops[ops_step == step], events[events_step == step])
        for step in range(len(attribution.steps))
    )


def merge_attention(several: Sequence[AttentionKernel | None]) -> AttentionKernel | None:
    """What ran in any of several steps, in the order in which it first did."""
    known = [each for each in several if each is not None]
    if not known:
        return None
    ops = tuple(dict.fromkeys(op for each in known for op in each.ops))
    kernels = tuple(dict.fromkeys(name for each in known for name in each.kernels))
    return AttentionKernel("+".join(dict.fromkeys(map(_choice, ops))), ops, kernels)


def _attention(attribution: Attribution, ops: Int64, events: Int64) -> AttentionKernel | None:
    """One step's: from sdpa's operators, and the device kernels of attention."""
    names = tuple(
        dict.fromkeys(attribution.trace.names[n] for n in attribution.trace.host.name[ops])
    )
    kernels = _kernels(attribution, events, ops)
    if not names and not kernels:
        return None
    return AttentionKernel("+".join(dict.fromkeys(map(_choice, names))), names, kernels)


def _choice(op: str) -> str:
    match = _CHOICE.match(op)
    return "" if match is None else match["one"] or match["other"]


def _attention_scopes(attribution: Attribution) -> Bool:
    """bool[s]: which scopes are attention itself."""
    scopes = attribution.scopes
    named = [name.rpartition(".")[2] in ATTN_CORES for name in scopes.names]
    mask: Bool = np.array(named, bool)[scopes.name]
    return mask


def _chosen_ops(attribution: Attribution, inside: Bool) -> tuple[Int64, Int32]:
    """The host events that are sdpa's choice, made in one of the scopes `inside`; and in which."""
    trace = attribution.trace
    chosen_name = which(trace.names, is_choice)
    ops = np.flatnonzero(chosen_name[trace.host.name] & (trace.host.category == Category.CPU_OP))
    scope = attribution.scopes.innermost(trace.host.track[ops], trace.host.start_ns[ops])
    chosen = _among(scope, inside)
    return ops[chosen], scope[chosen]


def _kernels(attribution: Attribution, events: Int64, ops: Int64) -> tuple[str, ...]:
    trace = attribution.trace
    device = trace.device
    mine = events[_launched_in(attribution, events, ops)] if len(ops) else events
    time_ns: Counter[str] = Counter()
    for name, dur_ns in zip(device.name[mine].tolist(), device.dur_ns[mine].tolist(), strict=True):
        time_ns[trace.names[name]] += dur_ns
    return tuple(name for name, _ in time_ns.most_common())


def _launched_in(attribution: Attribution, events: Int64, ops: Int64) -> Bool:
    """bool[len(events)]: which device events were launched while one of `ops` ran, on its thread.

    The ops of one thread do not overlap: none of them calls another.
    """
    launches, host = attribution.trace.launches, attribution.trace.host.take(ops)
    launch = attribution.launch[events]
    linked = launch != NO_LAUNCH_EVENT
    result = np.zeros(len(events), bool)
    for track in occurring(host.track):
        on_track = host.take(host.track == track)
        on_track = on_track.take(np.argsort(on_track.start_ns))
        asked = np.flatnonzero(linked)
        asked = asked[launches.track[launch[asked]] == track]
        start_ns = launches.start_ns[launch[asked]]
        before = np.searchsorted(on_track.start_ns, start_ns, side="right") - 1
        result[asked] = (before >= 0) & (start_ns < on_track.end_ns[np.maximum(before, 0)])
    return result


def _among(scope: Int32, inside: Bool) -> Bool:
    """Whether each scope's index, which may be negative for none, is one of `inside`."""
    if not len(inside):
        return np.zeros(len(scope), bool)
    mask: Bool = (scope >= 0) & inside[np.maximum(scope, 0)]
    return mask
