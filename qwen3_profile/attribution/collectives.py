"""Gives the time of collectives to a part of its own.

A collective's kernel waits for the other ranks, so its time says little of the part that launched
it. It stays inside that part, as a part of it that is called by who carries the data:
`layer.3.attn.o_proj.nccl`. So every sum stays a sum, and whatever shows parts (tables, JSON, CSV)
shows it without knowing of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.collective_kernels import collective_kind
from qwen3_profile.attribution.scopes import NewScope, ScopeTree
from qwen3_profile.trace.columns import Bool, Category, Events, Int64, Trace, which

_KIND_NUMBER = {kind: number for number, kind in enumerate(labels.COLLECTIVES)}


def is_collective(trace: Trace) -> Bool:
    """bool[len(trace.device)]: which device events are kernels of collectives."""
    return _carry(trace, trace.device)


def _carry(trace: Trace, device: Events) -> Bool:
    named = which(trace.names, collective_kind)
    mask: Bool = named[device.name] & (device.category == Category.KERNEL)
    return mask


def communication(trace: Trace, events: Int64 | None = None) -> tuple[tuple[str, int], ...]:
    """Who carries data between devices in these device events, or in all, and for how many ns."""
    if not which(trace.names, collective_kind).any():
        return ()
    device = trace.device if events is None else trace.device.take(events)
    device = device.take(_carry(trace, device))
    found: Counter[str] = Counter()
    for name, ns in zip(device.name.tolist(), device.dur_ns.tolist(), strict=True):
        found[collective_kind(trace.names[name]) or ""] += ns
    return tuple(found.items())


def summed(several: Iterable[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
    """What `communication` gave of several, as if of all of them."""
    found: Counter[str] = Counter()
    for each in several:
        found.update(dict(each))
    return tuple(found.items())


def split_collectives(attribution: Attribution) -> Attribution:
    """Gives each collective's kernel to a scope such as `nccl` in the scope that launched it.

    Such a scope begins and ends where its parent begins: it takes device time, and none of the
    host's. The new scopes come after all others, so a parent still comes before its children.
    """
    chosen = is_collective(attribution.trace) & (attribution.owner >= 0)
    if not chosen.any():
        return attribution
    kinds = map(collective_kind, attribution.trace.names)
    kind = np.array([_KIND_NUMBER.get(each or "", 0) for each in kinds], np.int64)
    of_event = kind[attribution.trace.device.name[chosen]]
    pair = attribution.owner[chosen] * len(labels.COLLECTIVES) + of_event
    pairs, place = np.unique(pair, return_inverse=True)
    owner = attribution.owner.copy()
    owner[chosen] = (len(attribution.scopes) + place).astype(np.int32)
    inside = (divmod(each, len(labels.COLLECTIVES)) for each in pairs.tolist())
    return attribution.with_scopes([_inside(attribution.scopes, *each) for each in inside], owner)


def _inside(scopes: ScopeTree, parent: int, kind: int) -> NewScope:
    outer, start_ns = scopes.names[scopes.name[parent]], int(scopes.start_ns[parent])
    inner = labels.COLLECTIVES[kind]
    name = inner if _is_phase(outer) else f"{outer}.{inner}"
    return NewScope(name, int(scopes.track[parent]), start_ns, start_ns, parent)


def _is_phase(name: str) -> bool:
    return name in (*labels.PHASES, labels.NEUTRAL_PHASE)
