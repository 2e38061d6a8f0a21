"""The records of a run in, one table of the executions that ran side by side out, part by part."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.analysis.comparison_groups import render_alike
from qwen3_profile.analysis.side_by_side import (
    Cost,
    execution_names,
    median_bare_ns,
    part_costs,
    parts_of,
    whole_cost,
    without_execution,
)
from qwen3_profile.config import COMPILE_MODES, COMPILE_SCOPES, RunConfig
from qwen3_profile.records.part_bytes import total_bytes
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import (
    gigabytes_per_s,
    megabytes,
    milliseconds,
    number,
    wrap,
)
from qwen3_profile.views.terminal.tables import median_record

_NS_PER_MS = 1e6
_BYTES_PER_MB = 1e6
_ANCHORS = (
    "A fused kernel counts to the part that is most of it; in others: all of a part is in kernels "
    "that count to other parts."
)
_MEANING = (
    "MB: what the kernels read and write, each operand once; GB/s: that over the time; n/a: not "
    "known, and >: so much at least."
)
_PART, _WAY, _CELL = 27, 14, 11


def render_executions(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """A table for each phase of the configs that differ in nothing but how they were executed.

    Args:
        groups: records of one config and phase each, of one run or of several.

    Returns:
        The tables, the first config of each being what the others are compared with; an empty
        text where no two configs can be compared.
    """
    return render_alike(groups, without_execution, _table)


def _table(phase: str, config: RunConfig, ways: Sequence[Sequence[TimingRecord]]) -> str:
    if len(ways) < 2:
        return ""
    shown = [_shown(records) for records in ways]
    names = execution_names(shown)
    on_device = any(record.times.device_events for record in shown)
    where = f"batch {config.batch_size} x {config.input_len} tokens, {config.dtype}"
    lines = [
        wrap(f"executions compared, {phase}: {where}; same weights and inputs, in ms"),
        *(wrap(line) for line in map(_how, names, shown) if line),
        *_part_lines(names, [part_costs(record, on_device) for record in shown], on_device),
        "-" * _width(on_device),
        *_cost_lines("all parts", names, [whole_cost(r, on_device) for r in shown], on_device),
        "",
        *_pass_lines(names, ways, shown, on_device),
        "",
        wrap(_MEANING),
    ]
    if any(record.times.compiled is not None for record in shown):
        lines.append(wrap(_ANCHORS))
    told = [
        (n, r, median_bare_ns(records)) for n, r, records in zip(names, shown, ways, strict=True)
    ]
    lines += [wrap(_removed(told[0], other, on_device)) for other in told[1:]]
    return "\n".join(lines)


def _how(name: str, record: TimingRecord) -> str:
    """How it was compiled, where that is not as it usually is."""
    mode, scope = record.facts.compile_mode, record.facts.compile_scope
    words = [f"mode {mode}"] if mode not in (None, COMPILE_MODES[0]) else []
    words += [f"each {scope} by itself"] if scope not in (None, COMPILE_SCOPES[0]) else []
    return f"{name}: {', '.join(words)}" if words else ""


def _part_lines(
    names: Sequence[str], costs: Sequence[dict[str, Cost]], on_device: bool
) -> list[str]:
    """Of each part that anything ran in, one line for each way."""
    kind = ["cuda", "idle", "kernels"] if on_device else ["cpu", "operations"]
    lines = [_columns("part, all layers", "execution", [*kind, "MB", "GB/s"])]
    for part in parts_of(costs):
        mine = [each.get(part, Cost()) for each in costs]
        lines += _cost_lines(f"  {part}", names, mine, on_device)
    return lines


def _cost_lines(
    head: str, names: Sequence[str], costs: Sequence[Cost], on_device: bool
) -> list[str]:
    heads = [head, *[""] * (len(names) - 1)]
    rows = zip(heads, names, costs, strict=True)
    return [_columns(head, name, _cells(cost, on_device)) for head, name, cost in rows]


def _cells(cost: Cost, on_device: bool) -> list[str]:
    if cost.elsewhere:
        return ["in others"]
    idle = [milliseconds(cost.gap_ns)] if on_device else []
    return [
        milliseconds(cost.ns), *idle, number(cost.kernels),
        megabytes(cost.bytes, at_least=cost.at_least), gigabytes_per_s(cost.gb_per_s),
    ]  # fmt: skip


def _pass_lines(
    names: Sequence[str],
    ways: Sequence[Sequence[TimingRecord]],
    shown: Sequence[TimingRecord],
    on_device: bool,
) -> list[str]:
    """What a whole pass takes beside its parts: one line for each way."""
    bare = [median_bare_ns(records) for records in ways]
    kinds = ["at work", "idle, traced", "launch calls"] if on_device else []
    total = "TPOT, bare" if shown[0].step_times_ns else "total_time, bare"
    lines = [_wide("whole pass", [*kinds, total, "ratio"])]
    for name, record, ns in zip(names, shown, bare, strict=True):
        times = record.times
        work = [times.busy_ns, times.gap_ns, times.forward.total.launch_ns] if on_device else []
        ratio = f"{ns / bare[0]:.2f}" if bare[0] else ""
        lines.append(_wide(f"  {name}", [*map(milliseconds, [*work, ns]), ratio]))
    return lines


def _removed(
    first: tuple[str, TimingRecord, float], other: tuple[str, TimingRecord, float], on_device: bool
) -> str:
    """A sentence of what the second one does without."""
    (one_name, one, one_ns), (two_name, two, two_ns) = first, other
    told = f"{two_name} against {one_name}: {_changed(one_ns, two_ns)} a pass"
    if on_device:
        idle = max(0.0, one_ns - one.times.busy_ns), max(0.0, two_ns - two.times.busy_ns)
        told += (
            f"; the device at work {_changed(one.times.busy_ns, two.times.busy_ns)}, waiting "
            f"{_changed(*idle)}; device events {one.times.device_events} -> "
            f"{two.times.device_events}"
        )
    before, after = total_bytes(one.times), total_bytes(two.times)
    if before is not None and after is not None:
        mb = before / _BYTES_PER_MB, after / _BYTES_PER_MB
        told += f"; {mb[0]:.3f} -> {mb[1]:.3f} MB ({mb[1] - mb[0]:+.3f})"
    return f"{told}."


def _changed(before_ns: float, after_ns: float) -> str:
    before, after = before_ns / _NS_PER_MS, after_ns / _NS_PER_MS
    return f"{before:.3f} -> {after:.3f} ms ({after - before:+.3f})"


def _shown(records: Sequence[TimingRecord]) -> TimingRecord:
    """The median pass, as the tables of its config show it."""
    return median_record([single for record in records for single in record.one_by_one()])


def _columns(head: str, way: str, cells: Sequence[str]) -> str:
    tail = "".join(f"{cell:>{_CELL}}" for cell in cells)
    return f"{head:<{_PART}}{way:<{_WAY}}{tail}".rstrip()


def _wide(head: str, cells: Sequence[str]) -> str:
    return f"{head:<{_WAY}}" + "".join(f"{cell:>19}" for cell in cells[:-1]) + f"{cells[-1]:>10}"


def _width(on_device: bool) -> int:
    return _PART + _WAY + _CELL * (5 if on_device else 4)
