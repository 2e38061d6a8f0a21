"""What each kernel computes and moves, noted while Inductor makes it.

Nothing of this is public in torch: where it is another way, nothing is known, and nothing is
guessed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from qwen3_profile.measure.inductor.dataflow import computed_nodes
from qwen3_profile.measure.inductor.kernel_bytes import kernel_bytes

_NUMBERING = "set_kernel_post_grad_provenance_tracing"


@dataclass(frozen=True, slots=True)
class Made:
    """A kernel of Inductor's own.

    nodes: the names of those that it computes, None where they are not known.
    bytes: what it reads and writes, None where that is not known.
    """

    nodes: list[str] | None = None
    bytes: int | None = None


class Schedules:
    """The schedules of the kernels of the graph that is being compiled, by "kernel:number"."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, list[Any]]] = {}

    def take(self) -> dict[str, Made]:
        """What is known of each kernel; of the next graph nothing is known yet.

        To be called when the graph is compiled: only then are all buffers known that it does not
        need.
        """
        seen, self._seen = self._seen, {}
        return {key: _made(graph, schedule) for key, (graph, schedule) in seen.items()}

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


def _graph() -> Any:
    from torch._inductor.virtualized import V

    return V.graph


def _made(graph: Any, schedule: Sequence[Any]) -> Made:
    return Made(
        _asked(computed_nodes, graph, schedule) or None, _asked(kernel_bytes, graph, schedule)
    )


def _asked(
    question: Callable[[Any, Sequence[Any]], Any], graph: Any, schedule: Sequence[Any]
) -> Any:
    """The answer where Inductor is as it is known here, else None."""
    from torch._inductor.virtualized import V

    try:
        with V.set_graph_handler(graph):
            return question(graph, [n for each in schedule for n in _operations(each)])
    except Exception:  # anything, where its inside is another; no reason for a compilation to fail
        return None


def _operations(entry: Any) -> Sequence[Any]:
    """Those of an entry of a schedule, which may be a mark between loops."""
    from torch._inductor.scheduler import BaseSchedulerNode

    return entry.get_nodes() if isinstance(entry, BaseSchedulerNode) else ()
