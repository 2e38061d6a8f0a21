"""A record of compiled passes in; how they were compiled, and what each part had of them, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_profile.records.record import RunFacts, TimingRecord
from qwen3_profile.views.terminal.cells import milliseconds, wrap

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.kernel_times import Bounds, CompiledTimes

_MEANING = (
    "alone: kernels of this part only, the least that it took; by anchor: with the fused kernels "
    "whose largest share it is; most: with all that it has a share in. A fused kernel is a row of "
    "its own above."
)


def compiled_table(record: TimingRecord, on_device: bool) -> str:
    """One row for each part that a kernel computes; empty text where nothing was compiled."""
    compiled = record.times.compiled
    if compiled is None:
        return ""
    from qwen3_profile.passes.compiled.kernel_times import bounds  # for compiled passes alone

    kind = "cuda" if on_device else "cpu"
    lines = [wrap(_heading(compiled, record)), _columns("part", "alone", "by anchor", "most")]
    lines += [_row(each, on_device) for each in sorted(bounds(compiled), key=_first)]
    return "\n".join([*lines, wrap(f"{kind}, all layers; {_MEANING}")])


def compiled_name(facts: RunFacts) -> str:
    """How a model was compiled, for a heading; empty where it was not."""
    if facts.compile_mode is None:
        return ""
    return f", compiled by {facts.compile_scope} ({facts.compile_mode})"


def _heading(compiled: CompiledTimes, record: TimingRecord) -> str:
    facts, steps = record.facts, record.steps
    matched = "all matched" if not compiled.refusals else f"{len(compiled.refusals)} not matched"
    line = (
        f"compiled graphs: {_count(compiled.graphs, steps)} with {_count(compiled.calls, steps)} "
        f"kernel calls a pass, {matched}"
    )
    if facts.compile_time is not None:
        line += f"; the first pass, which compiles, took {facts.compile_time:.1f} s"
    if facts.output_error is not None:
        line += f"; logits within {facts.output_error:.1g} of eager ones"
    return line


def _count(value: int, steps: int) -> str:
    return f"{value / steps:g}"


def _first(each: Bounds) -> tuple[int, str]:
    return (-max(each.anchored_device_ns, each.anchored_cpu_ns), each.part)


def _row(each: Bounds, on_device: bool) -> str:
    column = "device" if on_device else "cpu"
    kinds = ("least", "anchored", "most")
    return _columns(
        each.part, *(milliseconds(getattr(each, f"{kind}_{column}_ns")) for kind in kinds)
    )


def _columns(head: str, *cells: str) -> str:
    return f"{head:<29}" + "".join(f"{cell:>14}" for cell in cells)
