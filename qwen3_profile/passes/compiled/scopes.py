"""Puts a scope for each part of matched kernel calls into the scopes of the labels.

A call becomes a chain of scopes of its own length, which then own its device events, its idle time
and the rest as all scopes do: layer.7, layer.7.attn, layer.7.attn.q_proj. One that computes several
parts lies where all of them lie, under their names: layer.7.attn.q_norm+rope; across layers in the
forward pass itself: residual_ffn+input_layernorm. A call of a graph that could not be matched is
one scope, `compiled graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.scopes import NO_SCOPE, NewScope, ScopeTree
from qwen3_profile.labels import ANY_LAYER
from qwen3_profile.passes.compiled.match import Call, GraphCall
from qwen3_profile.passes.compiled.part_names import UNMATCHED, scope_names
from qwen3_profile.run_folder.provenance import Kernel, PartShare
from qwen3_profile.trace.columns import Trace


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """A kernel call: its event in `trace.host`, and the parts of the layer that it was made in.

    kernel: what was compiled there.
    scope: the innermost of its own, an index into the tree; -1 where it has none.
    """

    event: int
    kernel: Kernel
    parts: tuple[PartShare, ...]
    scope: int


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The scopes with those of all kernel calls, and the calls.

    graphs: of each graph call, its scope; empty where graphs have none of their own.
    """

    scopes: ScopeTree
    calls: tuple[PlacedCall, ...]
    graphs: tuple[int, ...]


def place_kernels(
    trace: Trace, scopes: ScopeTree, graph_calls: Sequence[GraphCall], *, keep_graphs: bool = False
) -> Placed:
    """Puts the calls into `scopes`, with the labels of the layer that each was made in.

    Args:
        keep_graphs: also a scope round each call of a graph.
    """
    new: list[NewScope] = []
    calls: list[tuple[Call, tuple[PartShare, ...], int]] = []
    graphs: list[int] = []
    for graph in graph_calls:
        (around,) = _owners(trace, scopes, [graph.event])
        if keep_graphs or graph.refusal:
            new.append(_scope(trace, graph.event, UNMATCHED, around))
            graphs.append(len(new) - 1)
        events = [call.event for call in graph.calls]
        for call, owner in zip(graph.calls, _owners(trace, scopes, events), strict=True):
            open_names = scopes.path(owner)
            parts = tuple(_in_layer(open_names, part) for part in call.kernel.parts)
            parent = len(scopes) + graphs[-1] if keep_graphs else owner
            mine = -1
            for name in scope_names(tuple(part.label for part in parts)):
                if name not in open_names:
                    new.append(_scope(trace, call.event, name, parent))
                    mine = len(new) - 1
                    parent = len(scopes) + mine
            calls.append((call, parts, mine))
    tree, places = scopes.insert(new)
    at = [*places.tolist(), NO_SCOPE]
    return Placed(
        tree,
        tuple(PlacedCall(c.event, c.kernel, parts, at[mine]) for c, parts, mine in calls),
        tuple(at[graph] for graph in graphs) if keep_graphs else (),
    )


def _owners(trace: Trace, scopes: ScopeTree, events: Sequence[int]) -> list[int]:
    index = np.array(events, np.int64)
    found = scopes.innermost(trace.host.track[index], trace.host.start_ns[index])
    return [int(scope) for scope in found]


def _in_layer(open_names: Sequence[str], part: PartShare) -> PartShare:
    """`part` in the layer whose label is open; of no layer where none is."""
    if not part.label.startswith(ANY_LAYER):
        return part
    layer = next((n for n in reversed(open_names) if labels.kind_of(n) == "layer"), None)
    return PartShare(layer + part.label[len(ANY_LAYER) :] if layer else "", part.nodes)


def _scope(trace: Trace, event: int, name: str, parent: int) -> NewScope:
    host = trace.host
    start, end = int(host.start_ns[event]), int(host.end_ns[event])
    return NewScope(name, int(host.track[event]), start, end, parent)
