"""What each part saves by the replay of a graph, against the eager pass next to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwen3_profile import labels
from qwen3_profile.attribution.parts import Part, Times

_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Saving:
    """One part of all layers: `layer.*.attn.q_proj`, in the eager pass and in the replay."""

    part: str
    eager: Times
    graph: Times

    @property
    def saved_ns(self) -> int:
        """Less time of the device, at work or waiting for the part's events, both traced."""
        before = self.eager.device_ns + self.eager.gap_ns
        return before - self.graph.device_ns - self.graph.gap_ns


def savings(eager: Part, graph: Part) -> tuple[Saving, ...]:
    """The parts of both, in the order of the eager pass."""
    before, after = _by_part(eager), _by_part(graph)
    return tuple(
        Saving(part, before.get(part, Times()), after.get(part, Times()))
        for part in dict.fromkeys((*before, *after))
    )


def savings_json(eager: Part, graph: Part, steps: int) -> list[dict[str, Any]]:
    """The same in seconds per forward pass; both are sums over `steps` of them."""
    unit = steps * _NS_PER_S
    return [
        {
            "part": each.part,
            "eager_cuda": each.eager.device_ns / unit,
            "cuda": each.graph.device_ns / unit,
            "eager_gap": each.eager.gap_ns / unit,
            "gap": each.graph.gap_ns / unit,
            "saved": each.saved_ns / unit,
        }
        for each in savings(eager, graph)
    ]


def _by_part(forward: Part) -> dict[str, Times]:
    """The sums over all layers, containers with their children."""
    found: dict[str, Times] = {}
    for _, part in forward.walk():
        name = labels.every_layer(part.name)
        found[name] = found.get(name, Times()) + part.total
    return found
