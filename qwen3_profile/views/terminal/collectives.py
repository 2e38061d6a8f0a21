"""The table of collectives over the ranks: what is transfer, what is waiting, and for whom."""

from __future__ import annotations

from collections.abc import Iterator

from qwen3_profile.analysis.rank_waiting import LostTime, RankWaiting, Straggler, WaitingRow
from qwen3_profile.records.matched_collectives import TOGETHER
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.table import Column, table
from qwen3_profile.words import said

_COLUMNS = (
    Column("part and kind", left=True, least=26, verbatim=True),
    Column("count", leave_out=3),
    Column("size", leave_out=2),
    Column("time\nmax"),
    Column("transfer\n<="),
    Column("waiting\nmin", leave_out=1),
    Column("waiting\nmax"),
    Column("\nrank"),
    Column("algbw\nGB/s", leave_out=4),
    Column("busbw\nGB/s", leave_out=4),
)
_MOST_ROWS, _MOST_PARTS = 20, 4
_NS_PER_US, _BYTES_PER_GB = 1e3, 1e9
_NONE = "-"


def render_collectives(found: RankWaiting, title: str) -> str:
    """Of each part and kind; below, the rank that the others wait for, and where it lost time."""
    passes = f"{found.passes} pass{'' if found.passes == 1 else 'es'}"
    lines = [
        wrap(
            f"{title}: collectives of {passes}, {'kernels' if found.on_device else 'calls'} of "
            "each rank; times in ms"
        ),
        *_tables(found),
        *_straggler(found),
        *map(wrap, _notes(found)),
    ]
    return "\n".join(lines)


def _tables(found: RankWaiting) -> Iterator[str]:
    shown = sorted(found.rows, key=lambda row: -row.time.most_ns)[:_MOST_ROWS]
    rows = [_row(row) for row in found.rows if row in shown]
    if found.total is not None:
        rows.append(_row(found.total))
    yield table(_COLUMNS, rows)
    if len(shown) < len(found.rows):
        yield wrap(f"{len(found.rows) - len(shown)} rows of less time are left out")


def _row(row: WaitingRow) -> tuple[str, ...]:
    part = row.part or said("(no label)")
    rates = (row.algorithm_bytes_per_s, row.bus_bytes_per_s)
    return (
        f"{part} {row.kind}".strip(), str(row.count), _size(row.bytes),
        milliseconds(row.time.most_ns), *_split(row), *map(_rate, rates),
    )  # fmt: skip


def _split(row: WaitingRow) -> tuple[str, ...]:
    """Transfer, the least and the most waiting, and whose the most is."""
    waiting = row.waiting
    if waiting is None:
        return (_NONE, _NONE, _NONE, _NONE)
    who = _NONE if waiting.slowest is None else str(waiting.slowest)
    return (
        *map(milliseconds, (row.transfer_ns or 0, waiting.least_ns, waiting.most_ns)),
        who,
    )


def _size(count: int | None) -> str:
    if count is None:
        return _NONE
    unit, name = (1 << 20, "MiB") if count >= 1 << 20 else (1 << 10, "KiB")
    return f"{count / unit:.1f} {name}"


def _rate(bytes_per_s: float | None) -> str:
    return _NONE if bytes_per_s is None else f"{bytes_per_s / _BYTES_PER_GB:.1f}"


def _straggler(found: RankWaiting) -> Iterator[str]:
    late = found.straggler
    if late is None:
        return
    yield wrap(
        f"straggler: rank {late.rank}, last to {late.last} of {late.of} collectives; the first "
        f"rank there waited {milliseconds(late.held_ns)} ms for it"
        f"{'' if late.most_often else '; other ranks were last more often, by less'}"
    )
    if late.lost:
        yield wrap(f"  {_lost(late)}", 4)


def _lost(late: Straggler) -> str:
    busy, idle = sum(e.busy_ns for e in late.lost), sum(e.idle_ns for e in late.lost)
    spent = milliseconds(sum(each.ns for each in late.lost))
    shown = [_lost_in(each) for each in late.lost[:_MOST_PARTS]]
    rest = len(late.lost) - len(shown)
    parts = ", ".join([*shown, *([f"{rest} other parts"] if rest else [])])
    most = f"; largest single loss {_lost_in(late.lost_at)}" if late.lost_at else ""
    return (
        f"lost {spent} to {'longer work' if busy > idle else 'idle time (its host launched late)'}"
        f": {parts}{most}"
    )


def _lost_in(lost: LostTime) -> str:
    return f"{lost.label or 'no label'} {milliseconds(lost.ns)}"


def _notes(found: RankWaiting) -> Iterator[str]:
    overlapped = (found.total or found.rows[0]).overlapped
    if overlapped.most_ns:
        span = f"{milliseconds(overlapped.least_ns)} to {milliseconds(overlapped.most_ns)} ms"
        yield f"overlapped with other kernels of the rank: {span}; the rest is exposed"
    elif found.on_device:
        yield "all exposed: no other kernel of the rank ran meanwhile"
    if found.residual_ns is not None:
        least, most = (ns / _NS_PER_US for ns in found.residual_ns)
        yield (
            "transfer: the fastest rank's time for the same collective, an upper bound; waiting: "
            "the rest. Clocks are aligned by the collectives' ends, pass by pass; residual "
            f"{least:+.1f} .. {most:+.1f} us"
        )
    if any(row.waiting is None and row.kind not in TOGETHER for row in found.rows):
        yield "not split: sends, broadcasts, all_to_alls, which need not end on all ranks together"
    yield from found.differences
