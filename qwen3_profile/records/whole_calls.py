"""The mean device time of a scope's calls, over those of which no device event was lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.lost_events import lost_launches
from qwen3_profile.attribution.scopes import NO_SCOPE
from qwen3_profile.trace.columns import Bool


@dataclass(frozen=True, slots=True)
class WholeCalls:
    """Of the scopes of one path: how many calls, in how many events were lost, and in the others
    the device time in all, with that of the scopes inside."""

    calls: int
    lost: int
    device_ns: int

    @property
    def mean_ns(self) -> float | None:
        whole = self.calls - self.lost
        return self.device_ns / whole if whole else None


def whole_calls(found: Attribution) -> dict[tuple[str, ...], WholeCalls]:
    """By path, of those scopes alone in which device events were lost; none where none were."""
    scopes, lost = found.scopes, _lost(found)
    if not lost.any():
        return {}
    total_ns = found.sum_of("device_ns").copy()
    depth = scopes.depth()
    for level in range(int(depth.max()), 0, -1):
        inner = np.flatnonzero(depth == level)
        np.add.at(total_ns, scopes.parent[inner], total_ns[inner])
    names = set(scopes.name[lost].tolist())
    paths: dict[tuple[str, ...], list[int]] = {}
    for scope in np.flatnonzero(np.isin(scopes.name, list(names))).tolist():
        paths.setdefault(scopes.path(scope), []).append(scope)
    return {
        path: WholeCalls(len(mine), int(lost[mine].sum()), int(total_ns[mine][~lost[mine]].sum()))
        for path, mine in paths.items()
        if lost[mine].any()
    }


def _lost(found: Attribution) -> Bool:
    """Which scopes lost device events that were launched in them."""
    calls = found.trace.launches.take(lost_launches(found))
    lost = np.zeros(len(found.scopes), bool)
    inside = found.scopes.innermost(calls.track, calls.start_ns)
    while len(inside := np.unique(inside[inside != NO_SCOPE])):
        lost[inside] = True
        inside = found.scopes.parent[inside]
    return lost
