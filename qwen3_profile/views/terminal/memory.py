"""The memory of a pass in the terminal: what each part allocates, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator

from qwen3_profile import labels
from qwen3_profile.analysis.memory_fit import memory_fit
from qwen3_profile.records.part_memory import ACTIVATIONS, KV_CACHE, WORKSPACES, PassMemory
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import megabytes, wrap
from qwen3_profile.views.terminal.table import Column, table

_COLUMNS = (
    Column("memory in MB, most of any layer", left=True, least=31),
    Column("peak"),
    Column("rise", leave_out=1),
    Column("retained"),
    Column("transient"),
    Column("largest", leave_out=2),
)
_MEANING = (
    "peak: most allocated meanwhile; rise: that less what was there before; retained: allocated "
    "and still there at the end; transient: given back; largest: one block. From a pass of its own."
)
_BYTES_PER_MB = 1e6


def memory_table(record: TimingRecord) -> str:
    """A row per part, and what they mean; "" where no memory was recorded."""
    memory = record.memory
    if memory is None:
        return ""
    lines = (table(_COLUMNS, [*_rows(memory)]), wrap(_MEANING))
    return "\n".join((*lines, *map(wrap, _sentences(record, memory))))


def _rows(memory: PassMemory) -> Iterator[tuple[str, ...]]:
    for name, each in memory.by_part().items():
        figures = (
            each.peak_bytes,
            each.rise_bytes,
            each.retained_bytes,
            each.transient_bytes,
            each.largest_bytes,
        )
        shown = "any layer" if name == labels.ANY_LAYER else name.rpartition(".")[2]
        depth = labels.depth(name.replace(labels.ANY_LAYER, labels.layer_label(0)))
        yield ("  " * depth + shown, *map(megabytes, figures))


def _sentences(record: TimingRecord, memory: PassMemory) -> Iterator[str]:
    at_peak = memory.at_peak
    before = memory.start_bytes - memory.weights_bytes
    parts = [
        f"weights {_mb(memory.weights_bytes)}",
        *([f"there before {_mb(before)}"] if before > 0 else []),
        f"KV cache {_mb(at_peak[KV_CACHE])}",
        f"activations {_mb(at_peak[ACTIVATIONS])}",
        f"workspace of operators {_mb(at_peak[WORKSPACES])}",
    ]
    is_all = memory.start_bytes >= memory.weights_bytes
    told = f"At the peak: {', '.join(parts)}."
    yield told + ("" if is_all else " On a CPU, peaks are without what was there before.")
    if memory.graph_pool_bytes is not None:
        yield (
            f"CUDA graph: its own pool holds {_mb(memory.graph_pool_bytes)} as long as the graph "
            "lives. A replay allocates nothing: the figures above are of the captured pass, run "
            "without a capture."
        )
    fit = memory_fit(record)
    if fit is not None:
        yield fit.sentence


def _mb(count: float) -> str:
    return f"{count / _BYTES_PER_MB:.3f} MB"
