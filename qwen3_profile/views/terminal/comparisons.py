"""The tables of configs that differ in one thing only: their execution, or their attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwen3_profile import labels
from qwen3_profile.analysis.compare_configs import (
    AttentionComparison,
    AttentionTimes,
    ExecutionComparison,
    ExecutionCosts,
    compare_attention,
    compare_executions,
)
from qwen3_profile.analysis.part_costs import Cost
from qwen3_profile.config import COMPILE_MODES, COMPILE_SCOPES, RunConfig
from qwen3_profile.records.part_bytes import total_bytes
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.names import attention_name
from qwen3_profile.views.terminal.cells import (
    gigabytes_per_s,
    megabytes,
    milliseconds,
    number,
    wrap,
)
from qwen3_profile.views.terminal.table import RULE, Column, table

_NS_PER_MS = 1e6
_BYTES_PER_MB = 1e6
_FUSED = (
    "A fused kernel counts under the part that is most of it; fused: all of a part's work is in "
    "kernels counted under other parts."
)
_MEANING = (
    "traffic: what the kernels read from memory and write to it, each operand once; GB/s: traffic "
    "over time; n/a: unknown; >: at least."
)
# What stands next to attention: the pass that it is part of, or its own backward.
_WHOLE = ("forward", "forward_cuda")
_OTHERS = {labels.TRAIN_STEP: ("..._bwd", "..._bwd_cuda")}


def render_executions(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """A table for each phase of the configs that differ in nothing but how they were executed.

    Args:
        groups: records of one config and phase each, of one run or of several.

    Returns:
        The tables; an empty text where no two configs can be compared.
    """
    return "\n\n".join(map(_execution_table, compare_executions(groups)))


def render_attention(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """The same of the configs that differ in nothing but the attention."""
    return "\n\n".join(map(_attention_table, compare_attention(groups)))


def _execution_table(compared: ExecutionComparison) -> str:
    first, *others = compared.executions
    where = _input(compared.config)
    lines = [
        wrap(
            f"executions compared, {compared.phase}: {where}; same weights and inputs, times in ms"
        ),
        *(wrap(line) for line in map(_compilation, compared.executions) if line),
        *_part_lines(compared),
        "",
        *_pass_lines(compared),
        "",
        wrap(_MEANING),
    ]
    if any(each.shown.times.compiled is not None for each in compared.executions):
        lines.append(wrap(_FUSED))
    lines += [wrap(_removed(first, other, compared.on_device)) for other in others]
    return "\n".join(lines)


def _input(config: RunConfig) -> str:
    return f"batch {config.batch_size} x {config.input_len} tokens, {config.dtype}"


def _compilation(execution: ExecutionCosts) -> str:
    """How it was compiled, where that is not as it usually is."""
    mode, scope = execution.shown.facts.compile_mode, execution.shown.facts.compile_scope
    words = [f"mode {mode}"] if mode not in (None, COMPILE_MODES[0]) else []
    words += [f"each {scope} by itself"] if scope not in (None, COMPILE_SCOPES[0]) else []
    return f"{execution.name}: {', '.join(words)}" if words else ""


def _part_lines(compared: ExecutionComparison) -> Iterator[str]:
    """Of each part that anything ran in, one line for each execution; then of all parts."""
    kind = ("cuda", "idle", "kernels") if compared.on_device else ("cpu", "operations")
    columns = (
        Column("part, all layers", left=True, least=24),
        Column("execution", left=True),
        *map(Column, kind),
        Column("traffic MB"),
        Column("GB/s", leave_out=1),
    )
    rows: list[Sequence[str]] = []
    for part in compared.parts:
        costs = [each.parts.get(part, Cost()) for each in compared.executions]
        rows += _cost_rows(f"  {part}", compared, costs)
    whole = [each.whole for each in compared.executions]
    yield table(columns, [*rows, RULE, *_cost_rows("all parts", compared, whole)])


def _cost_rows(
    head: str, compared: ExecutionComparison, costs: Sequence[Cost]
) -> Iterator[tuple[str, ...]]:
    for execution, cost in zip(compared.executions, costs, strict=True):
        yield (head, execution.name, *_cost_cells(cost, compared.on_device))
        head = ""


def _cost_cells(cost: Cost, on_device: bool) -> list[str]:
    if cost.elsewhere:
        return ["fused"]
    idle = [milliseconds(cost.gap_ns)] if on_device else []
    return [
        milliseconds(cost.ns), *idle, number(cost.kernels),
        megabytes(cost.bytes, at_least=cost.at_least), gigabytes_per_s(cost.gb_per_s),
    ]  # fmt: skip


def _pass_lines(compared: ExecutionComparison) -> Iterator[str]:
    """What a whole pass takes next to its parts: one line for each execution."""
    first = compared.executions[0]
    kinds = ("GPU busy", "GPU idle, traced", "launch calls") if compared.on_device else ()
    total = "TPOT, bare" if first.shown.step_times_ns else "total_time, bare"
    columns = [Column("whole pass", left=True), *map(Column, (*kinds, total, "ratio"))]
    rows = []
    for each in compared.executions:
        times = each.shown.times
        work = (times.busy_ns, times.gap_ns, times.forward.total.launch_ns)
        cells = map(milliseconds, [*(work if compared.on_device else ()), each.bare_ns])
        rows.append((f"  {each.name}", *cells, _ratio(each.bare_ns, first.bare_ns)))
    yield table(columns, rows)


def _removed(one: ExecutionCosts, two: ExecutionCosts, on_device: bool) -> str:
    """A sentence of what the second one does without."""
    before, after = one.shown.times, two.shown.times
    text = f"{two.name} vs {one.name}: {_changed(one.bare_ns, two.bare_ns)} per pass"
    if on_device:
        waiting = max(0.0, one.bare_ns - before.busy_ns), max(0.0, two.bare_ns - after.busy_ns)
        text += (
            f"; GPU busy {_changed(before.busy_ns, after.busy_ns)}, idle {_changed(*waiting)}; "
            f"device events {before.device_events} -> {after.device_events}"
        )
    bytes_before, bytes_after = total_bytes(before), total_bytes(after)
    if bytes_before is not None and bytes_after is not None:
        mb = bytes_before / _BYTES_PER_MB, bytes_after / _BYTES_PER_MB
        text += f"; memory traffic {mb[0]:.3f} -> {mb[1]:.3f} MB ({mb[1] - mb[0]:+.3f})"
    return f"{text}."


def _changed(before_ns: float, after_ns: float) -> str:
    before, after = before_ns / _NS_PER_MS, after_ns / _NS_PER_MS
    return f"{before:.3f} -> {after:.3f} ms ({after - before:+.3f})"


def _ratio(ns: float, first_ns: float) -> str:
    return f"{ns / first_ns:.2f}" if first_ns else ""


def _attention_table(compared: AttentionComparison) -> str:
    first = compared.rows[0]
    total = "TPOT" if first.shown.step_times_ns else "total_time"
    around = _OTHERS.get(compared.phase, _WHOLE)
    where = _input(compared.config)
    lines = [
        wrap(
            f"attention compared, {compared.phase}: {where}; same weights and inputs, times in ms"
        ),
        table(
            _attention_columns(around, total),
            [_attention_row(each, first.bare_ns) for each in compared.rows],
        ),
        wrap(
            f"medians over runs; attn_forward: all layers; ratio: {total} relative to the first row"
        ),
    ]
    if compared.phase == labels.TRAIN_STEP:
        lines.append(wrap("..._bwd: attn_forward in the backward pass"))
    return "\n".join(lines)


def _attention_columns(around: Sequence[str], total: str) -> tuple[Column, ...]:
    whole, whole_cuda = around
    return (
        Column("attention", left=True, least=20),
        Column("attn_forward"),
        Column("attn_forward_cuda"),
        Column(whole, leave_out=2),
        Column(whole_cuda, leave_out=1),
        Column(total),
        Column("ratio"),
    )


def _attention_row(row: AttentionTimes, first_ns: float) -> tuple[str, ...]:
    times = (*row.attention, *row.around)
    cells = ["-" if ns is None else milliseconds(ns) for ns in times]
    return (
        attention_name(row.shown),
        *cells,
        milliseconds(row.bare_ns),
        _ratio(row.bare_ns, first_ns),
    )
