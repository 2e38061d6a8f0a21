"""The table of how the ranks of a distributed run differ, which tells who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from qwen3_profile.analysis.rank_imbalance import (
    PassImbalance,
    RankImbalance,
    rank_imbalance,
    straggler,
)
from qwen3_profile.analysis.rank_waiting import rank_waiting
from qwen3_profile.analysis.spread import Spread
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.records.ranks import RankTrace
from qwen3_profile.views.terminal.cells import milliseconds, wrap, wrap_finding
from qwen3_profile.views.terminal.collectives import render_collectives
from qwen3_profile.views.terminal.table import Column, table

_MOST_NAMED = 16


def render_ranks(ranks: Sequence[RankTrace]) -> str:
    """Minimum, median and maximum over the ranks: of each whole trace, and of each part.

    Of traces without passes the parts are the ranges that they have.
    """
    groups: dict[str, list[RankTrace]] = {}
    for rank in ranks:
        groups.setdefault(rank.group, []).append(rank)
    return "\n\n".join(_group(name, mine) for name, mine in groups.items())


def _group(name: str, ranks: Sequence[RankTrace]) -> str:
    found = rank_imbalance(ranks)
    title = f"=== {name} ===" if name else ""
    phases = (block for each in found.passes for block in (_parts(each), _collectives(ranks, each)))
    whole = "" if found.passes else _collectives(ranks)
    blocks = [title, _totals(found, ranks), *phases, whole, _findings(found)]
    return "\n\n".join(block for block in blocks if block)


def _collectives(ranks: Sequence[RankTrace], shown: PassImbalance | None = None) -> str:
    if shown is None:
        found, title = rank_waiting(ranks), "whole trace"
    else:
        record, title = shown.shown, _title(shown)
        found = rank_waiting(ranks, (record.config_index, record.phase))
    return "" if found is None else render_collectives(found, title)


def _totals(found: RankImbalance, ranks: Sequence[RankTrace]) -> str:
    named = _numbers(found.ranks)
    here = len(found.ranks)
    count = f"{here} of {found.world_size}" if found.world_size > here else str(here)
    lines = [wrap(f"{count} ranks: {named}; times in ms over the ranks")]
    if found.device.most_ns:
        lines += [
            "",
            _table("whole trace", _whole_rows(found)),
        ]
    matched = ranks[0].matched
    late = straggler(found.collectives)
    # Where collectives are matched one by one, those tables know better.
    if late is not None and (matched is None or not matched.matched):
        lines.append(
            wrap(
                f"straggler: rank {late}: it spends the least time in collectives, "
                f"{milliseconds(found.collectives.least_ns)} ms where another spends "
                f"{milliseconds(found.collectives.most_ns)}, so the others wait there for it"
            )
        )
    if found.without_ranges:
        lines.append(
            wrap(
                f"{found.without_ranges} of these traces have no ranges, so no parts and no "
                "record; --ledger FILE accounts for the device time of one"
            )
        )
    return "\n".join(lines)


def _whole_rows(found: RankImbalance) -> Iterator[tuple[str, Spread]]:
    yield "cuda, summed", found.device
    yield "cuda, busy", found.busy
    yield from found.communication.items()


def _parts(found: PassImbalance) -> str:
    kind = "cuda" if found.on_device else "cpu"
    title, phase = _title(found), found.shown.phase
    what = "range, with all in it" if phase == WHOLE_TRACE else "part, summed over the layers"
    rows = [("  " * (len(path) - 1) + path[-1], each) for path, each in found.parts.items()]
    if found.unattributed is not None:
        rows.append(("unattributed", found.unattributed))
    heading = wrap(f"{title}: {kind} of each {what}; {found.ranks} ranks")
    return f"{heading}\n{_table('part', rows, verbatim=True)}"


def _numbers(ranks: Sequence[int]) -> str:
    """Each of a few; of many that follow each other the first and the last."""
    if len(ranks) > _MOST_NAMED and ranks == tuple(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]} to {ranks[-1]}"
    return ", ".join(map(str, ranks))


def _title(found: PassImbalance) -> str:
    facts, phase = found.shown.facts, found.shown.phase
    model = facts.model_class or (facts.model and facts.model.name)
    return f"{model}, {phase}" if model else phase


def _findings(found: RankImbalance) -> str:
    lines = []
    for rank, finding, others in found.findings:
        more = ""
        if others:
            more = f", and {others} more rank{'s have' if others > 1 else ' has'} such"
        lines.append(wrap_finding(finding.severity, f"rank {rank}: {finding.message}{more}"))
    return "\n".join(lines)


def _table(name: str, rows: Iterable[tuple[str, Spread]], *, verbatim: bool = False) -> str:
    columns = (
        Column(name, left=True, least=29, verbatim=verbatim),
        Column("min"),
        Column("median"),
        Column("max"),
        Column("rank of max"),
    )
    return table(columns, [(name, *_cells(each)) for name, each in rows])


def _cells(each: Spread) -> Iterator[str]:
    yield from map(milliseconds, (each.least_ns, each.median_ns, each.most_ns))
    yield "-" if each.slowest is None else str(each.slowest)
