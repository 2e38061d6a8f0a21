"""Where the view of a trace begins: at its first pass, so far in that layers are seen."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from qwen3_profile import labels
from qwen3_profile.views.tensorboard.raw_events import EVENTS_KEY

# So many layers side by side are told apart by their names; all of a model's may not be.
_MOST_LAYERS = 8
_NS_PER_US = 1000
_GZIP = 31  # zlib's largest window, with gzip's head and sum
# Of a trace's text: to look longer for where its view begins would keep its reader waiting.
_MOST_BYTES = 1 << 28
# Beyond every clock: times in us since 1970 are less than half of it.
_MOST_US = 1e16
_RIM = 0.02


class _Range(msgspec.Struct, gc=False):
    """An event, as far as it is looked at here; ts and dur in microseconds."""

    name: str = ""
    ph: str = ""
    ts: float = 0.0
    dur: float = 0.0
    pid: int | str = 0

    @property
    def end(self) -> float:
        return self.ts + self.dur


# Made here, and not by the first of several requests at once.
_decode_ranges = msgspec.json.Decoder(list[_Range]).decode


def first_layers_ns(trace: bytes) -> tuple[int, int] | None:
    """From the start of a trace's first pass to the end of its first layers, in the trace's own ns.

    Args:
        trace: a trace for viewers, packed by gzip.

    Returns:
        None where it shows no pass of ours, is far too long, or cannot be read.
    """
    try:
        text = zlib.decompressobj(_GZIP).decompress(trace, _MOST_BYTES)
        document = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        events = _decode_ranges(document[EVENTS_KEY])
    except (KeyError, zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # Perfetto says what it cannot read
    ranges = [each for each in events if each.ph == "X" and each.dur > 0]
    ranges = [each for each in ranges if abs(each.ts) < _MOST_US and each.dur < _MOST_US]
    passes = [each for each in ranges if each.name in labels.PHASES]
    if not passes:
        return None
    first = min(passes, key=lambda each: each.ts)
    end = _end_of_layers(first, ranges)
    rim = _RIM * (end - first.ts)
    return round((first.ts - rim) * _NS_PER_US), round((end + rim) * _NS_PER_US)


def _end_of_layers(first: _Range, ranges: Sequence[_Range]) -> float:
    """The end of the pass, or of the last of so many layers in it."""
    inside = (
        each
        for each in ranges
        if each.pid == first.pid and first.ts <= each.ts < first.end and _is_layer(each.name)
    )
    layers = sorted(inside, key=lambda each: each.ts)[:_MOST_LAYERS]
    return max((each.end for each in layers), default=first.end)


def _is_layer(name: str) -> bool:
    return name.startswith("layer.") and name.count(".") == 1
