"""The kernels of one forward pass by part, with the operators that launched them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile.analysis.part_rows import PartPath, own_path, place_of
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.trace.columns import Bool, Category, Int32, Int64

UNATTRIBUTED: PartPath = ()
NO_OP = -1


@dataclass(frozen=True, slots=True)
class KernelStats:
    """A kernel, or a copy, as one operator launched it in one part, all layers together; or an
    operator that a part called.

    part: the part's path; empty for device time that belongs to no label.
    op: of a kernel, the innermost operator around its launch; else, or unknown, empty.
    """

    part: PartPath
    name: str
    op: str
    calls: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class LayerKernel:
    """A kernel, or a copy, as it ran in one part of one layer; layer -1 outside of the layers."""

    part: PartPath
    layer: int
    name: str
    total_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class ScopeRows:
    """The row of a report in which each scope of an attribution stands.

    paths: what `path` indexes.
    path: int32[s], of the scope, or of the row around it where it has none of its own.
    own: int32[s], of its own time. layer: int32[s], or -1.
    has_row: bool[s], whether the scope has a row.
    """

    paths: tuple[PartPath, ...]
    path: Int32
    own: Int32
    layer: Int32
    has_row: Bool


def find_rows(
    attribution: Attribution, step: int, known: Sequence[PartPath], *, inside: bool = False
) -> ScopeRows:
    """The rows of the scopes of one step; those of others have none, -1.

    Args:
        known: the paths of the pass's rows, as `part_tree` gives them.
        inside: the pass is no scope itself; all scopes lie in it.
    """
    scopes, paths = attribution.scopes, {path: at for at, path in enumerate(known)}
    count, rows = len(scopes), set(known)
    place, own, layer = (np.full(count, -1, np.int32) for _ in range(3))
    has_row = np.zeros(count, bool)
    chains: dict[int, tuple[str, ...]] = {}
    parent, name = scopes.parent.tolist(), scopes.name.tolist()
    root = known[0][0]
    for i in np.flatnonzero(attribution.scope_step == step).tolist():
        above = chains.get(parent[i], ()) if parent[i] != NO_SCOPE else (root,) * inside
        text = scopes.names[name[i]]
        if not above and text != root:
            continue
        chains[i] = chain = (*above, text)
        path, layer[i] = place_of(chain)
        has_row[i] = path in rows
        while path not in rows:  # the tables do not go so deep; the pass itself has a row
            path = path[:-1]
        place[i] = paths[path]
        own[i] = paths[own_path(path, rows)] if has_row[i] else place[i]
    return ScopeRows(tuple(known), place, own, layer, has_row)


def owners(attribution: Attribution, events: Int64, rows: ScopeRows) -> tuple[Int32, Int32]:
    """The part, an index into `rows.paths`, and the layer of device events; -1 for none."""
    owner = attribution.owner[events]
    labelled = owner >= 0
    part, layer = (np.full(len(events), -1, np.int32) for _ in range(2))
    part[labelled] = rows.own[owner[labelled]]
    layer[labelled] = rows.layer[owner[labelled]]
    return part, layer


def launching_ops(attribution: Attribution, step: int, events: Int64) -> Int32:
    """int32[len(events)]: the innermost operator around each launch, as an index of trace.names."""
    trace, tree = attribution.trace, _operators(attribution, step)
    launch = attribution.launch[events]
    linked = np.flatnonzero(launch != NO_LAUNCH_EVENT)
    at = launch[linked]
    inside = tree.innermost(trace.launches.track[at], trace.launches.start_ns[at])
    op = np.full(len(events), NO_OP, np.int32)
    hit = inside != NO_SCOPE
    op[linked[hit]] = tree.name[inside[hit]]
    return op


def kernel_stats(
    attribution: Attribution, events: Int64, part: Int32, op: Int32, rows: ScopeRows
) -> tuple[KernelStats, ...]:
    """Sums device events of the same part, name and operator; the longest first."""
    device = attribution.trace.device
    keys = np.stack((part, device.name[events], op))
    return _sum_stats(attribution, keys, device.dur_ns[events], rows)


def kernels_by_layer(
    attribution: Attribution, events: Int64, rows: ScopeRows
) -> tuple[LayerKernel, ...]:
    """Sums device events of the same part, layer and name, in the order of the parts."""
    device, names = attribution.trace.device, attribution.trace.names
    keys = np.stack((*owners(attribution, events, rows), device.name[events]))
    kinds, inverse = np.unique(keys, axis=1, return_inverse=True)
    total_ns = np.zeros(kinds.shape[1], np.int64)
    np.add.at(total_ns, inverse.reshape(-1), device.dur_ns[events])
    return tuple(
        LayerKernel(rows.paths[part] if part >= 0 else UNATTRIBUTED, layer, names[name], ns)
        for part, layer, name, ns in zip(*kinds.tolist(), total_ns.tolist(), strict=True)
    )


def operator_stats(attribution: Attribution, step: int, rows: ScopeRows) -> tuple[KernelStats, ...]:
    """Sums the operators that each part called itself, with all that these call; the longest
    first.
    """
    tree = _operators(attribution, step)
    scope = attribution.scopes.innermost(tree.track, tree.start_ns)
    inner = tree.parent != NO_SCOPE
    outermost = ~inner
    outermost[inner] = scope[inner] != scope[tree.parent[inner]]
    mine = np.flatnonzero(outermost & (scope != NO_SCOPE))
    mine = mine[rows.own[scope[mine]] >= 0]
    none = np.full(len(mine), NO_OP, np.int32)
    keys = np.stack((rows.own[scope[mine]], tree.name[mine], none))
    return _sum_stats(attribution, keys, tree.end_ns[mine] - tree.start_ns[mine], rows)


def _operators(attribution: Attribution, step: int) -> ScopeTree:
    """The operators of a step, without labels that torch writes as such."""
    trace = attribution.trace
    host, span = trace.host, attribution.steps[step]
    ops = (host.category == Category.CPU_OP) & ~select_labels(trace)
    ops &= (host.start_ns < span.end_ns) & (host.end_ns >= span.start_ns)
    return build_scopes(trace, ops, name_gaps=False)


def _sum_stats(
    attribution: Attribution, keys: Int32, dur_ns: Int64, rows: ScopeRows
) -> tuple[KernelStats, ...]:
    """keys: int32[3, n], of each event its part, name and operator."""
    if not keys.shape[1]:
        return ()
    names = attribution.trace.names
    kinds, inverse, calls = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    total_ns = np.zeros(kinds.shape[1], np.int64)
    np.add.at(total_ns, inverse.reshape(-1), dur_ns)
    sums = zip(*kinds.tolist(), calls.tolist(), total_ns.tolist(), strict=True)
    found = [
        KernelStats(
            part=rows.paths[where] if where >= 0 else UNATTRIBUTED,
            name=names[name],
            op=names[by] if by != NO_OP else "",
            calls=count,
            total_ns=ns,
        )
        for where, name, by, count, ns in sums
    ]
    return tuple(sorted(found, key=lambda each: (-each.total_ns, each.name, each.part, each.op)))
