"""Device and stream of a device event: its pid and tid say them, and its args do.

Where all events of a device lie under another number, that is a custom of their profiler.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.findings import NOTE, WARNING, Finding

_NUMBER = re.compile(r"(\d+)\s*$")
_NOT_SAID = -1


def check_places(attribution: Attribution) -> Iterator[Finding]:
    """Where some events of one device, or of one stream of it, lie elsewhere than the others."""
    trace = attribution.trace
    _, tracks, devices, streams, _ = trace.said.places.tolist()
    places = [trace.tracks[track] for track in tracks]
    pids = [_last_number(place.pid) for place in places]
    tids = [_last_number(place.tid) for place in places]
    yield from _compare(attribution, "pid", "device", pids, [(device,) for device in devices])
    pairs = list(zip(devices, streams, strict=True))
    yield from _compare(attribution, "tid", "stream", tids, pairs)


def _compare(
    attribution: Attribution,
    what: str,
    key: str,
    here: Sequence[int | None],
    said: Sequence[tuple[int, ...]],
) -> Iterator[Finding]:
    seen: dict[tuple[int, ...], set[int | None]] = {}
    for number, told in zip(here, said, strict=True):
        seen.setdefault(told, set()).add(number)
    odd = [
        at
        for at, (number, told) in enumerate(zip(here, said, strict=True))
        if told[-1] not in (_NOT_SAID, number) and len(seen[told]) > 1
    ]
    if odd:
        trace, rows = attribution.trace, attribution.trace.said.places
        name = trace.names[rows[0, odd[0]]]
        count = int(rows[4, odd].sum())
        yield Finding(
            # No sum is of a stream.
            WARNING if key == "device" else NOTE,
            f"other-{key}",
            f"{count} device events lie under another {what} than others of the {key} that their "
            f"args name: {name} has the {what} {here[odd[0]]}, and {key} {said[odd[0]][-1]}",
            count=count,
            ns=0,
            example=name,
        )


def _last_number(text: str) -> int | None:
    """That at the end of a pid or a tid: 7 of "stream 7"."""
    found = _NUMBER.search(text)
    return int(found[1]) if found else None
