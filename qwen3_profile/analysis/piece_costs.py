"""What adapters cost, and the stages of packed Linears, from the pieces that parts are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from qwen3_profile import label_parts, labels
from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.attribution.pass_parts import has_pieces, short_name

_BASE = "base"
_NS_PER_MS = 1e6


def piece_sentences(forward: Part, on_device: bool) -> tuple[str, ...]:
    """A line on the adapters, and one on packed Linears, where a pass has such."""
    whole_ns = ns_of(forward.total, on_device)
    if not whole_ns or not any(each.rpartition(".")[2] in _PIECES for each in forward.tree.names):
        return ()
    kind = "CUDA" if on_device else "CPU"
    times = _summed(forward, on_device)
    found = []
    base_ns, adapters = times["adapted"].pop(_BASE, 0), times["adapted"]
    if adapters:
        found.append(
            f"The adapters take {_share(adapters, whole_ns, kind)}; the Linears below them "
            f"take {base_ns / _NS_PER_MS:.3f} ms."
        )
    if times["packed"]:
        found.append(f"The packed Linears take {_share(times['packed'], whole_ns, kind)}.")
    return tuple(found)


_PIECES = frozenset(row.name for row in label_parts.PARTS if row.block == "leaf")


def _summed(forward: Part, on_device: bool) -> dict[str, Counter[str]]:
    """The pieces of all parts with adapters, and those of all packed Linears, in ns."""
    found: dict[str, Counter[str]] = {"adapted": Counter(), "packed": Counter()}
    for part in forward.each():
        if has_pieces(part):
            names = {short_name(piece) for piece in part.parts}
            mine = found["packed" if names & {*label_parts.stages()} else "adapted"]
            for name, times in _pieces(part):
                mine[name] += ns_of(times, on_device)
    return found


def _pieces(part: Part) -> Iterator[tuple[str, Times]]:
    yield from ((short_name(piece), piece.total) for piece in part.parts)
    yield labels.OTHER, part.own


def _share(times: Counter[str], whole_ns: int, kind: str) -> str:
    total_ns = times.total()
    order = sorted(times, key=lambda name: label_parts.places().get(("leaf", name), 1 << 20))
    named = ", ".join(f"{name} {times[name] / _NS_PER_MS:.3f}" for name in order if times[name])
    whole = f"{total_ns / _NS_PER_MS:.3f} ms of {kind} time, {total_ns / whole_ns:.1%} of the pass"
    return f"{whole} ({named})" if named else whole
