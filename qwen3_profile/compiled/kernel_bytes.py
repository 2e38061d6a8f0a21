"""The schedule of each kernel that Inductor makes in, the bytes that it has to move out.

Inductor's scheduler knows of every operation in a kernel which elements of which buffers it reads
and writes. Of a kernel each buffer counts once, whatever operations share it; what is made and used
up inside stays in registers, and is no buffer at all. Nothing of this is public in torch: where it
is another way, nothing is known, and nothing is guessed. The bytes of a library's kernel are those
of its operator (`op_bytes`).
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from torch import fx
from torch._ops import OpOverload

from qwen3_profile.traffic.op_bytes import op_bytes

_NUMBERING = "set_kernel_post_grad_provenance_tracing"


class Schedules:
    """The schedules of the kernels of the graph that is being compiled, by "kernel:number"."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, list[Any]]] = {}

    def take(self) -> dict[str, int | None]:
        """What each kernel moves; of the next graph nothing is known yet.

        To be called when the graph is compiled: only then are all buffers known that it does not
        need.
        """
        seen, self._seen = self._seen, {}
        return {key: _known(graph, schedule) for key, (graph, schedule) in seen.items()}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Keeps the schedules of what is compiled in this block."""
        from torch._inductor import debug

        original = getattr(debug, _NUMBERING, None)
        if original is None:
            yield
            return

        def numbering(schedule: Any, kernel: str, *args: Any, **kwargs: Any) -> Any:
            number = original(schedule, kernel, *args, **kwargs)
            if number is not None and isinstance(schedule, list):
                self._seen[f"{kernel}:{number}"] = (_graph(), list(schedule))
            return number

        with ExitStack() as undo:
            # Code generators have it under their own names.
            for module in list(sys.modules.values()):
                is_inductors = getattr(module, "__name__", "").startswith("torch._inductor")
                if is_inductors and vars(module).get(_NUMBERING) is original:
                    undo.callback(setattr, module, _NUMBERING, original)
                    setattr(module, _NUMBERING, numbering)
            yield


def node_bytes(node: fx.Node) -> int | None:
    """What the operator of a node moves, if a library's kernel computes it; None if unknown."""
    if not isinstance(node.target, OpOverload) or "val" not in node.meta:
        return None
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda each: each.meta.get("val"))
    try:
        return op_bytes(node.target, args, kwargs, node.meta["val"])
    except Exception:  # symbols in place of sizes; no reason for a compilation to fail
        return None


def _graph() -> Any:
    from torch._inductor.virtualized import V

    return V.graph


def _known(graph: Any, schedule: Sequence[Any]) -> int | None:
    """As `_schedule_bytes`, where Inductor is as it is known here."""
    from torch._inductor.virtualized import V

    try:
        with V.set_graph_handler(graph):
            return _schedule_bytes(graph, [n for each in schedule for n in _nodes(each)])
    except Exception:  # anything, where its inside is another; no reason for a compilation to fail
        return None


def _nodes(entry: Any) -> Sequence[Any]:
    """The operations of an entry of a schedule, which may be a mark between loops."""
    from torch._inductor.scheduler import BaseSchedulerNode

    return entry.get_nodes() if isinstance(entry, BaseSchedulerNode) else ()


def _schedule_bytes(graph: Any, nodes: Sequence[Any]) -> int | None:
    """What a kernel of these operations reads and writes."""
    from torch._inductor.scheduler import ExternKernelSchedulerNode

    if not nodes or any(isinstance(node, ExternKernelSchedulerNode) for node in nodes):
        return None
    read = _elements(graph, (dep for node in nodes for dep in node.read_writes.reads))
    written = _elements(graph, (dep for node in nodes for dep in node.read_writes.writes))
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
