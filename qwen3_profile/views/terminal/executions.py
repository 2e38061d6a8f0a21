"""What is shown of compiled passes, and of replays of a CUDA graph, below the table of parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_profile.analysis.totals import Totals
from qwen3_profile.records.graph_savings import Saving, savings
from qwen3_profile.records.record import RunFacts, TimingRecord
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.table import Column, table

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.kernel_times import Bounds, CompiledTimes

_COMPILED = (
    Column("part", left=True, least=29),
    Column("alone"),
    Column("by anchor"),
    Column("most"),
)
_COMPILED_MEANING = (
    "alone: kernels of this part only; by anchor: plus fused kernels that are mostly this part; "
    "most: plus every fused kernel that includes it. Each fused kernel has a row of its own above."
)
_GRAPH = (
    Column("part, all layers", left=True, least=29),
    Column("eager cuda"),
    Column("graph cuda"),
    Column("eager idle", leave_out=1),
    Column("graph idle", leave_out=1),
    Column("saved"),
)
_GRAPH_MEANING = (
    "saved: cuda + idle, both traced; the profiler slows eager launches, so only total_time shows "
    "the real saving"
)


def compiled_table(record: TimingRecord, on_device: bool) -> str:
    """One row for each part that a kernel computes; empty text where nothing was compiled."""
    compiled = record.times.compiled
    if compiled is None:
        return ""
    kind = "cuda" if on_device else "cpu"
    lines = [
        wrap(_compiled_heading(compiled, record)),
        table(
            _COMPILED,
            [_compiled_row(each, on_device) for each in sorted(compiled.bounds, key=_first)],
        ),
        wrap(f"{kind}, all layers; {_COMPILED_MEANING}"),
    ]
    return "\n".join(lines)


def compiled_name(facts: RunFacts) -> str:
    """How a model was compiled, for a heading; empty where it was not."""
    if facts.compile_mode is None:
        return ""
    return f", compiled by {facts.compile_scope} ({facts.compile_mode})"


def graph_table(totals: Totals, shown: TimingRecord) -> str:
    """What each part took eagerly and takes in the graph; empty where nothing ran as a graph.

    Args:
        totals: of all passes of the config.
        shown: the pass whose parts the tables show.
    """
    eager, speedup = shown.eager, totals.graph_speedup
    if eager is None or speedup is None:
        return ""
    heading = (
        f"eager vs CUDA graph: a bare pass takes {milliseconds(speedup.eager_ns)} ms eager and "
        f"{milliseconds(speedup.graph_ns)} ms as a graph, {speedup.ratio:.2f}x as fast"
    )
    lines = [
        wrap(heading),
        table(_GRAPH, [*map(_graph_row, savings(eager.times.forward, shown.times.forward))]),
        wrap(_GRAPH_MEANING),
    ]
    return "\n".join(lines)


def _compiled_heading(compiled: CompiledTimes, record: TimingRecord) -> str:
    facts, steps = record.facts, record.steps
    matched = "all matched" if not compiled.refusals else f"{len(compiled.refusals)} not matched"
    line = (
        f"compiled graphs: {compiled.graphs / steps:g} with {compiled.calls / steps:g} "
        f"kernel calls a pass, {matched}"
    )
    if facts.compile_time is not None:
        line += f"; compiling took {facts.compile_time:.1f} s (first pass)"
    if facts.output_error is not None:
        line += f"; logits within {facts.output_error:.1g} of eager"
    return line


def _first(each: Bounds) -> tuple[int, str]:
    return (-max(each.anchored_device_ns, each.anchored_cpu_ns), each.part)


def _compiled_row(each: Bounds, on_device: bool) -> tuple[str, ...]:
    if on_device:
        times = (each.least_device_ns, each.anchored_device_ns, each.most_device_ns)
    else:
        times = (each.least_cpu_ns, each.anchored_cpu_ns, each.most_cpu_ns)
    return (each.part, *map(milliseconds, times))


def _graph_row(each: Saving) -> tuple[str, ...]:
    name = each.part.removeprefix("layer.*.")
    indent = each.part.count(".") if each.part.startswith("layer.") else 1
    times = (
        each.eager.device_ns, each.graph.device_ns, each.eager.gap_ns, each.graph.gap_ns,
        each.saved_ns,
    )  # fmt: skip
    head = "layers" if name == "layer.*" else name.rpartition(".")[2]
    return ("  " * indent + head, *map(milliseconds, times))
