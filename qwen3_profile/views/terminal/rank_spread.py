"""The ranks of a distributed run in, the table of their spread out: who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.parts import Times
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.passes.pass_times import short_name
from qwen3_profile.records.ranks import RankTrace
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import fit, milliseconds, wrap
from qwen3_profile.views.terminal.part_table import Row, part_rows
from qwen3_profile.views.terminal.tables import median_record

_Key = tuple[str, ...]
_Group = tuple[int, str]
_NAME = 40


def render_spread(ranks: Sequence[RankTrace]) -> str:
    """Minimum, median and maximum over the ranks: of each whole trace, and of each part.

    Of a rank with several passes of a phase the median one counts. A part that a rank has not
    counts as 0 there. Of traces without passes the parts are the ranges that they have.
    """
    blocks = [_totals(ranks)]
    groups = dict.fromkeys(_group(record) for rank in ranks for record in rank.records)
    blocks += [_parts(ranks, group) for group in groups]
    blocks.append(_findings(ranks))
    return "\n\n".join(block for block in blocks if block)


def _totals(ranks: Sequence[RankTrace]) -> str:
    named = ", ".join(str(rank.rank) for rank in ranks)
    world = max((rank.world_size or 0 for rank in ranks), default=0)
    count = f"{len(ranks)} of {world}" if world > len(ranks) else str(len(ranks))
    lines = [
        wrap(f"{count} ranks: {named}; times in ms over the ranks"),
        "",
        _columns("whole trace", "min", "median", "max", "rank of max"),
        _line("cuda, summed", [rank.device_ns for rank in ranks], ranks),
        _line("cuda, busy", [rank.busy_ns for rank in ranks], ranks),
        _line("nccl", [rank.nccl_ns for rank in ranks], ranks),
    ]
    silent = [rank for rank in ranks if not rank.records]
    if silent:
        lines.append(
            f"{len(silent)} of these traces have no ranges, so no parts and no record;\n"
            "  --ledger FILE accounts for the device time of one"
        )
    return "\n".join(lines)


def _group(record: TimingRecord) -> _Group:
    return record.config_index, record.phase


def _parts(ranks: Sequence[RankTrace], group: _Group) -> str:
    passes = [[r for r in rank.records if _group(r) == group] for rank in ranks]
    present = [rank for rank, mine in zip(ranks, passes, strict=True) if mine]
    shown = [median_record(mine) for mine in passes if mine]
    on_device = any(record.times.device_events for record in shown)
    columns = [_by_key(_rows(record)) for record in shown]
    kind = "cuda" if on_device else "cpu"
    model = shown[0].facts.model_class or (shown[0].facts.model and shown[0].facts.model.name)
    title = f"{model}, {group[1]}" if model else group[1]
    what = "range, with all in it" if group[1] == WHOLE_TRACE else "part, summed over the layers"
    lines = [
        f"{title}: {kind} of each {what}; {len(present)} ranks",
        _columns("part", "min", "median", "max", "rank of max"),
    ]
    for key in dict.fromkeys(key for column in columns for key in column):
        times = [column.get(key, Times()) for column in columns]
        values = [item.device_ns if on_device else item.cpu_ns for item in times]
        lines.append(_line("  " * (len(key) - 1) + key[-1], values, present))
    if on_device:
        spare = [record.times.unattributed_ns for record in shown]
        lines.append(_line("unattributed", spare, present))
    return "\n".join(lines)


def _findings(ranks: Sequence[RankTrace]) -> str:
    """Each kind of finding once: what it is on the first rank that has it, and on how many more."""
    found: dict[str, dict[int, Finding]] = {}
    for rank in ranks:
        for finding in rank.records[0].findings if rank.records else ():
            found.setdefault(finding.code, {}).setdefault(rank.rank, finding)
    lines = []
    for by_rank in found.values():
        (first, finding), *others = by_rank.items()
        more = ""
        if others:
            more = f", and {len(others)} more rank{'s have' if len(others) > 1 else ' has'} such"
        lines.append(wrap(f"{finding.severity}: rank {first}: {finding.message}{more}"))
    return "\n".join(lines)


def _rows(record: TimingRecord) -> Sequence[Row]:
    forward = record.times.forward
    if record.phase != WHOLE_TRACE:
        return part_rows(forward)
    return [Row(short_name(part), part.total, len(path) - 1) for path, part in forward.walk()]


def _by_key(rows: Sequence[Row]) -> dict[_Key, Times]:
    """Rows under the names above them and their own, by which those of two ranks meet."""
    found: dict[_Key, Times] = {}
    above: list[str] = []
    for row in rows:
        above = [*above[: row.indent], row.name]
        found[tuple(above)] = row.times
    return found


def _line(name: str, values: Sequence[int], ranks: Sequence[RankTrace]) -> str:
    most = max(values)
    most_at = str(ranks[values.index(most)].rank) if min(values) < most else "-"
    cells = (milliseconds(value) for value in (min(values), median_low(values), most))
    return _columns(name, *cells, most_at)


def _columns(name: str, *cells: str) -> str:
    return f"{fit(name, _NAME):<{_NAME}}" + "".join(f"{cell:>15}" for cell in cells)
