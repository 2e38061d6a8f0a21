"""How many sequences, and how long ones, would fit into the memory of a device.

What a pass takes beside the weights grows with the number of sequences; and with their length,
unless attention keeps its scores, which grow with its square. Workspaces that do not grow are kept
from pass to pass, so they were there before. So one pass predicts others.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_profile.records.record import TimingRecord

_QUADRATIC = "eager"
_BYTES_PER_MB = 1e6


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """What would fit at most beside the weights, on the device as it was.

    What the allocator cannot use between its blocks is not known beforehand, and not counted.

    length: in tokens, of the sequences that were measured.
    sequences: of the length that was measured. tokens: of each of as many sequences as were
        measured; None where the memory does not grow in step with them.
    each_bytes: what a sequence takes at the peak.
    """

    length: int
    sequences: int
    tokens: int | None
    each_bytes: float

    @property
    def sentence(self) -> str:
        longer = f", or {self.tokens} tokens of each" if self.tokens is not None else ""
        return (
            f"Would fit at most: {self.sequences} sequences of {self.length} tokens{longer}; one "
            f"takes {self.each_bytes / _BYTES_PER_MB:.3f} MB at the peak."
        )


def memory_fit(record: TimingRecord) -> MemoryFit | None:
    """What would fit; None of a decode step, whose context was there before it, of a CUDA graph,
    whose cache was, too, and where it is not known what the pass took or the device has.
    """
    memory, config = record.memory, record.config
    if memory is None or config is None or memory.capacity_bytes is None:
        return None
    is_graph = memory.graph_pool_bytes is not None
    if record.phase != "prefill" or is_graph or not memory.whole.rise_bytes:
        return None
    # On a CPU nobody counts what was there before; what is free then is.
    room = memory.capacity_bytes - memory.start_bytes
    each_bytes = memory.whole.rise_bytes / config.batch_size
    is_linear = record.facts.attn_implementation != _QUADRATIC
    tokens = int(room / memory.whole.rise_bytes * config.input_len) if is_linear else None
    shape = record.facts.model.shape if record.facts.model else None
    if tokens is not None and shape is not None and shape.max_position_embeddings:
        tokens = min(tokens, shape.max_position_embeddings)
    return MemoryFit(config.input_len, int(room / each_bytes), tokens, each_bytes)
