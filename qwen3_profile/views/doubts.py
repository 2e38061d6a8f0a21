"""The records of one config in, the lines that say what of them is to be doubted out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from qwen3_profile.health import Finding
from qwen3_profile.records import TimingRecord
from qwen3_profile.summary import NOISY, is_noisy, spread
from qwen3_profile.views.cells import wrap


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
    """The findings of all traces, the nth of a kind in each trace together."""
    found: dict[tuple[str, int], list[Finding]] = {}
    for record in records:
        seen: Counter[str] = Counter()
        for finding in record.findings:
            found.setdefault((finding.code, seen[finding.code]), []).append(finding)
            seen[finding.code] += 1
    return found.values()


def _finding_line(alike: Sequence[Finding]) -> str:
    """The worst of those that are alike; what many traces have is told once."""
    worst = max(alike, key=lambda finding: finding.count)
    differ = any(finding.message != worst.message for finding in alike)
    return f"{worst.severity}: {worst.message}" + (
        f"; the most of {len(alike)} traces" if differ else ""
    )
