"""Which parts each kernel of a compiled graph computes, by the labels of its nodes.

Inductor lists of each call which nodes it computes. A kernel of a library computes one of them, and
the list of some goes on with all that is upstream; a fused kernel may list the library's nodes that
it only reads, where `dataflow` did not see that it does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen3_profile.measure.inductor.node_labels import Node
from qwen3_profile.run_folder.provenance import Kernel, PartShare

# What a library or torch itself computes, as Inductor writes it into the code that it makes:
# extern_kernels.mm, torch.ops.aten._scaled_dot_product_flash_attention.default, aten.index_put_
_EXTERN = re.compile(r"(?:extern_kernels|(?:torch\.ops\.)?(?P<space>\w+))\.(?P<op>\w+)(?:\.\w+)?")
# Views take no time, and constants are made in the kernel that reads them.
_NO_COMPUTE = frozenset(
    (
        "_unsafe_view", "alias", "arange", "as_strided", "detach", "empty", "empty_like",
        "empty_strided", "expand", "full", "full_like", "getitem", "iota", "ones", "permute",
        "reshape", "scalar_tensor", "select", "slice", "split", "split_with_sizes", "squeeze", "t",
        "transpose", "unbind", "unsqueeze", "view", "zeros",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moves:
    """The bytes that kernels move, where they are known.

    calls: of each call whose code Inductor makes.
    nodes: of each node, if a library's kernel computes it.
    """

    calls: Sequence[int | None]
    nodes: Mapping[str, int | None]


def kernel_parts(
    calls: Sequence[tuple[str, Sequence[str]]],
    nodes: Sequence[Node],
    node_labels: Mapping[str, str],
    moves: Moves | None = None,
) -> tuple[Kernel, ...]:
    """Each call with its parts.

    Args:
        calls: the kernel's name as Inductor has it, and the names of its nodes; in call order.
        nodes: in the order of the graph.
        node_labels: as `label_nodes` gives them.
        moves: what is known of the bytes; by default nothing.
    """
    order = {node.name: index for index, node in enumerate(nodes)}
    targets = {node.name: _op_of(node.target) for node in nodes}
    own = _own_nodes(calls, targets)
    taken = set(own.values())
    found = []
    for index, (name, listed) in enumerate(calls):
        mine = [own[index]] if index in own else [n for n in listed if n not in taken]
        mine = sorted((n for n in mine if n in order), key=lambda n: order[n])
        computed = [n for n in mine if targets[n] not in _NO_COMPUTE]
        shares = _shares(computed or mine, node_labels)
        moved = _moved(index, name, own.get(index), targets, moves) if moves is not None else None
        found.append(Kernel(event_name(name), shares, moved))
    return tuple(found)


def event_name(kernel: str) -> str:
    """The name that a kernel's event has in a trace: `aten::mm` for `extern_kernels.mm`."""
    match = _EXTERN.fullmatch(kernel)
    return f"{match['space'] or 'aten'}::{match['op']}" if match else kernel


def _own_nodes(
    calls: Sequence[tuple[str, Sequence[str]]], targets: Mapping[str, str]
) -> dict[int, str]:
    """Of each call of a library's kernel the one node that it computes."""
    own: dict[int, str] = {}
    for index, (name, listed) in enumerate(calls):
        match = _EXTERN.fullmatch(name)
        if match is None or not listed:
            continue
        free = [n for n in listed if n not in own.values()] or list(listed)
        same = [n for n in free if targets.get(n) == match["op"]]
        own[index] = (same or free)[0]
    return own


def _moved(
    index: int, name: str, own: str | None, targets: Mapping[str, str], moves: Moves
) -> int | None:
    """What a call moves; of a library's kernel only where its node is the very same operator."""
    match = _EXTERN.fullmatch(name)
    if match is None:
        return moves.calls[index]
    return moves.nodes.get(own) if own is not None and targets.get(own) == match["op"] else None


def _op_of(target: str) -> str:
    """`mm` of `aten.mm.default`."""
    words = target.split(".")
    return words[1] if len(words) > 1 else target


def _shares(nodes: Sequence[str], node_labels: Mapping[str, str]) -> tuple[PartShare, ...]:
    counts: dict[str, int] = {}
    for node in nodes:
        if node in node_labels:
            counts[node_labels[node]] = counts.get(node_labels[node], 0) + 1
    return tuple(PartShare(label, count) for label, count in counts.items())
