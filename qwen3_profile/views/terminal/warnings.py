"""The records of one config in, the lines that say what of them is to be doubted out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from qwen3_profile.attribution.findings import Finding
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.summary import NOISY, is_noisy, spread
from qwen3_profile.views.terminal.cells import wrap

_FIGURE = re.compile(r"\d[\d.,]*")


def doubts(records: Sequence[TimingRecord]) -> str:
    """Noise, and the findings of the traces; "" where there are none."""
    lines: list[str] = []
    bare = [record.total_ns for record in records if record.total_ns is not None]
    if bare and is_noisy(stats := spread(bare)):
        share = stats["iqr"] / stats["median"]
        told = f"its IQR is {share:.1%} of the median, over {NOISY:.0%}"
        lines.append(f"warning: total_time is noisy: {told}")
    lines += map(_finding_line, _alike(records))
    return "\n".join(map(wrap, lines))


def _alike(records: Sequence[TimingRecord]) -> Iterable[list[Finding]]:
    """The findings of all traces; those that differ in nothing but their figures together."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in dict.fromkeys(finding for record in records for finding in record.findings):
        key = (finding.severity, _FIGURE.sub("", finding.message))
        found.setdefault(key, []).append(finding)
    return found.values()


def _finding_line(alike: Sequence[Finding]) -> str:
    """The worst of those that are alike, and how many others there are."""
    worst = max(alike, key=lambda finding: finding.count)
    others = f"; {len(alike) - 1} more like it" if len(alike) > 1 else ""
    return f"{worst.severity}: {worst.message}{others}"
