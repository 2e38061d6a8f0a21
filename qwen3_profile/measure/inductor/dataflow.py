"""Which nodes of its graph a kernel of Inductor's computes, by the operations in it.

Inductor lists for each operation where it comes from, and that is more than what is computed: an
input that it makes ready for attention comes, by that list, from all inputs of attention, and what
reads a buffer comes from all that led to the buffer. But the scheduler knows what an operation
reads, and the graph knows what lies between that and what it writes. So the nodes are those on the
way back from the written value to the read ones.

An operation that makes one input of a node ready is told by what it reads: the input whose way back
ends at exactly these values. Where none does, or several do, Inductor's own list stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import fx


def computed_nodes(graph: Any, operations: Iterable[Any]) -> list[str]:
    """Names of the nodes that are computed, each once.

    Args:
        graph: Inductor's `GraphLowering` that the operations belong to.
        operations: `SchedulerNode`s of one kernel.
    """
    found: dict[str, None] = {}
    for operation in operations:
        found.update(dict.fromkeys(node.name for node in _computed(graph, operation)))
    return list(found)


def _computed(graph: Any, operation: Any) -> Iterable[fx.Node]:
    listed = set(operation.node.origins)
    values = [_value(graph, dep.name) for dep in operation.read_writes.reads]
    known: fx.Node | None = operation.node.get_origin_node()
    last = known or _last(listed)
    if last is None or last not in listed or None in values:
        return listed
    # What is changed in place is read and written, and its value before has no node of its own.
    read = {value for value in values if value is not None and value is not last}
    whole = _way_back([last], listed, read)
    if known is not None or _taken(whole) == read:
        return whole
    inputs = [_way_back([each], listed, read) for each in last.all_input_nodes]
    matching = [way for way in inputs if way and _taken(way) == read]
    return matching[0] if len(matching) == 1 else listed


def _value(graph: Any, name: str) -> fx.Node | None:
    """The node whose value a buffer holds; None where that cannot be told."""
    if name in graph.graph_inputs:
        return next((node for node in graph.graph.nodes if node.name == name), None)
    buffer = graph.name_to_buffer.get(name)
    if buffer is None:
        return None
    known: fx.Node | None = buffer.get_origin_node()
    return known or _last(buffer.origins)


def _last(nodes: Iterable[fx.Node]) -> fx.Node | None:
    """The only one of `nodes` that no other of them uses."""
    among = set(nodes)
    found = [node for node in among if among.isdisjoint(node.users)]
    return found[0] if len(found) == 1 else None


def _way_back(
    starts: Iterable[fx.Node], among: set[fx.Node], read: set[fx.Node]
) -> dict[fx.Node, None]:
    """The nodes from `starts` back, those included, as far as they are `among` and not `read`."""
    found: dict[fx.Node, None] = {}
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node in among and node not in read and node not in found:
            found[node] = None
            waiting += node.all_input_nodes
    return found


def _taken(way: Collection[fx.Node]) -> set[fx.Node]:
    """What the nodes on a way take from outside of it."""
    return {each for node in way for each in node.all_input_nodes if each not in way}
