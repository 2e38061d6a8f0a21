"""A raw trace in, the labels' ranges on the device's own tracks out.

Kineto draws such ranges (`gpu_user_annotation`) by itself, at the cost of a call into CUPTI for
every op: the product records without them, and draws them afterwards. Where Kineto gives a range
to the innermost annotation only, these contain all that was launched inside: a layer's range
reaches from its first kernel to its last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution import Attribution, attribute
from qwen3_profile.errors import TraceError
from qwen3_profile.scopes import NO_SCOPE, build_scopes, select_labels
from qwen3_profile.trace import read_trace

_DRAWN = ("phase", "layer", "attn", "ffn")


def device_ranges(path: Path, base_time_ns: int) -> list[bytes]:
    """The JSON texts of the ranges of phases, layers, attention and FFN, outermost first.

    Args:
        path: a raw trace; one in which Kineto drew ranges gets none.
        base_time_ns: what the times of the result count from.
    """
    try:
        trace = read_trace(path)
    except TraceError:
        # The normaliser mends text that is no JSON; such a trace is shown without these ranges.
        return []
    if len(trace.gpu_annotations) or not len(trace.device):
        return []
    scopes = build_scopes(trace, select_labels(trace), name_gaps=False)
    attribution = attribute(trace, scopes)
    shift_ns = trace.info.base_time_ns - base_time_ns
    return [
        _event(scopes.names[scopes.name[scope]], *place, start + shift_ns, end - start)
        for scope, place, start, end in _hulls(attribution)
    ]


def _hulls(
    attribution: Attribution,
) -> Iterator[tuple[int, tuple[str, str], int, int]]:
    """(scope, (device, stream), start, end) of what each drawn label launched on each stream."""
    device, tracks = attribution.trace.device, attribution.trace.tracks
    for number in np.unique(device.track):
        mine = np.flatnonzero((device.track == number) & (attribution.owner >= 0))
        count = len(attribution.scopes)
        start = np.full(count, np.iinfo(np.int64).max)
        end = np.full(count, np.iinfo(np.int64).min)
        np.minimum.at(start, attribution.owner[mine], device.start_ns[mine])
        np.maximum.at(end, attribution.owner[mine], device.end_ns[mine])
        # Children come after their parents: from the last one upwards each passes its hull on.
        for scope in range(count - 1, -1, -1):
            parent = attribution.scopes.parent[scope]
            if parent != NO_SCOPE:
                start[parent] = min(start[parent], start[scope])
                end[parent] = max(end[parent], end[scope])
        place = (tracks[number].pid, tracks[number].tid)
        for scope in range(count):
            if end[scope] > start[scope] and _is_drawn(attribution, scope):
                yield scope, place, int(start[scope]), int(end[scope])


def _is_drawn(attribution: Attribution, scope: int) -> bool:
    scopes = attribution.scopes
    label = labels.parse(scopes.names[scopes.name[scope]])
    return label is not None and label.kind in _DRAWN


def _event(name: str, pid: str, tid: str, start_ns: int, dur_ns: int) -> bytes:
    return msgspec.json.encode(
        {
            "ph": "X",
            "cat": "gpu_user_annotation",
            "name": name,
            "pid": _number(pid),
            "tid": _number(tid),
            "ts": _microseconds(start_ns),
            "dur": _microseconds(dur_ns),
        }
    )


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _microseconds(ns: int) -> msgspec.Raw:
    """Text, since a float64 loses nanoseconds of times since the epoch."""
    whole, rest = divmod(ns, 1000)
    return msgspec.Raw(f"{whole}.{rest:03}".encode())
