"""Scopes for the stretches between labels, in which ops run that no label names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.nesting import NO_PARENT
from qwen3_profile.trace.columns import Int32, Int64

if TYPE_CHECKING:
    from qwen3_profile.attribution.scopes import ScopeTree

_NO_NAME = -1


def with_gaps(
    tree: ScopeTree, name_gap: Callable[[str, str, str | None], str | None] = labels.gap_name
) -> ScopeTree:
    """`tree` and a scope for each stretch between labels that `name_gap` can name.

    Args:
        name_gap: as `labels.gap_name`: (container's kind, name before, name after) -> name or None.
    """
    names = dict(zip(tree.names, range(len(tree.names)), strict=True))
    owner, before, after = _stretches(tree)
    closed = after == NO_PARENT
    following = np.where(closed, _NO_NAME, tree.name[after])
    # Few of the stretches differ by more than their time.
    count = len(tree.names) + 1
    kind = (tree.name[owner].astype(np.int64) * count + tree.name[before]) * count + following + 1
    _, first, kinds = np.unique(kind, return_index=True, return_inverse=True)
    stretches = np.stack((tree.name[owner], tree.name[before], following))[:, first].T.tolist()
    known = [_gap_name(tree.names, tuple(each), name_gap, names) for each in stretches]
    gap = np.array(known, np.int64)[kinds]
    start = tree.end_ns[before]
    end = np.where(closed, tree.end_ns[owner], tree.start_ns[after])
    kept = (gap != _NO_NAME) & (end > start)
    rows = (gap, tree.track[owner], start, end, owner, np.ones(len(gap), np.int64))
    table = np.stack(rows).T[kept].astype(np.int64)
    return tree.insert_table(tuple(names), table)[0]


def _gap_name(
    texts: Sequence[str],
    stretch: tuple[int, ...],
    name_gap: Callable[[str, str, str | None], str | None],
    names: dict[str, int],
) -> int:
    """The number, in `names`, of the name of a stretch between two labels; -1 if it has none.

    Args:
        stretch: the names of the container and of the labels before and after, as numbers.
    """
    owner, before, after = stretch
    container = labels.parse(texts[owner])
    previous = labels.parse(texts[before])
    following = labels.parse(texts[after]) if after != _NO_NAME else None
    if container is None or previous is None:
        return _NO_NAME
    gap = name_gap(container.kind, previous.name, following.name if following else None)
    if gap is None:
        return _NO_NAME
    prefix = "" if container.kind == "phase" else texts[owner] + "."
    return names.setdefault(prefix + gap, len(names))


def _stretches(tree: ScopeTree) -> tuple[Int32, Int64, Int64]:
    """(container, child before, child after or -1) for every end of a child."""
    child = np.flatnonzero(tree.parent != NO_PARENT)
    child = child[np.argsort(tree.parent[child], kind="stable")]
    owner = tree.parent[child]
    follows = np.append(owner[1:] == owner[:-1], False)[: len(child)]
    after = np.where(follows, np.append(child[1:], NO_PARENT)[: len(child)], NO_PARENT)
    return owner, child, after
