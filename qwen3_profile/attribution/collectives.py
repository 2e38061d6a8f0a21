"""An attribution in, the same with the time of NCCL and RCCL as a part of its own out.

A collective's kernel waits for the other ranks, so its time says little of the part that launched
it. It stays inside that part, as a part `nccl` of it: `layer.3.attn.o_proj.nccl`. So every sum
stays a sum, and whatever shows parts (tables, JSON, CSV) shows it without knowing of it.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.scopes import ScopeTree
from qwen3_profile.trace.columns import Bool, Category, Int32, Int64, Trace, which

_COLLECTIVE = re.compile(r"(void )?(nccl(Dev)?Kernel|rccl|mscclKernel)", re.IGNORECASE)


def is_collective(trace: Trace) -> Bool:
    """bool[len(trace.device)]: which device events are kernels of NCCL or RCCL."""
    named = which(trace.names, _COLLECTIVE.match)
    mask: Bool = named[trace.device.name] & (trace.device.category == Category.KERNEL)
    return mask


def split_collectives(found: Attribution) -> Attribution:
    """Gives each collective's kernel to a scope `nccl` inside the scope that launched it.

    Such a scope begins and ends where its parent begins: it takes device time, and none of the
    host's. The new scopes come after all others, so a parent still comes before its children.
    """
    chosen = is_collective(found.trace) & (found.owner >= 0)
    if not chosen.any():
        return found
    parents, place = np.unique(found.owner[chosen], return_inverse=True)
    owner = found.owner.copy()
    owner[chosen] = (len(found.scopes) + place).astype(np.int32)
    device = found.trace.device
    moved = (
        (found.self_device_ns, device.dur_ns),
        (found.self_device_events, np.ones(len(device), np.int64)),
        (found.self_graph_events, found.in_graph.astype(np.int64)),
        (found.self_gap_ns, found.gap_ns),
        (found.self_queue_ns, found.queue_ns),
    )
    own, events, graph, gap, queue = (
        _moved(before, values[chosen], parents, place) for before, values in moved
    )
    none = np.zeros(len(parents), np.int64)
    return replace(
        found,
        scopes=_with_children(found.scopes, parents),
        owner=owner,
        scope_step=np.concatenate((found.scope_step, found.scope_step[parents])),
        self_cpu_ns=np.concatenate((found.self_cpu_ns, none)),
        self_launch_ns=np.concatenate((found.self_launch_ns, none)),
        self_device_ns=own,
        self_device_events=events,
        self_graph_events=graph,
        self_gap_ns=gap,
        self_queue_ns=queue,
    )


def _moved(own: Int64, values: Int64, parents: Int32, place: Int64) -> Int64:
    """`own` less what moves out of the parents, and then what each of the new scopes has."""
    gained = np.zeros(len(parents), np.int64)
    np.add.at(gained, place, values)
    rest = own.copy()
    rest[parents] -= gained
    return np.concatenate((rest, gained))


def _with_children(scopes: ScopeTree, parents: Int32) -> ScopeTree:
    names = dict(zip(scopes.names, range(len(scopes.names)), strict=True))
    inside = [scopes.names[name] for name in scopes.name[parents]]
    prefixes = ["" if _is_phase(name) else f"{name}." for name in inside]
    added = [names.setdefault(prefix + labels.COLLECTIVES, len(names)) for prefix in prefixes]
    start = scopes.start_ns[parents]
    return replace(
        scopes,
        names=tuple(names),
        name=np.concatenate((scopes.name, np.array(added, np.int32))),
        track=np.concatenate((scopes.track, scopes.track[parents])),
        start_ns=np.concatenate((scopes.start_ns, start)),
        end_ns=np.concatenate((scopes.end_ns, start)),
        parent=np.concatenate((scopes.parent, parents.astype(np.int32))),
        is_gap=np.concatenate((scopes.is_gap, np.zeros(len(parents), bool))),
    )


def _is_phase(name: str) -> bool:
    return name in (*labels.PHASES, labels.NEUTRAL_PHASE)
