"""The table that ends a run of several configs: one row for each, with its bare time."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.analysis.explain import phase_claim
from qwen3_profile.analysis.median_pass import median_bare_ns, shown_record
from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.analysis.verdict import UNDECIDED, device_share
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.names import short_labels
from qwen3_profile.views.terminal.cells import milliseconds
from qwen3_profile.views.terminal.table import Column, table

_COLUMNS = (
    Column("all configs", left=True, least=26),
    Column("bare ms"),
    Column("tokens/s", leave_out=1),
    Column("GPU busy"),
    Column("verdict", left=True),
)


def render_configs(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """One row for each config and phase, in the order in which they ran; empty of a single one.

    Args:
        groups: records of one config and phase each.
    """
    if len(groups) < 2:
        return ""
    labels = short_labels([shown_record(group) for group in groups])
    pairs = zip(labels, groups, strict=True)
    return table(_COLUMNS, [(label, *_cells(group)) for label, group in pairs])


def _cells(group: Sequence[TimingRecord]) -> list[str]:
    totals = totals_of(group)
    rates, share = totals.tokens_per_second, device_share(totals.passes)
    bare = milliseconds(median_bare_ns(group)) if totals.all_bare_ns else "-"
    cells = [bare, f"{median(rates):.1f}" if rates else "-"]
    if share is None:
        return cells
    # One word for a pass: that of its verdict, which the page above says, where there is one.
    kind = phase_claim(group).verdict
    return [*cells, f"{share.share:.0%}", share.verdict if kind == UNDECIDED else kind]
