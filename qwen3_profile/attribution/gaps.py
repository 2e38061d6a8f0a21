"""The stretches between labels, in which ops run that no label names, and names for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.trace.columns import Int32, Int64

NO_NAME = -1

# As `labels.gap_name`: (container's kind, name before, name after) -> name or None.
NameGap = Callable[[str, str, str | None], str | None]


def find_stretches(parent: Int32) -> tuple[Int32, Int64, Int64]:
    """(container, child before, child after or -1) for every end of a child.

    Args:
        parent: as in a `ScopeTree`.
    """
    child = np.flatnonzero(parent != NO_SCOPE)
    child = child[np.argsort(parent[child], kind="stable")]
    owner = parent[child]
    follows = np.append(owner[1:] == owner[:-1], False)[: len(child)]
    after = np.where(follows, np.append(child[1:], NO_SCOPE)[: len(child)], NO_SCOPE)
    return owner, child, after


def name_stretches(
    texts: tuple[str, ...], owner: Int32, before: Int32, after: Int32, name_gap: NameGap
) -> tuple[tuple[str, ...], Int64]:
    """The names with those of stretches behind them, and the name of each stretch, or -1.

    Args:
        texts: what the others index: the names of each stretch's container and of the labels
            before and after it, the last -1 for none.
    """
    names = dict(zip(texts, range(len(texts)), strict=True))
    # Few of the stretches differ by more than their time.
    count = len(texts) + 1
    kind = (owner.astype(np.int64) * count + before) * count + after + 1
    _, first, kinds = np.unique(kind, return_index=True, return_inverse=True)
    stretches = np.stack((owner, before, after))[:, first].T.tolist()
    known = [_gap_name(texts, tuple(each), name_gap, names) for each in stretches]
    return tuple(names), np.array(known, np.int64)[kinds]


def _gap_name(
    texts: Sequence[str],
    stretch: tuple[int, ...],
    name_gap: NameGap,
    names: dict[str, int],
) -> int:
    """The number, in `names`, of the name of a stretch between two labels; -1 if it has none.

    Args:
        stretch: the names of the container and of the labels before and after, as numbers.
    """
    owner, before, after = stretch
    container = labels.parse(texts[owner])
    previous = labels.parse(texts[before])
    following = labels.parse(texts[after]) if after != NO_NAME else None
    if container is None or previous is None:
        return NO_NAME
    gap = name_gap(container.kind, previous.name, following.name if following else None)
    if gap is None:
        return NO_NAME
    prefix = "" if container.kind == "phase" else texts[owner] + "."
    return names.setdefault(prefix + gap, len(names))


def with_gaps(tree: ScopeTree, name_gap: NameGap = labels.gap_name) -> ScopeTree:
    """`tree` and a scope for each stretch between labels that `name_gap` can name."""
    owner, before, after = find_stretches(tree.parent)
    closed = after == NO_SCOPE
    following = np.where(closed, NO_NAME, tree.name[after])
    names, gap = name_stretches(
        tree.names, tree.name[owner], tree.name[before], following, name_gap
    )
    start = tree.end_ns[before]
    end = np.where(closed, tree.end_ns[owner], tree.start_ns[after])
    kept = (gap != NO_NAME) & (end > start)
    rows = (gap, tree.track[owner], start, end, owner, np.ones(len(gap), np.int64))
    return tree.insert_table(names, np.stack(rows).T[kept].astype(np.int64))[0]
