"""Gives the time of NCCL and RCCL to a part of its own.

A collective's kernel waits for the other ranks, so its time says little of the part that launched
it. It stays inside that part, as a part `nccl` of it: `layer.3.attn.o_proj.nccl`. So every sum
stays a sum, and whatever shows parts (tables, JSON, CSV) shows it without knowing of it.
"""

from __future__ import annotations

import re

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.scopes import NewScope, ScopeTree
from qwen3_profile.trace.columns import Bool, Category, Trace, which

_COLLECTIVE = re.compile(r"(void )?(nccl(Dev)?Kernel|rccl|mscclKernel)", re.IGNORECASE)


def is_collective(trace: Trace) -> Bool:
    """bool[len(trace.device)]: which device events are kernels of NCCL or RCCL."""
    named = which(trace.names, _COLLECTIVE.match)
    mask: Bool = named[trace.device.name] & (trace.device.category == Category.KERNEL)
    return mask


def split_collectives(attribution: Attribution) -> Attribution:
    """Gives each collective's kernel to a scope `nccl` inside the scope that launched it.

    Such a scope begins and ends where its parent begins: it takes device time, and none of the
    host's. The new scopes come after all others, so a parent still comes before its children.
    """
    chosen = is_collective(attribution.trace) & (attribution.owner >= 0)
    if not chosen.any():
        return attribution
    parents, place = np.unique(attribution.owner[chosen], return_inverse=True)
    owner = attribution.owner.copy()
    owner[chosen] = (len(attribution.scopes) + place).astype(np.int32)
    return attribution.with_scopes(
        [_inside(attribution.scopes, parent) for parent in parents.tolist()], owner
    )


def _inside(scopes: ScopeTree, parent: int) -> NewScope:
    outer, start_ns = scopes.names[scopes.name[parent]], int(scopes.start_ns[parent])
    name = labels.COLLECTIVES if _is_phase(outer) else f"{outer}.{labels.COLLECTIVES}"
    return NewScope(name, int(scopes.track[parent]), start_ns, start_ns, parent)


def _is_phase(name: str) -> bool:
    return name in (*labels.PHASES, labels.NEUTRAL_PHASE)
