"""What is left of a trace file that was cut off: bytes in, the part that is whole out."""

from __future__ import annotations

import zlib

# Where an event ends, in every layout: torch writes "  },", older ones "},".
_EVENT_END = b"}"
_MOST_TRIES = 64


def inflate_some(packed: bytes) -> bytes:
    """As much of a gzip stream as can be inflated before it ends or breaks."""
    found = []
    inflater = zlib.decompressobj(wbits=31)
    for at in range(0, len(packed), 1 << 16):
        try:
            found.append(inflater.decompress(packed[at : at + (1 << 16)]))
        except zlib.error:
            break
    return b"".join(found)


def whole_prefixes(text: bytes) -> list[bytes]:
    """Cut-off JSON text closed after its last events, longest first.

    The end of an event cannot be told from a brace inside of one without parsing: the caller
    takes the first that parses.
    """
    closing = b"]}" if text.lstrip()[:1] == b"{" else b"]"
    found = []
    end = len(text)
    for _ in range(_MOST_TRIES):
        end = text.rfind(_EVENT_END, 0, end)
        if end < 0:
            break
        found.append(text[: end + 1] + closing)
    return found
