"""Times by label path, children inside parents: a tree of parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Times(NamedTuple):
    """What was summed over the calls of one scope name. Nanoseconds and counts, all integers.

    calls: how often the scope was opened.
    cpu_ns: wall-clock on the host from start to end.
    device_ns: durations of the device events launched inside, whenever they ran.
    device_events: how many. graph_events: of them, those launched as part of a graph.
    launch_ns: time in runtime and driver calls.
    gap_ns: idle time of the device that ended with one of these events.
    queue_ns: from the end of each launch to the start of its event.
    """

    calls: int = 0
    cpu_ns: int = 0
    device_ns: int = 0
    device_events: int = 0
    graph_events: int = 0
    launch_ns: int = 0
    gap_ns: int = 0
    queue_ns: int = 0

    def __add__(self, other: Times) -> Times:  # type: ignore[override]
        return Times(
            self.calls + other.calls,
            self.cpu_ns + other.cpu_ns,
            self.device_ns + other.device_ns,
            self.device_events + other.device_events,
            self.graph_events + other.graph_events,
            self.launch_ns + other.launch_ns,
            self.gap_ns + other.gap_ns,
            self.queue_ns + other.queue_ns,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One scope name under its parents' names.

    name: the scope's name as the trace has it, such as `layer.7.attn.q_proj`.
    total: with children. own: without them; what of a container no child explains.
    parts: the children, in the order in which they first ran.
    """

    name: str
    total: Times
    own: Times
    parts: Sequence[Part] = ()

    def find(self, name: str) -> Part | None:
        """The direct child called `name`."""
        return next((part for part in self.parts if part.name == name), None)

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Part]]:
        """This part and all below it, each with its path of names, outermost first."""
        # Ranges that were never closed nest by thousands; recursion would end before them.
        waiting = [((*path, self.name), self)]
        while waiting:
            path, part = waiting.pop()
            yield path, part
            waiting += [((*path, child.name), child) for child in reversed(part.parts)]

    def each(self) -> Iterator[Part]:
        """This part and all below it, in the order of `walk`."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.parts)


def sum_times(times: Iterable[Times]) -> Times:
    return sum(times, Times())
