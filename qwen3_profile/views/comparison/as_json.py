"""A comparison as JSON and as Markdown; times in integer ns, shares as fractions of 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from qwen3_profile.analysis.comparison.compare import Comparison, ConfigComparison
from qwen3_profile.analysis.comparison.kernel_changes import KernelChange, PartChange
from qwen3_profile.analysis.comparison.rows import Row
from qwen3_profile.analysis.comparison.settings import Member, describe_pair
from qwen3_profile.views.terminal.two_sides import cells, clock_lines, conclusions, head
from qwen3_profile.words import said

SCHEMA_VERSION = 1


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Everything that was compared; what a table leaves out too."""
    return {
        "schema_version": SCHEMA_VERSION,
        "rules": asdict(comparison.rules),
        "regressions": [
            {"config": describe_pair(config.pair), "row": row.path}
            for config, row in comparison.regressions
        ],
        "configs": [_config_json(each) for each in comparison.configs],
        "only_in_base": comparison.base_alone,
        "only_in_new": comparison.new_alone,
    }


def comparison_markdown(comparison: Comparison) -> str:
    """The tables as Markdown, as a pull request shows them."""
    return "\n".join(_markdown(comparison))


def _config_json(config: ConfigComparison) -> dict[str, Any]:
    return {
        "config": describe_pair(config.pair),
        "phase": config.phase,
        "base": _side_json(config.pair.base),
        "new": _side_json(config.pair.new),
        "differs": [asdict(each) for each in config.settings],
        "undecided": config.undecided,
        "on_device": config.on_device,
        "sm_clock_mhz": _clocks_json(config),
        "total_time": None if config.whole is None else _row_json(config.whole),
        "rows": [_row_json(row) for row in config.rows],
        "kernels": [_part_json(each) for each in config.kernels],
    }


def _clocks_json(config: ConfigComparison) -> dict[str, Any]:
    """In every pass of each process; null where they are not known of both sides."""
    found = {"total_time": config.bare_clocks, "rows": config.row_clocks}
    return {name: None if each is None else asdict(each) for name, each in found.items()}


def _side_json(side: Sequence[Member]) -> list[dict[str, Any]]:
    return [
        {"name": process.name, "id": process.id, "started": process.span[0], "runs": len(records)}
        for process, records in side
    ]


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "path": row.path,
        "verdict": row.state,
        "base_ns": round(row.base_ns),
        "new_ns": round(row.new_ns),
        "change_ns": round(row.change_ns),
        "ratio": row.ratio,
        "test": None if row.test is None else asdict(row.test),
        "test_of_cycles": None if row.in_cycles is None else asdict(row.in_cycles),
        "unconfirmed": row.unconfirmed,
        "sees": row.sees,
        "adjusted_p": row.adjusted_p,
        "adjusted_p_slower": row.slower_p,
        "is_regression": row.is_regression,
        "is_within_margin": row.is_within,
        "processes_needed": row.needed,
        "base_passes_ns": row.base,
        "new_passes_ns": row.new,
    }


def _part_json(part: PartChange) -> dict[str, Any]:
    return {
        "path": part.path,
        "change_ns": part.change_ns,
        "explained_ns": part.explained_ns,
        "unexplained_ns": part.unexplained_ns,
        "kernels": [_kernel_json(each) for each in part.kernels],
    }


def _kernel_json(change: KernelChange) -> dict[str, Any]:
    return {
        "name": change.name,
        "what": change.what,
        "base_count": float(change.base_count),
        "new_count": float(change.new_count),
        "base_ns": float(change.base_ns),
        "new_ns": float(change.new_ns),
        "by_count_ns": float(change.by_count_ns),
        "by_mean_ns": float(change.by_mean_ns),
    }


def _markdown(comparison: Comparison) -> Iterator[str]:
    for config in comparison.configs:
        yield f"### {said(describe_pair(config.pair))}\n"
        for each in config.settings:
            name, base, new = map(said, (each.name, each.base or "-", each.new or "-"))
            yield f"- {name}: {base} → {new}"
        names = tuple(map(said, head(comparison.rules, config.on_device)))
        yield f"\n| {' | '.join(names)} |\n|{'---|' + '---:|' * (len(names) - 1)}"
        for row in config.every_row:
            yield f"| {' / '.join(row.path)} | {' | '.join(map(said, cells(row)))} |"
        if config.undecided:
            yield "\n" + said(f"Nothing is decided: {config.undecided}")
        yield from (f"\n{said(line)}" for line in clock_lines(config))
        yield ""
    yield from ("- " + said(f"only in BASE: {name}") for name in comparison.base_alone)
    yield from ("- " + said(f"only in NEW: {name}") for name in comparison.new_alone)
    yield from (f"- {said(line)}" for line in conclusions(comparison))
