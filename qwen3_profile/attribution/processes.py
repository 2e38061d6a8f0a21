"""A file that holds the events of several processes, as scripts merge them: each by itself.

Correlation ids, threads and passes are those of a process. Whose a host event is, its pid says:

    "pid": "[TP00] 4711"    SGLang's merged files name the rank in front, of devices too
    "pid": "rank 1"         so do others
    "pid": 4711             or pids differ; a device event is then of the process that launched it
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.findings import DAMAGE, NOTE, Finding
from qwen3_profile.trace.columns import (
    NO_CORRELATION,
    Bool,
    Category,
    Events,
    Int64,
    Trace,
    Track,
    occurring,
    which,
)

_TAG = re.compile(r"\[(?:[A-Z]{2}\d+-?)+\]|rank[ _:=-]*\d+", re.IGNORECASE)
_ONE_NUMBER = re.compile(r"\[[A-Z]{2}(\d+)\]|rank[ _:=-]*(\d+)", re.IGNORECASE)
_NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """The events of one process of a file.

    name: what its pids have in common. rank: where they say it.
    """

    name: str
    rank: int | None
    trace: Trace


def may_be_several(tracks: Iterable[Track]) -> bool:
    """Whether the pids of a file's host threads and launches may be those of several processes."""
    return len({_name_of(track) for track in tracks}) > 1


def host_tracks(trace: Trace) -> list[Track]:
    """Where host events and launches lie."""
    used = {*occurring(trace.host.track).tolist(), *occurring(trace.launches.track).tolist()}
    return [trace.tracks[number] for number in sorted(used)]


def split_processes(trace: Trace) -> tuple[tuple[Process, ...], Finding | None]:
    """The processes of a file, in the order of their names, and what is to be told of that.

    Returns:
        None of them where the file is of one process, as almost all are, or where ids clash, so
        that nobody can tell which process a device event is of; then the finding is damage.
    """
    if not may_be_several(host_tracks(trace)):
        return (), None
    names = _process_names(trace)
    if len(names) < 2:
        return (), None
    number = {name: at for at, name in enumerate(names)}
    # What is of no process of these, such as a range on a thread of its own, goes to the first.
    of_track = np.array([number.get(_name_of(track), 0) for track in trace.tracks], np.int64)
    known = np.array([_name_of(track) in number for track in trace.tracks], bool)
    of_device = _device_processes(trace, of_track, known, len(names))
    clashes = int((of_device == _NOBODY).sum())
    if clashes:
        return (), _clash(trace, names, clashes)
    found = (_one(trace, name, of_track == at, of_device == at) for name, at in number.items())
    told = f"the file holds {len(names)} processes, {_listed(names)}; each has its own record"
    return tuple(found), Finding(NOTE, "several-processes", told, len(names), 0, names[0])


def _name_of(track: Track) -> str:
    """What tells the process of a pid: the rank in it, else all of it."""
    tag = _TAG.search(track.pid)
    return tag[0] if tag else track.pid


def _process_names(trace: Trace) -> list[str]:
    """Of those pids that do all that is done in the trace: host events, and launches.

    In a trace without launches those with calls of modules or labels of ours; and all with a rank.
    """
    told = which(trace.names, labels.parse)[trace.host.name]
    told = told | (trace.host.category == Category.PYTHON_FUNCTION)
    host = trace.host.track if len(trace.launches) else trace.host.track[told]
    named = [
        {_name_of(trace.tracks[number]) for number in occurring(tracks).tolist()}
        for tracks in (host, trace.launches.track)
        if len(tracks)
    ]
    tagged = {_name_of(track) for track in trace.tracks if _TAG.search(track.pid)}
    return sorted(tagged | (set.intersection(*named) if named else set()))


def _device_processes(trace: Trace, of_track: Int64, known: Bool, count: int) -> Int64:
    """int64[len(trace.device)]: the process of each device event, or -1 where it may be several."""
    device = trace.device
    found = of_track[device.track]
    asked = np.flatnonzero(~known[device.track])
    if not len(asked):
        return found
    launched = np.zeros((count, len(asked)), bool)
    of_launch = of_track[trace.launches.track]
    ids = device.correlation[asked]
    for process in range(count):
        mine = trace.launches.correlation[of_launch == process]
        launched[process] = np.isin(ids, mine) & (ids != NO_CORRELATION)
    how_many = launched.sum(axis=0)
    found[asked] = np.where(how_many == 1, launched.argmax(axis=0), _NOBODY)
    for track in occurring(device.track[asked]).tolist():
        here = np.flatnonzero(device.track[asked] == track)
        sure = np.unique(found[asked[here]][how_many[here] == 1])
        # A device that works for one process works for it alone; without any launch, for the first.
        if len(sure) == 1 or not how_many[here].any():
            found[asked[here]] = sure[0] if len(sure) else 0
    lost = asked[how_many == 0]
    found[lost] = np.maximum(found[lost], 0)
    return found


def _one(trace: Trace, name: str, tracks: Bool, device: Bool) -> Process:
    number = _ONE_NUMBER.fullmatch(name)
    rank = int(number[1] or number[2]) if number else None

    def mine(events: Events) -> Events:
        return events.take(tracks[events.track])

    # Whose the end of an arrow on a device is, nobody says.
    arrows, ours = trace.said.arrows, np.zeros(len(tracks), bool)
    ours[occurring(trace.device.track[device])] = True
    part = replace(
        trace,
        info=replace(trace.info, rank=rank, world_size=None),
        host=mine(trace.host),
        launches=mine(trace.launches),
        device=trace.device.take(device),
        gpu_annotations=mine(trace.gpu_annotations),
        autograd=trace.autograd.take(tracks[trace.autograd.track]),
        said=replace(trace.said, arrows=arrows[:, tracks[arrows[3]] & ~ours[arrows[3]]]),
        doubled=tuple(
            part for each in trace.doubled if len(part := each.take((tracks | ours)[each.track]))
        ),
    )
    return Process(name, rank, part)


def _clash(trace: Trace, names: list[str], count: int) -> Finding:
    return Finding(
        DAMAGE,
        "processes-clash",
        f"the file holds {len(names)} processes, {_listed(names)}, whose correlation ids clash: "
        f"{count} of {len(trace.device)} device events may be of several; give the trace of each "
        "process, or merge them with the rank in every pid",
        count,
        int(trace.device.dur_ns.sum()),
        names[0],
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
