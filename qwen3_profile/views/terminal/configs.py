"""The table that ends a run of several configs: one row for each, with its bare time."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.analysis.median_pass import is_on_device, median_bare_ns, shown_record
from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.analysis.verdict import device_share
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.names import short_labels
from qwen3_profile.views.terminal.cells import Table, fit, milliseconds

_ON_DEVICE = Table((-44, 12, 12, 12, -2, -16))
_ON_CPU = Table((-44, 12, 12))


def render_configs(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """One row for each config and phase, in the order in which they ran; empty of a single one.

    Args:
        groups: records of one config and phase each.
    """
    if len(groups) < 2:
        return ""
    labels = short_labels([shown_record(group) for group in groups])
    on_device = any(map(is_on_device, groups))
    table = _ON_DEVICE if on_device else _ON_CPU
    names = ("GPU busy", "", "verdict") if on_device else ()
    lines = [table.line("all configs", "bare ms", "tokens/s", *names)]
    for label, group in zip(labels, groups, strict=True):
        lines.append(table.line(fit(label, 44), *_cells(group)))
    return "\n".join(lines)


def _cells(group: Sequence[TimingRecord]) -> list[str]:
    totals = totals_of(group)
    rates, share = totals.tokens_per_second, device_share(totals.passes)
    bare = milliseconds(median_bare_ns(group)) if totals.all_bare_ns else "-"
    cells = [bare, f"{median(rates):.1f}" if rates else "-"]
    return cells + ([f"{share.share:.0%}", "", share.verdict] if share is not None else [])
