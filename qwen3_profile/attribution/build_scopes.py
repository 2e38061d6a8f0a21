"""Nests the labels of a trace, or other ranges of it, to a tree of scopes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.gaps import with_gaps
from qwen3_profile.attribution.nesting import nest
from qwen3_profile.attribution.scopes import Crossing, ScopeTree
from qwen3_profile.trace.columns import Bool, Category, Events, Int64, Trace, which


def select_labels(trace: Trace) -> Bool:
    """Which host events are labels of our grammar, by name, whatever their category."""
    ours = which(trace.names, labels.parse)
    mask: Bool = ours[trace.host.name] & (trace.host.category != Category.PYTHON_FUNCTION)
    return mask


def build_scopes(
    trace: Trace,
    selected: Bool,
    *,
    name_gaps: bool = True,
    depth: Callable[[str], int] = labels.depth,
) -> ScopeTree:
    """Nests the selected host events, thread by thread.

    Args:
        trace: where they come from.
        selected: bool[len(trace.host)].
        name_gaps: also make scopes of the ops between labels that the grammar can name.
        depth: of two ranges of the same start and end, that of the lower depth is outside.
    """
    events = trace.host.take(selected)
    tree = _nest(events, trace.names, depth)
    return with_gaps(tree) if name_gaps else tree


def label_scopes(trace: Trace, quantised: Collection[str] = ()) -> ScopeTree:
    """The labels of a trace, with gaps.

    Args:
        quantised: those of Linears of packed weights, whose stages become scopes.
    """
    tree = build_scopes(trace, select_labels(trace))
    if not quantised:
        return tree
    from qwen3_profile.attribution.linear_stages import with_stages  # which few models have

    return with_stages(trace, tree, quantised)


def _nest(events: Events, names: tuple[str, ...], depth: Callable[[str], int]) -> ScopeTree:
    rank = _ranks(names, depth)[events.name]
    nested = nest(events.track, events.start_ns, events.dur_ns, rank)
    order, crossing = nested.order, nested.crossing
    return ScopeTree(
        names=names,
        name=events.name[order],
        track=events.track[order],
        start_ns=nested.start_ns,
        end_ns=nested.end_ns,
        parent=nested.parent,
        is_gap=np.zeros(len(order), bool),
        is_rest=nested.is_rest,
        crossing=Crossing(
            len(crossing),
            sum(ns for _, ns in crossing),
            names[events.name[order[crossing[0][0]]]] if crossing else "",
        ),
    )


@lru_cache(maxsize=8)
def _ranks(names: tuple[str, ...], depth: Callable[[str], int]) -> Int64:
    """int64[len(names)]: which of two ranges of the same start and end is outside, the lower one.

    Clocks of whole microseconds make such ties; the order of the file says nothing about them.
    """
    order = sorted(range(len(names)), key=lambda i: (depth(names[i]), names[i]))
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    return ranks
