"""The traces of a distributed run, one of each process."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from qwen3_profile.attribution.collective_times import Collectives, no_collectives
from qwen3_profile.errors import DamagedTraceError, TraceError, warn
from qwen3_profile.passes.read import read
from qwen3_profile.passes.reading import DeviceTotals, Reading
from qwen3_profile.records.collective_sums import collective_times
from qwen3_profile.records.from_trace import records_of
from qwen3_profile.records.matched_collectives import MatchedCollectives, match_collectives
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.layout import may_be_trace, trace_stem
from qwen3_profile.system.processes import map_files
from qwen3_profile.system.remote import fetched
from qwen3_profile.trace import TraceInfo

# What launchers and profilers write into names: rank-3, rank_3, TP-3, worker3, and `_r3`.
_NAMED = tuple(
    re.compile(rf"(?:^|(?<=[^a-z])){word}[-_]?(\d{{1,6}})(?!\d)", re.IGNORECASE)
    for word in ("rank", "tp", "worker", "r")
)
# SGLang writes all ranks into one more file, beside those of each.
_MERGED = re.compile(r"merged-", re.IGNORECASE)
# Times, dates and process ids differ between the files of one session.
_CHANGING = re.compile(r"\d{4,}")


@dataclass(frozen=True, slots=True)
class RankTrace:
    """The trace of one process.

    rank: as the file says it, else as its name does. world_size: of how many, if the file says so.
    totals: of all device events, in whatever part.
    records: of its forward passes; one of the whole trace where it shows none, by its ranges; none
        where it has no ranges either.
    collectives: what it exchanged with others, one by one.
    matched: these beside those of the other ranks of its group, one split for each rank in order.
    group: of a folder with several traces of a rank, which of them it is, as those of other ranks.
    """

    path: Path
    rank: int
    world_size: int | None
    totals: DeviceTotals
    records: tuple[TimingRecord, ...]
    group: str = ""
    collectives: Collectives = field(default_factory=no_collectives, compare=False)
    matched: MatchedCollectives | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class _Stray:
    """A trace that is of no rank, or of several.

    ranks: those of a file with several processes, if each says its rank.
    """

    path: Path
    error: TraceError
    ranks: tuple[RankTrace, ...] = ()


def trace_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that may be traces, by name."""
    names = (path for path in folder.iterdir() if may_be_trace(path.name))
    return tuple(sorted(path for path in names if path.is_file()))


def collect_ranks(
    files: Sequence[Path | str],
    *,
    accept_damaged: bool = False,
    executor: Executor | None = None,
) -> tuple[RankTrace, ...]:
    """The ranks that the files hold, in order, group by group.

    What is no trace, or the trace of no rank, as of a server's front end, is told and left out.

    Args:
        files: paths, or URLs.
        executor: reads them, one after the other on each of its workers; None for processes of
            this machine.

    Raises:
        TraceError: there is no trace, or the ranks cannot be told from each other.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    found: list[RankTrace] = []
    strays: list[_Stray] = []
    read_one = partial(_read_any, accept_damaged)
    if executor is None:
        read_all = iter(map_files(read_one, files, [Path(file) for file in files]))
    else:
        read_all = executor.map(read_one, files)
    for each in read_all:
        if isinstance(each, TraceError):
            raise each
        if isinstance(each, str):
            warn(f"left out: {each}")
        elif isinstance(each, _Stray):
            strays.append(each)
        else:
            found.append(each)
    return _in_groups(found or _merged_ranks(files, strays), strays)


def _merged_ranks(files: Sequence[Path | str], strays: Sequence[_Stray]) -> list[RankTrace]:
    """Of a folder where no file is of one rank, the ranks of one that holds several."""
    merged = [stray for stray in strays if stray.ranks]
    if len(merged) == 1:
        return list(merged[0].ranks)
    if strays:
        raise strays[0].error
    raise TraceError(str(Path(files[0]).parent), "holds no trace", "give a trace or a run's folder")


def _in_groups(found: Sequence[RankTrace], strays: Sequence[_Stray]) -> tuple[RankTrace, ...]:
    used = {each.path for each in found}
    left = [stray.path.name for stray in strays if stray.path not in used]
    if left:
        warn(f"left out: {', '.join(left)}: not the trace of one rank, as those beside are")
    groups = _groups(found)
    order = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    grouped = [replace(each, group=group) for each, group in zip(found, groups, strict=True)]
    ranks = sorted(grouped, key=lambda each: (order[each.group], each.rank))
    return tuple(
        each
        for _, mine in groupby(ranks, key=lambda each: each.group)
        for each in with_splits(tuple(mine))
    )


def with_splits(ranks: Sequence[RankTrace]) -> tuple[RankTrace, ...]:
    """The ranks of a group, with what of their collectives is transfer and what is waiting."""
    found = [each.collectives for each in ranks]
    if len(ranks) < 2 or not any(map(len, found)):
        return tuple(ranks)
    matched = match_collectives([each.rank for each in ranks], found)
    return tuple(
        replace(
            each,
            matched=matched,
            records=tuple(
                replace(
                    record,
                    collectives=collective_times(each.collectives, split, record.step_numbers),
                )
                for record in each.records
            ),
        )
        for each, split in zip(ranks, matched.splits, strict=True)
    )


def _groups(found: Sequence[RankTrace]) -> list[str]:
    """The group of each trace: by name where a rank has several, else by when they began."""
    if len({each.rank for each in found}) == len(found):
        return [""] * len(found)
    names = [_name_without_rank(each.path) for each in found]
    turns: Counter[tuple[str, int]] = Counter()
    turn = [0] * len(found)
    for at in sorted(range(len(found)), key=lambda at: _began(found[at])):
        turns[names[at], found[at].rank] += 1
        turn[at] = turns[names[at], found[at].rank]
    often = {name for (name, _), count in turns.items() if count > 1}
    return [
        " ".join(filter(None, (name, f"#{number}" if name in often else ""))) or "rank"
        for name, number in zip(names, turn, strict=True)
    ]


def _began(trace: RankTrace) -> tuple[str, int, str]:
    """Sorts the traces of a rank by time, as far as is known."""
    start = min((record.times.start_ns for record in trace.records), default=0)
    numbers = _CHANGING.findall(trace.path.name)
    return (numbers[0].zfill(24) if numbers else "", start, trace.path.name)


def _name_without_rank(path: Path) -> str:
    """`tp2_8b_decode` of tp2_8b_decode_rank0.json.gz; times and process ids tell nothing."""
    name = trace_stem(path.name)
    for pattern in _NAMED:
        if pattern.search(name):
            name = pattern.sub("", name, count=1)
            break
    return re.sub(r"[-_. ]{2,}", "-", _CHANGING.sub("", name)).strip("-_. ")


def _read_any(accept_damaged: bool, file: Path | str) -> RankTrace | _Stray | TraceError | str:
    """As `_read_file`, of a URL, too: whoever reads it fetches it."""
    if isinstance(file, Path):
        return _read_file(accept_damaged, file)
    with fetched(file) as path:
        return _read_file(accept_damaged, path)


def _read_file(accept_damaged: bool, path: Path) -> RankTrace | _Stray | TraceError | str:
    """The trace of one rank, or why there is none: an error, or a text where it is left out."""
    try:
        reading = read(path, accept_damaged=accept_damaged)
    except DamagedTraceError as error:
        return error
    except TraceError as error:
        return error.english
    if reading.is_empty:
        return f"{path}: holds no events of a trace"
    if reading.processes or _MERGED.match(path.name):
        return _Stray(path, _no_rank(path, "holds several ranks"), _ranks_in(path, reading))
    rank = _rank(path, reading.info)
    if rank is None:
        return _Stray(
            path, _no_rank(path, "says its rank neither in distributedInfo nor in its name")
        )
    return _rank_trace(path, rank, reading, records_of(reading, rank))


def _rank_trace(
    path: Path, rank: int, reading: Reading, records: tuple[TimingRecord, ...]
) -> RankTrace:
    world_size, found = reading.info.world_size, reading.collectives
    return RankTrace(path, rank, world_size, reading.totals, records, collectives=found)


def _ranks_in(path: Path, reading: Reading) -> tuple[RankTrace, ...]:
    """The ranks of a file with several processes; none where they do not say which they are."""
    ranks: dict[int, RankTrace] = {}
    records = records_of(reading)
    for name, each in reading.processes:
        mine = tuple(record for record in records if record.facts.process == name)
        if each.info.rank is None or each.info.rank in ranks:
            return ()
        ranks[each.info.rank] = _rank_trace(path, each.info.rank, each, mine)
    return tuple(ranks[rank] for rank in sorted(ranks))


def _rank(path: Path, info: TraceInfo) -> int | None:
    if info.rank is not None:
        return info.rank
    matches = (pattern.search(path.name) for pattern in _NAMED)
    return next((int(match[1]) for match in matches if match), None)


def _no_rank(path: Path, what: str) -> TraceError:
    return TraceError(str(path), what, "name it such as rank3.json.gz, or give one trace file")
