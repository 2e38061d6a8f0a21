"""The rules by which raw Kineto files become the events of one trace that both viewers show whole.

torch-tb-profiler 0.4.3, the last release, was made for the traces of 2022, and Perfetto drops
ranges that overlap. So, and only so, an event differs from the raw file's:

- Calls: `cuda_runtime` and `cuda_driver` become `runtime`, the only name that the dashboard knows,
  and name the op they were made by in `External id`; without both it shows no device time.
- Labels of ours become `cpu_op`; as `user_annotation` the Operator view leaves them out.
- Modules: each label has a twin on a track of its own, `nn.Module: layer.0.attn`, of which the
  Module view is made.
- Steps: the device's `ProfilerStep#1` becomes `gpu ProfilerStep#1`, else it counts as a step too.
- Times since the epoch are rebased, exactly; floats of today's epoch time are 0.25 us apart. So
  are those of a file that counts from another base than the first.
- Python frames, in a trace with stacks, are left out where they cut across another range.
- Device events go to a second track where they cut across another one of their stream.
- Sessions: ids that two files share for different things are shifted in the later file, what they
  say of processes and threads is written once, and each session's span gets a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from qwen3_profile import labels
from qwen3_profile.errors import TraceError
from qwen3_profile.views.tensorboard.nesting import (
    LAUNCH_CATEGORIES,
    LAUNCH_FLOW,
    ModuleTree,
    Nesting,
    nest,
)
from qwen3_profile.views.tensorboard.raw_events import RawEvent, RawFile
from qwen3_profile.views.tensorboard.tracks import (
    lane_tid,
    lane_track,
    module_pid,
    module_track,
    once,
)

_SESSION = "PyTorch Profiler"


@dataclass(slots=True)
class _Ids:
    """The ids of one kind that are taken, over all files so far."""

    taken: set[int] = field(default_factory=set)

    def claim(self, ids: set[int]) -> int:
        """Takes `ids`, shifted where one of them is taken already, and returns the shift."""
        clash = not self.taken.isdisjoint(ids)
        shift = max(self.taken) + 1 - min(ids) if clash else 0
        self.taken.update(number + shift for number in ids)
        return shift


@dataclass(frozen=True, slots=True)
class _Shifts:
    """What is added to the ids and the times of one file."""

    correlation: int
    external: int
    python: int
    flow: dict[str, int]
    time_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Normalised:
    """base_time_ns: what all times count from, or 0 where no file says. events: JSON texts."""

    base_time_ns: int
    events: Iterator[bytes]


def normalise(files: Sequence[RawFile]) -> Normalised:
    """The events of `files`, one session each, as those of one trace.

    Raises:
        TraceError: there is no event, the files cannot be laid on one time line, or (while the
            events are read) labels of one thread overlap without lying in each other.
    """
    base = _common_base(files)
    correlations, externals, pythons, flows = _Ids(), _Ids(), _Ids(), dict[str, _Ids]()
    shifts = [
        _Shifts(
            correlations.claim(_correlations(raw.events)),
            externals.claim({e.args.external_id for e in raw.events if e.args.external_id}),
            pythons.claim({e.args.python_id for e in raw.events if e.args.python_id}),
            _claim_flows(raw.events, flows),
            raw.base_time_ns - base,
        )
        for raw in files
    ]
    tree = ModuleTree(max(pythons.taken, default=0) + 1)
    return Normalised(base, _all_events(files, shifts, tree))


def _common_base(files: Sequence[RawFile]) -> int:
    """The earliest time, in ns since the epoch, that a file counts from or starts at."""
    for raw in files:
        if not any(event.ph == "X" and event.ts is not None for event in raw.events):
            raise TraceError(str(raw.path), "holds no event", "profile at least one forward pass")
    bases = [raw.base_time_ns + (raw.first_ns if raw.is_absolute else 0) for raw in files]
    if min(bases) == 0 < max(bases):
        where = str(files[bases.index(0)].path)
        raise TraceError(where, "does not say what its times count from, and others do")
    return min(bases)


def _correlations(events: Iterable[RawEvent]) -> set[int]:
    found = {e.args.correlation for e in events if e.args.correlation}
    found.update(e.id for e in events if e.cat == LAUNCH_FLOW and isinstance(e.id, int))
    return found


def _claim_flows(events: Iterable[RawEvent], flows: dict[str, _Ids]) -> dict[str, int]:
    """The shift of each other kind of arrow, by its category."""
    ids: dict[str, set[int]] = {}
    for event in events:
        if isinstance(event.id, int) and event.cat != LAUNCH_FLOW:
            ids.setdefault(event.cat, set()).add(event.id)
    return {cat: flows.setdefault(cat, _Ids()).claim(found) for cat, found in ids.items()}


def _all_events(
    files: Sequence[RawFile], shifts: Sequence[_Shifts], tree: ModuleTree
) -> Iterator[bytes]:
    said: set[bytes] = set()
    for number, (raw, shift) in enumerate(zip(files, shifts, strict=True), 1):
        session = f"{_SESSION} ({number})" if len(files) > 1 else None
        yield from _Writer(raw, shift, nest(raw, tree), session).events(said)


class _Writer:
    """Writes the events of one file."""

    def __init__(self, raw: RawFile, shifts: _Shifts, nesting: Nesting, session: str | None):
        self._raw = raw
        self._shifts = shifts
        self._nesting = nesting
        self._session = session
        self._shifted = any((shifts.correlation, shifts.external, shifts.python, shifts.time_ns))
        self._shifted |= any(shifts.flow.values())
        self._external = self._external_ids()
        # Labels that called the runtime themselves, not through an op.
        self._callers = set(nesting.op.values()) & set(nesting.place)

    def events(self, said: set[bytes]) -> Iterator[bytes]:
        """The texts; `said` holds the metadata written so far, over all files."""
        for index, (event, text) in enumerate(zip(self._raw.events, self._raw.texts, strict=True)):
            if event.ph == "M":
                yield from once(text, said)
            elif index in self._nesting.place:
                yield from self._label_and_module(index, event, text, said)
            elif index not in self._nesting.cut:
                yield from lane_track(event, self._nesting.lane.get(index, 0), said)
                yield self._text(index, event, text)

    def _external_ids(self) -> dict[int, int]:
        """Correlation id -> External id that its call and its device events shall have.

        Where an op has no id, or no op made the call, it is 0: the dashboard hangs such calls on
        the root, but those without any id on the first module it meets.
        """
        found: dict[int, int] = {}
        for call, op in self._nesting.op.items():
            correlation = self._raw.events[call].args.correlation
            if correlation:
                external = None if op is None else self._raw.events[op].args.external_id
                found[correlation] = external or 0
        return found

    def _text(self, index: int, event: RawEvent, text: msgspec.Raw) -> bytes:
        top: dict[str, Any] = {}
        args: dict[str, int] = {}
        if index in self._nesting.lane:
            top["tid"] = lane_tid(event, self._nesting.lane[index])
        if event.cat in LAUNCH_CATEGORIES:
            if event.cat != "runtime":
                top["cat"] = "runtime"
            op = self._nesting.op.get(index)
            external = None if op is None else self._raw.events[op].args.external_id
            args["External id"] = external or 0
        elif event.args.correlation in self._external:
            args["External id"] = self._external[event.args.correlation]
        elif event.cat == "gpu_user_annotation" and event.name.startswith(labels.STEP_PREFIX):
            top["name"] = f"gpu {event.name}"
        elif self._session and event.cat == "Trace" and event.name == f"{_SESSION} (0)":
            top["name"] = self._session
        if args.get("External id") == event.args.external_id:
            args.clear()
        return self._rewritten(event, text, top, args)

    def _label_and_module(
        self, index: int, event: RawEvent, text: msgspec.Raw, said: set[bytes]
    ) -> Iterator[bytes]:
        """A label and its twin: of two equal ranges, the dashboard puts the first outside.

        The label goes outside, so that the module's own host time is what its parts leave. But
        what the label itself launched hangs on the label, and has to lie in the module then.
        (No such remedy for its own device time: its parts are ops, and those count as its own.)
        """
        top = {} if event.cat == "cpu_op" else {"cat": "cpu_op"}
        label = self._rewritten(event, text, top, {})
        yield from module_track(event, said)
        pair = (label, self._module(index, event, label))
        yield from reversed(pair) if index in self._callers else pair

    def _module(self, index: int, event: RawEvent, label: bytes) -> bytes:
        place = self._nesting.place[index]
        fields = msgspec.json.decode(label, type=dict[str, msgspec.Raw])
        args = {"Python id": place.id, "Python module id": place.id}
        if place.parent is not None:
            args["Python parent id"] = place.parent
        return msgspec.json.encode(
            {
                "ph": "X",
                "cat": "python_function",
                "name": f"nn.Module: {event.name}",
                "pid": module_pid(event),
                "tid": event.tid,
                "ts": fields["ts"],
                "dur": fields["dur"],
                "args": args,
            }
        )

    def _rewritten(
        self, event: RawEvent, text: msgspec.Raw, top: dict[str, Any], args: dict[str, int]
    ) -> bytes:
        """`text` with the changes `top` and `args`, and with the file's shifts."""
        if self._shifted:
            self._shift(event, top, args)
        if not top and not args:
            return bytes(text)
        fields: dict[str, Any] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        fields.update(top)
        if args:
            old = fields.get("args")
            known: dict[str, Any] = {}
            if old is not None:
                known = msgspec.json.decode(old, type=dict[str, msgspec.Raw])
            fields["args"] = {**known, **args}
        return msgspec.json.encode(fields)

    def _shift(self, event: RawEvent, top: dict[str, Any], args: dict[str, int]) -> None:
        shifts, now = self._shifts, event.args
        if shifts.time_ns and event.ts is not None:
            top["ts"] = msgspec.Raw(format(event.ts + Decimal(shifts.time_ns) / 1000, "f").encode())
        if isinstance(event.id, int):
            is_launch = event.cat == LAUNCH_FLOW
            flow = shifts.correlation if is_launch else shifts.flow.get(event.cat, 0)
            if flow:
                top["id"] = event.id + flow
        for key, value, shift in (
            ("correlation", now.correlation, shifts.correlation),
            ("External id", args.get("External id", now.external_id), shifts.external),
            ("Python id", now.python_id, shifts.python),
            ("Python parent id", now.python_parent_id, shifts.python),
        ):
            if value and shift:  # 0 stands for "none"
                args[key] = value + shift
