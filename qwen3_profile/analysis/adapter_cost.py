"""What the adapters round a model's parts cost, from the pieces that these parts are made of."""

from __future__ import annotations

from collections import Counter

from qwen3_profile import label_parts, labels
from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import has_pieces, short_name

_BASE = "base"
_NS_PER_MS = 1e6


def adapter_sentence(forward: Part, on_device: bool) -> str:
    """One line; empty where no part has adapters."""
    times: Counter[str] = Counter()
    for part in forward.each():
        if not has_pieces(part) or part.name.endswith(f".{_BASE}"):
            continue
        times[labels.OTHER] += ns_of(part.own, on_device)
        for piece in part.parts:
            times[short_name(piece)] += ns_of(piece.total, on_device)
    base_ns = times.pop(_BASE, 0)
    whole_ns = ns_of(forward.total, on_device)
    if not times or not whole_ns:
        return ""
    kind = "CUDA" if on_device else "CPU"
    order = [name for name in (*_names(), labels.OTHER) if times[name]]
    named = ", ".join(f"{name} {_ms(times[name])}" for name in order)
    total_ns = times.total()
    of = f" ({named})" if named else ""
    return (
        f"The adapters take {_ms(total_ns)} ms of {kind} time, {total_ns / whole_ns:.1%} of the "
        f"pass{of}; what they were put round takes {_ms(base_ns)} ms."
    )


def _names() -> list[str]:
    return [row.name for row in label_parts.PARTS if row.block == "leaf"]


def _ms(ns: int) -> str:
    return f"{ns / _NS_PER_MS:.3f}"
