"""The records of a run in, one table of the executions that ran side by side out, part by part.

Eager, compiled and as a CUDA graph: the same weights and inputs. A fused kernel counts to its
anchor here, so that every column adds up; how sure that is stands with the compiled tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from qwen3_profile import labels
from qwen3_profile.compiled.scopes import FUSED, part_name
from qwen3_profile.compiled.times import bounds
from qwen3_profile.config import COMPILE_MODES, COMPILE_SCOPES, EAGER, RunConfig
from qwen3_profile.records import TimingRecord
from qwen3_profile.steps import short_name
from qwen3_profile.views.alike import render_alike
from qwen3_profile.views.cells import milliseconds, wrap
from qwen3_profile.views.tables import median_record

_NS_PER_MS = 1e6
_ANCHORS = (
    "A fused kernel counts to the part that is most of it; in others: all of a part is in kernels "
    "that count to other parts."
)
_HEAD, _CELL = 28, 18


def render_executions(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """A table for each phase of the configs that differ in nothing but how they were executed.

    Args:
        groups: records of one config and phase each, of one run or of several.

    Returns:
        The tables, the first config of each being what the others are compared with; an empty
        text where no two configs can be compared.
    """
    return render_alike(groups, _without_execution, _table)


def _without_execution(config: RunConfig) -> RunConfig:
    return replace(
        config, execution=EAGER, compile_mode=COMPILE_MODES[0], compile_scope=COMPILE_SCOPES[0]
    )


def _table(phase: str, config: RunConfig, ways: Sequence[Sequence[TimingRecord]]) -> str:
    if len(ways) < 2:
        return ""
    shown = [_shown(records) for records in ways]
    on_device = any(record.times.device_events for record in shown)
    parts = [_parts_ns(record, on_device) for record in shown]
    where = f"batch {config.batch_size} x {config.input_len} tokens, {config.dtype}"
    kind = "cuda" if on_device else "cpu"
    lines = [
        wrap(f"executions compared, {phase}: {where}; the same weights and inputs, {kind} in ms"),
        _columns("part, all layers", [_name(record) for record in shown]),
    ]
    for part in dict.fromkeys(part for each in parts for part in each):
        pairs = zip(shown, parts, strict=True)
        lines.append(_columns(f"  {part}", [_cell(record, part, t[part]) for record, t in pairs]))
    lines.append("-" * (_HEAD + _CELL * len(shown)))
    lines += _sums(ways, shown, parts, on_device)
    if any(record.times.compiled is not None for record in shown):
        lines.append(wrap(_ANCHORS))
    lines += [wrap(_removed(a, b, on_device)) for a, b in _pairs(ways, shown)]
    return "\n".join(lines)


def _cell(record: TimingRecord, part: str, ns: int) -> str:
    """A part's time; a word where all of it is in kernels that count to other parts."""
    compiled = record.times.compiled
    if ns or compiled is None or part not in {each.part for each in bounds(compiled)}:
        return milliseconds(ns)
    return "in others"


def _sums(
    ways: Sequence[Sequence[TimingRecord]],
    shown: Sequence[TimingRecord],
    parts: Sequence[Counter[str]],
    on_device: bool,
) -> list[str]:
    """What all parts take together, and what a pass takes beside them."""
    rows = [("all parts", [milliseconds(sum(each.values())) for each in parts])]
    if on_device:
        times = [record.times for record in shown]
        rows += [
            ("device events", [str(each.device_events) for each in times]),
            ("device at work", [milliseconds(each.busy_ns) for each in times]),
            ("device idle, traced", [milliseconds(each.gap_ns) for each in times]),
            ("launch calls, traced", [milliseconds(e.forward.total.launch_ns) for e in times]),
        ]
    total = "TPOT, bare" if shown[0].step_times_ns else "total_time, bare"
    bare = [_total_ns(records) for records in ways]
    rows.append((total, [milliseconds(ns) for ns in bare]))
    rows.append(("ratio", [f"{ns / bare[0]:.2f}" if bare[0] else "" for ns in bare]))
    return [_columns(head, cells) for head, cells in rows]


def _pairs(
    ways: Sequence[Sequence[TimingRecord]], shown: Sequence[TimingRecord]
) -> list[tuple[tuple[TimingRecord, float], tuple[TimingRecord, float]]]:
    both = [(record, _total_ns(records)) for record, records in zip(shown, ways, strict=True)]
    return [(both[0], other) for other in both[1:]]


def _removed(
    first: tuple[TimingRecord, float], other: tuple[TimingRecord, float], on_device: bool
) -> str:
    """A sentence of what the second one does without."""
    (one, one_ns), (two, two_ns) = first, other
    told = f"{_name(two)} against {_name(one)}: {_changed(one_ns, two_ns)} a pass"
    if not on_device:
        return f"{told}."
    idle = max(0.0, one_ns - one.times.busy_ns), max(0.0, two_ns - two.times.busy_ns)
    return (
        f"{told}; the device at work {_changed(one.times.busy_ns, two.times.busy_ns)}, waiting "
        f"{_changed(*idle)}; device events {one.times.device_events} -> {two.times.device_events}."
    )


def _changed(before_ns: float, after_ns: float) -> str:
    before, after = before_ns / _NS_PER_MS, after_ns / _NS_PER_MS
    return f"{before:.3f} -> {after:.3f} ms ({after - before:+.3f})"


def _parts_ns(record: TimingRecord, on_device: bool) -> Counter[str]:
    """Each part's time over all layers, in the order of the pass; sums to the whole pass's."""
    found: Counter[str] = Counter()
    for _, part in record.times.forward.walk():
        # Of fused kernels more is known than the tree shows.
        if FUSED in short_name(part):
            continue
        name = labels.OTHER if part.parts or part is record.times.forward else short_name(part)
        own = part.own
        found[name] += own.device_ns if on_device else own.cpu_ns
    compiled = record.times.compiled
    for kernel in compiled.kernels if compiled is not None else ():
        if kernel.is_fused:
            ns = kernel.device_ns if on_device else kernel.cpu_ns
            found[part_name(kernel.anchor)] += ns
    other = found.pop(labels.OTHER, 0)
    found[labels.OTHER] = other
    if record.times.unattributed_ns and on_device:
        found["unattributed"] = record.times.unattributed_ns
    return found


def _shown(records: Sequence[TimingRecord]) -> TimingRecord:
    """The median pass, as the tables of its config show it."""
    return median_record([single for record in records for single in record.one_by_one()])


def _total_ns(records: Sequence[TimingRecord]) -> float:
    """The median bare pass: of a decode over every step, of a prefill over the runs."""
    steps_ns = [ns for record in records for ns in record.step_times_ns]
    return median(steps_ns or [record.total_ns or 0.0 for record in records])


def _name(record: TimingRecord) -> str:
    facts = record.facts
    words = [facts.execution or EAGER]
    if facts.compile_mode not in (None, COMPILE_MODES[0]):
        words.append(str(facts.compile_mode))
    if facts.compile_scope not in (None, COMPILE_SCOPES[0]):
        words.append(f"by {facts.compile_scope}")
    return " ".join(words)


def _columns(head: str, cells: Sequence[str]) -> str:
    return f"{head:<{_HEAD}}" + "".join(f"{cell:>{_CELL}}" for cell in cells)
