"""The table of the same work on 1, 2, ... ranks."""

from __future__ import annotations

from collections.abc import Iterable

from qwen3_profile.analysis.rank_scaling import RankScaling, ScalingRow, rank_scaling
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.table import Column, table


def render_scaling(records: Iterable[TimingRecord]) -> str:
    """One block for each model, config and phase; empty where nothing ran on several numbers."""
    return "\n\n".join(map(_block, rank_scaling(records)))


def _block(found: RankScaling) -> str:
    config = found.config
    compute = "kernels" if found.on_device else "CPU time"
    return "\n".join(
        (
            wrap(
                f"{found.name}, {found.phase}: batch {config.batch_size} x {config.input_len} "
                f"tokens, {config.dtype}, on more and more ranks ({found.parallel}); "
                "times of a pass in ms"
            ),
            table(_columns(compute), [*map(_row, found.rows)]),
            wrap(
                "loss: what a pass takes longer than at an efficiency of 1, and where it goes: "
                f"collectives, {compute} and idle time that did not shrink with the ranks (means "
                "over them), and the rest, which traced passes do not show"
            ),
        )
    )


def _columns(compute: str) -> tuple[Column, ...]:
    return (
        Column("ranks", left=True),
        *map(Column, ("bare", "speed-up", "efficiency", "loss")),
        Column("transfer <=", leave_out=1),
        Column("waiting", leave_out=1),
        Column(compute, leave_out=2),
        Column("idle", leave_out=2),
        Column("rest", leave_out=3),
    )


def _row(row: ScalingRow) -> tuple[str, ...]:
    lost = row.lost
    parts = (
        row.loss_ns, lost.transfer_ns, lost.waiting_ns, lost.compute_ns, lost.idle_ns, row.rest_ns
    )  # fmt: skip
    return (
        str(row.ranks), milliseconds(row.bare_ns), f"{row.speed_up:.2f}x", f"{row.efficiency:.0%}",
        *map(milliseconds, parts),
    )  # fmt: skip
