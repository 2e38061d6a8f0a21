"""The page of a ledger: totals that add up, the largest rows and kernels, and the findings."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile import labels
from qwen3_profile.analysis.kernel_names import readable_names
from qwen3_profile.analysis.pass_sentences import longest_class
from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.records.ledger import Ledger, Row
from qwen3_profile.views.terminal.cells import fit_end, milliseconds, wrap, wrap_finding
from qwen3_profile.views.terminal.table import Column, table
from qwen3_profile.words import said
from qwen3_profile.words.cells import to_left, to_right

_MOST_ROWS = 30
_IN = {"labels": "in labels", "modules": "in modules", "both": "in both"}
_ROWS = (
    Column("scope", left=True, least=30, cut=fit_end, verbatim=True),
    Column("calls", leave_out=1),
    Column("cpu ms"),
    Column("device ms"),
    Column("share"),
    Column("idle ms"),
)
_IDLE = (
    Column("longest GPU idle times", left=True, least=32),
    Column("ms"),
    Column("mostly", left=True),
    Column("host was in", left=True, least=20),
)
# A name cannot tell much in fewer.
_KERNEL_NAME, _LEAST_PLACE = 39, 16
_KERNELS = (
    Column("kernel", left=True, least=_KERNEL_NAME, verbatim=True),
    Column("in", left=True, least=_LEAST_PLACE),
    Column("events", leave_out=1),
    Column("device ms"),
    Column("share"),
)


def render_ledger(ledger: Ledger) -> str:
    """Totals that add up, the rows and kernels with the most device time, and the findings."""
    whole, rows = ledger.times.device_ns, ledger.rows
    blocks = [
        _totals(ledger, rows),
        _rows(rows, whole),
        _whole_calls(ledger),
        _kernels(ledger.kernels or (), whole),
        _stretches(ledger),
        _findings(ledger),
    ]
    return "\n\n".join(block for block in blocks if block)


def _totals(ledger: Ledger, rows: Sequence[Row]) -> str:
    attributed = sum(part.own.device_ns for _, part in rows)
    events = sum(part.total.device_events for path, part in rows if len(path) == 1)
    times, info = ledger.times, ledger.info
    whole = times.device_ns
    devices = ", ".join(filter(None, info.devices)) or "no device named"
    lines = [wrap(f"{info.path} ({devices})"), ""]
    if not times.device_events:
        return "\n".join([*lines, wrap("no device events in this trace")])
    lines.append(_total("device time", whole, times.device_events, whole))
    lines.append(_total(f"  {_IN[ledger.scopes]}", attributed, events, whole))
    for each in times.unattributed:
        lines.append(_total(f"  {each.reason}", each.ns, each.events, whole))
    if ledger.apart_events:
        apart = ledger.apart_ns, ledger.apart_events
        lines.append(_total("excluded, impossible", *apart, 0))
    lines.append("")
    lines.append(_total("linked to a launch", ledger.linked_ns, ledger.linked_events, whole))
    if times.cross_thread_events:
        crossed = times.cross_thread_ns, times.cross_thread_events
        lines.append(_total("launched by other threads", *crossed, whole))
    span = ledger.span_ns
    lines.append("")
    lines.append(_total("span of the trace", span, None, span))
    lines.append(_total("busy, all devices", times.busy_ns, None, span))
    for (_, device), ns in ledger.busy_ns.items():
        lines.append(_total(f"  device {device}", ns, None, span))
    lines.append(_total("idle, all devices", span - times.busy_ns, None, span))
    return "\n".join(lines)


def _total(name: str, ns: int, events: int | None, whole: int) -> str:
    counted = "" if events is None else to_right(said(f"{events} events"), 16)
    share = f"{ns / whole:8.2%}" if whole else ""
    core = name.lstrip()
    head = f"{name[: len(name) - len(core)]}{said(core)}"
    return f"{to_left(head, 28)}{ns:>18} ns {share:>9}{counted}"


def _rows(rows: Sequence[Row], whole: int) -> str:
    """The rows of the most time of their own, under their paths, most first."""
    by_device = sorted(rows, key=lambda row: (-row[1].own.device_ns, -row[1].own.cpu_ns))
    if not rows:
        return ""
    shown = by_device[:_MOST_ROWS]
    cells = []
    for path, part in shown:
        total, own = part.total, part.own
        cells.append(
            (
                "/".join(path),
                str(total.calls),
                milliseconds(own.cpu_ns),
                milliseconds(own.device_ns),
                _share(own.device_ns, whole),
                milliseconds(own.gap_ns),
            )
        )
    lines = [table(_ROWS, cells)]
    rest = by_device[_MOST_ROWS:]
    if rest:
        left = sum(part.own.device_ns for _, part in rest)
        lines.append(wrap(f"and {len(rest)} more rows with {milliseconds(left)} ms of device time"))
    meaning = "self times, without the scopes inside; idle: GPU idle time before these events"
    lines.append(wrap(meaning))
    return "\n".join(lines)


def _stretches(ledger: Ledger) -> str:
    """The longest idle times, and what the host did meanwhile."""
    if not ledger.times.stretches:
        return ""
    rows = []
    for each in ledger.times.stretches:
        before = f"before {each.before or each.kernel}"
        turn, host = longest_class(each.idle), each.host or "nothing recorded"
        rows.append((before, milliseconds(each.idle.ns), turn, host))
    return table(_IDLE, rows)


def _whole_calls(ledger: Ledger) -> str:
    """Means over those calls alone of which the trace has all device events."""
    lines = []
    for path, each in list(ledger.whole_calls.items())[:_MOST_ROWS]:
        mean = "-" if each.mean_ns is None else f"{milliseconds(each.mean_ns)} ms"
        lines.append(
            f"{fit_end('/'.join(path), 42)}: mean device time {mean}, over the "
            f"{each.calls - each.lost} of {each.calls} calls with no lost device event"
        )
    return "\n".join(map(wrap, lines))


def _kernels(kernels: Sequence[KernelRow], whole: int) -> str:
    """Who ran longest, and in which range, all layers together; most first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in kernels:
        where = labels.every_layer(row.path[-1]) if row.path else f"({row.reason})"
        known = sums.setdefault((row.name, where), [0, 0])
        known[0] += row.events
        known[1] += row.device_ns
    if not sums:
        return ""
    by_device = sorted(sums.items(), key=lambda item: -item[1][1])
    short = readable_names((name for name, _ in sums), _KERNEL_NAME)
    rows = [
        (short[name], where, str(events), milliseconds(ns), _share(ns, whole))
        for (name, where), (events, ns) in by_device[:_MOST_ROWS]
    ]
    lines = [table(_KERNELS, rows)]
    rest = by_device[_MOST_ROWS:]
    if rest:
        left = sum(ns for _, (_, ns) in rest)
        lines.append(wrap(f"and {len(rest)} more with {milliseconds(left)} ms of device time"))
    return "\n".join(lines)


def _share(ns: int, whole: int) -> str:
    return f"{ns / whole:.1%}" if whole else "-"


def _findings(ledger: Ledger) -> str:
    lines = []
    for finding in ledger.findings:
        example = ""
        if finding.example and finding.example not in finding.message:
            name = readable_names([finding.example])[finding.example]
            example = f" (such as {fit_end(name, 62)})"
        lines.append(wrap_finding(finding.severity, f"{finding.message}{example}"))
    lines += [wrap(f"note: {text}") for text in ledger.suggestions]
    return "\n".join(lines)
