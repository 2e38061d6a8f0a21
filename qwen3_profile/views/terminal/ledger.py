"""The page of a ledger: totals that add up, the largest rows and kernels, and the findings."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile import labels
from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.records.ledger import Ledger, Row
from qwen3_profile.views.terminal.cells import Table, fit, milliseconds, wrap

_MOST_ROWS = 30
_PATH = 42
_ROWS = Table((-_PATH, 8, 13, 14, 9, 13))
_ROW_HEAD = Table((-40, *_ROWS.widths[1:]))
_KERNELS = Table((-40, -28, 8, 15, 9))


def render_ledger(ledger: Ledger) -> str:
    """Totals that add up, the rows and kernels with the most device time, and the findings."""
    whole = ledger.device_time_ns
    blocks = [
        _totals(ledger),
        _rows(ledger.rows, whole),
        _kernels(ledger.kernels or (), whole),
        _findings(ledger),
    ]
    return "\n\n".join(block for block in blocks if block)


def _totals(ledger: Ledger) -> str:
    attributed = sum(row.device_self_ns for row in ledger.rows)
    events = sum(row.device_events for row in ledger.rows if len(row.path) == 1)
    whole = ledger.device_time_ns
    lines = [f"{ledger.path} ({', '.join(filter(None, ledger.devices)) or 'no device named'})", ""]
    if not ledger.device_events:
        return "\n".join([*lines, "no device events in this trace"])
    lines.append(_total("device time", whole, ledger.device_events, whole))
    lines.append(_total(f"  in {ledger.scopes}", attributed, events, whole))
    for each in ledger.unattributed:
        lines.append(_total(f"  {each.reason}", each.ns, each.events, whole))
    lines.append("")
    lines.append(_total("linked to a launch", ledger.linked_ns, ledger.linked_events, whole))
    lines.append(_total("busy, all devices", ledger.device_busy_ns, None, whole))
    lines += [_total(f"  device {b.device}", b.ns, None, whole) for b in ledger.busy_by_device]
    return "\n".join(lines)


def _total(name: str, ns: int, events: int | None, whole: int) -> str:
    counted = "" if events is None else f"{events:>9} events"
    share = f"{ns / whole:8.2%}" if whole else ""
    return f"{name:<28}{ns:>18} ns {share:>9}{counted}"


def _rows(rows: Sequence[Row], whole: int) -> str:
    """The rows of the most time of their own, under their paths, most first."""
    by_device = sorted(rows, key=lambda row: (-row.device_self_ns, -row.cpu_self_ns))
    if not rows:
        return ""
    shown = by_device[:_MOST_ROWS]
    lines = [_ROW_HEAD.line("scope", "calls", "cpu self", "device self", "share", "idle")]
    for row in shown:
        lines.append(
            _ROWS.line(
                _fit("/".join(row.path), _PATH),
                str(row.calls),
                milliseconds(row.cpu_self_ns),
                milliseconds(row.device_self_ns),
                _share(row.device_self_ns, whole),
                milliseconds(row.gap_ns),
            )
        )
    rest = by_device[_MOST_ROWS:]
    if rest:
        left = sum(row.device_self_ns for row in rest)
        lines.append(f"and {len(rest)} more rows with {milliseconds(left)} ms of device time")
    return "\n".join(lines)


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
    lines = [_KERNELS.line("kernel", "in", "events", "device self", "share")]
    for (name, where), (events, ns) in by_device[:_MOST_ROWS]:
        lines.append(
            _KERNELS.line(
                fit(name, 40), fit(where, 28), str(events), milliseconds(ns), _share(ns, whole)
            )
        )
    rest = by_device[_MOST_ROWS:]
    if rest:
        left = sum(ns for _, (_, ns) in rest)
        lines.append(f"and {len(rest)} more with {milliseconds(left)} ms of device time")
    return "\n".join(lines)


def _share(ns: int, whole: int) -> str:
    return f"{ns / whole:.1%}" if whole else "-"


def _fit(path: str, width: int) -> str:
    """The path's end, which tells the most, where it is too long."""
    safe = "".join(c if c.isprintable() else "?" for c in path)
    return safe if len(safe) < width else "..." + safe[-(width - 4) :]


def _findings(ledger: Ledger) -> str:
    lines = []
    for finding in ledger.findings:
        example = f" (such as {_fit(finding.example, 60)})" if finding.example else ""
        lines.append(wrap(f"{finding.severity}: {finding.message}{example}"))
    return "\n".join(lines)
