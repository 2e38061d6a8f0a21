"""The table of how the ranks of a distributed run differ, which tells who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.analysis.rank_imbalance import (
    PassImbalance,
    RankImbalance,
    Spread,
    rank_imbalance,
    straggler,
)
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.records.ranks import RankTrace
from qwen3_profile.views.terminal.cells import Table, fit, milliseconds, wrap

_NAME = 40
_TABLE = Table((-_NAME, 15, 15, 15, 15))


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
    blocks = [title, _totals(found), *map(_parts, found.passes), _findings(found)]
    return "\n\n".join(block for block in blocks if block)


def _totals(found: RankImbalance) -> str:
    named = ", ".join(map(str, found.ranks))
    here = len(found.ranks)
    count = f"{here} of {found.world_size}" if found.world_size > here else str(here)
    lines = [
        wrap(f"{count} ranks: {named}; times in ms over the ranks"),
        "",
        _TABLE.line("whole trace", "min", "median", "max", "rank of max"),
        _line("cuda, summed", found.device),
        _line("cuda, busy", found.busy),
        *(_line(kind, each) for kind, each in found.communication.items()),
    ]
    late = straggler(found.collectives)
    if late is not None:
        lines.append(
            wrap(
                f"straggler: rank {late}: it spends the least time in collectives, "
                f"{milliseconds(found.collectives.least_ns)} ms where another spends "
                f"{milliseconds(found.collectives.most_ns)}, so the others wait there for it"
            )
        )
    if found.without_ranges:
        lines.append(
            f"{found.without_ranges} of these traces have no ranges, so no parts and no record;\n"
            "  --ledger FILE accounts for the device time of one"
        )
    return "\n".join(lines)


def _parts(found: PassImbalance) -> str:
    kind = "cuda" if found.on_device else "cpu"
    facts, phase = found.shown.facts, found.shown.phase
    model = facts.model_class or (facts.model and facts.model.name)
    title = f"{model}, {phase}" if model else phase
    what = "range, with all in it" if phase == WHOLE_TRACE else "part, summed over the layers"
    lines = [
        f"{title}: {kind} of each {what}; {found.ranks} ranks",
        _TABLE.line("part", "min", "median", "max", "rank of max"),
        *(_line("  " * (len(path) - 1) + path[-1], each) for path, each in found.parts.items()),
    ]
    if found.unattributed is not None:
        lines.append(_line("unattributed", found.unattributed))
    return "\n".join(lines)


def _findings(found: RankImbalance) -> str:
    lines = []
    for rank, finding, others in found.findings:
        more = ""
        if others:
            more = f", and {others} more rank{'s have' if others > 1 else ' has'} such"
        lines.append(wrap(f"{finding.severity}: rank {rank}: {finding.message}{more}"))
    return "\n".join(lines)


def _line(name: str, each: Spread) -> str:
    times = map(milliseconds, (each.least_ns, each.median_ns, each.most_ns))
    slowest = "-" if each.slowest is None else str(each.slowest)
    return _TABLE.line(fit(name, _NAME), *times, slowest)
