"""How many bytes a collective is about, and what that says of the links, as nccl-tests counts it.

The algorithm bandwidth is the size of the whole array by the time. The bus bandwidth is that times
a factor, so that it can be held against the speed of a link whatever the number of ranks n is
(NVIDIA/nccl-tests doc/PERFORMANCE.md):

    all_reduce                              2 (n - 1) / n    the array: each rank's input
    all_gather, reduce_scatter, all_to_all    (n - 1) / n    the array: all outputs, or each input
    broadcast, reduce                               1
"""

from __future__ import annotations

from qwen3_profile.attribution.collective_times import kind_of
from qwen3_profile.trace.messages import Message

# Below, the time is latency, and says nothing of a bandwidth.
LATENCY_BYTES = 1_000_000
# torch's names of scalar types -> bytes.
_ELEMENT_BYTES = {
    "Bool": 1, "Byte": 1, "Char": 1, "Float8_e4m3fn": 1, "Float8_e5m2": 1, "Float8_e4m3fnuz": 1,
    "Float8_e5m2fnuz": 1, "Short": 2, "Half": 2, "BFloat16": 2, "Int": 4, "Float": 4, "Long": 8,
    "Double": 8, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip


def array_bytes(message: Message) -> int | None:
    """The size of the whole array; None where the message does not tell."""
    size = _ELEMENT_BYTES.get(message.dtype)
    gathers = kind_of(message.collective) == "all_gather"
    elements = message.out_elements if gathers else message.in_elements
    return elements * size if size and elements else None


def bus_factor(kind: str, ranks: int) -> float | None:
    """Bus bandwidth by algorithm bandwidth; None of what nccl-tests has none for."""
    if ranks < 2:
        return None
    once = (ranks - 1) / ranks
    factors = {"all_reduce": 2 * once, "broadcast": 1.0, "reduce": 1.0}
    factors |= dict.fromkeys(("all_gather", "reduce_scatter", "all_to_all"), once)
    return factors.get(kind)
