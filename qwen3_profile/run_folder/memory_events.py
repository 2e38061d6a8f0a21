"""What a forward pass allocated and freed, in order, under which labels; and its file in a run.

    {"schema_version": 1, "passes": [{"position": 0, "labels": ["prefill", "layer.0"],
        "what": [0, 1, -2, -2, -1, -1], "bytes": [0, 0, 512, -512, 0, 0],
        "block": [0, 0, 7, 7, 0, 0], "weights_bytes": 1192099840, ...}]}

Pure data: no torch.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qwen3_profile.run_folder.side_files import read_versioned
from qwen3_profile.system.files import write_atomic

SCHEMA_VERSION = 1
# In place of a label's number: it ends; a block is taken or given back; one that lives no longer
# than the operator that took it, as the workspace of a kernel does.
CLOSE, BLOCK, WORKSPACE = -1, -2, -3


@dataclass(frozen=True, slots=True)
class MemoryPass:
    """One pass that nobody timed, in which each block of memory was recorded.

    position: of a decode step, how many came before it.
    what: the number of a label that begins, in `labels`, or one of the three above.
    bytes: of a block, as the allocator counts it; negative where it is given back.
    block: a number for each address; addresses are used again.
    start_bytes: what was allocated before; on a CPU only what earlier such passes have left.
    weights_bytes: what the weights take, of `start_bytes` on a GPU.
    allocator_peak_bytes: the allocator's own peak during the pass; None where it keeps none.
    capacity_bytes: what there is for torch: what it holds, and what is free; None where unknown.
    graph_pool_bytes: of a CUDA graph of this pass, what its own pool holds; None where it is none.
    """

    position: int
    labels: tuple[str, ...]
    what: tuple[int, ...]
    bytes: tuple[int, ...]
    block: tuple[int, ...]
    start_bytes: int
    weights_bytes: int
    allocator_peak_bytes: int | None = None
    capacity_bytes: int | None = None
    graph_pool_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _File:
    schema_version: int
    passes: tuple[MemoryPass, ...]


def write_memory(path: Path, passes: Sequence[MemoryPass]) -> None:
    """Writes what passes allocated whole or not at all."""
    text = msgspec.json.encode(_File(SCHEMA_VERSION, tuple(passes)))
    write_atomic(path, gzip.compress(text, mtime=0))


def read_memory(path: Path) -> tuple[MemoryPass, ...]:
    """What `write_memory` wrote.

    Raises:
        TraceError: it is not there, not ours, or of a newer schema.
    """
    return read_versioned(path, _File, SCHEMA_VERSION, "file of memory").passes
