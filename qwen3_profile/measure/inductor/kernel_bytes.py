"""The bytes that a kernel of Inductor's has to move, by the operations in it.

The scheduler knows of every operation which elements of which buffers it reads and writes. Of a
kernel each buffer counts once, whatever operations share it; what is made and used up inside stays
in registers, and is no buffer at all. The bytes of a library's kernel are those of its operator
(`op_bytes`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import fx
from torch._ops import OpOverload

from qwen3_profile.measure.op_bytes import op_bytes


def node_bytes(node: fx.Node) -> int | None:
    """What the operator of a node moves, if a library's kernel computes it; None if unknown."""
    if not isinstance(node.target, OpOverload) or "val" not in node.meta:
        return None
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda each: each.meta.get("val"))
    try:
        return op_bytes(node.target, args, kwargs, node.meta["val"])
    except Exception:  # symbols in place of sizes; no reason for a compilation to fail
        return None


def kernel_bytes(graph: Any, operations: Sequence[Any]) -> int | None:
    """What a kernel of these operations reads and writes; None for one of a library.

    Args:
        graph: Inductor's `GraphLowering` that the operations belong to.
        operations: `SchedulerNode`s of the kernel.
    """
    from torch._inductor.scheduler import ExternKernelSchedulerNode

    if not operations or any(isinstance(each, ExternKernelSchedulerNode) for each in operations):
        return None
    read = _elements(graph, (dep for each in operations for dep in each.read_writes.reads))
    written = _elements(graph, (dep for each in operations for dep in each.read_writes.writes))
    for name in written:
        # What a kernel has made itself it need not read; of a cache that is a part.
        read[name] = max(0, read.get(name, 0) - written[name])
    return sum(
        count * int(graph.get_dtype(name).itemsize)
        for elements in (read, written)
        for name, count in elements.items()
    )


def _elements(graph: Any, deps: Iterable[Any]) -> dict[str, int]:
    """Buffer -> how many of its elements are addressed; of buffers in memory."""
    from torch._inductor.dependencies import MemoryDep

    inside = set(graph.removed_buffers) | set(graph.inplaced_to_remove)
    regions: dict[str, dict[Any, int]] = {}
    for dep in deps:
        # The others address nothing, and only say what has to run before.
        if isinstance(dep, MemoryDep) and dep.name not in inside:
            regions.setdefault(_owner(graph, dep.name), {})[_same(dep)] = _accesses(dep)
    # Regions of one buffer may overlap, but are never more than all of it.
    return {
        name: min(sum(found.values()), int(graph.get_numel(name)))
        for name, found in regions.items()
    }


def _same(dep: Any) -> Any:
    """Equal for accesses that differ in nothing but the order of their loops."""
    same = dep if dep.is_indirect() else dep.normalize_with_stride_order()
    return (dep.name, same.index, same.size)


def _owner(graph: Any, name: str) -> str:
    """The buffer in whose memory another one lies, as the operands of a concatenation do."""
    from torch._inductor.ir import NonOwningLayout

    layout = getattr(graph.name_to_buffer.get(name), "layout", None)
    return str(layout.view.get_name()) if isinstance(layout, NonOwningLayout) else name


def _accesses(dep: Any) -> int:
    """How many elements are addressed: as many as there are accesses where values say which."""
    if not dep.is_indirect():
        return int(dep.get_numel())
    return math.prod(int(size) for size in dep.size)
