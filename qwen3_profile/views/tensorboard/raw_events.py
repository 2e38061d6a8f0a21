"""The events of one raw Kineto file: their text, and the few fields that rules ask for.

The text of an event is what is written on, byte for byte, unless a rule changes it: a number that
went through a float is no longer the number that was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.trace.mending import repaired
from qwen3_profile.trace.text import read_text

EVENTS_KEY = "traceEvents"
BASE_KEY = "baseTimeNanoseconds"

# Times since the epoch are above this, those since baseTimeNanoseconds at most 7.9e12.
_EPOCH_US = Decimal(10) ** 14


class RawArgs(msgspec.Struct, frozen=True, gc=False):
    """The arguments of an event that link it to others."""

    external_id: int | None = msgspec.field(name="External id", default=None)
    correlation: int | None = None
    python_id: int | None = msgspec.field(name="Python id", default=None)
    python_parent_id: int | None = msgspec.field(name="Python parent id", default=None)


NO_ARGS = RawArgs()


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """One event; `ts` and `dur` are exact microseconds."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: Decimal | None = None
    dur: Decimal | None = None
    id: int | str | None = None
    args: RawArgs = NO_ARGS

    @property
    def start(self) -> Decimal:
        """Microseconds since the file's base."""
        return self.ts or Decimal(0)

    @property
    def end(self) -> Decimal:
        """Microseconds since the file's base."""
        return self.start + (self.dur or 0)


@dataclass(frozen=True, slots=True, eq=False)
class RawFile:
    """One file: `events[i]` was read from `texts[i]`, in the file's order.

    header: the text of every other key of the file.
    base_time_ns: what the file's times count from; 0 for the epoch.
    """

    path: Path
    header: dict[str, msgspec.Raw]
    base_time_ns: int
    events: list[RawEvent]
    texts: list[msgspec.Raw]

    @property
    def is_absolute(self) -> bool:
        """Whether its times count from the epoch, as torch wrote them until 2.3."""
        return any(event.ts is not None and event.ts > _EPOCH_US for event in self.events)

    @property
    def first_ns(self) -> int:
        """The whole nanosecond, since the base, at or before its first event."""
        return int(min(event.ts for event in self.events if event.ts is not None) * 1000)


def read_raw(path: Path) -> RawFile:
    """Reads a Kineto trace, `.json` or `.json.gz`.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
        DamagedTraceError: its text is cut off or broken.
    """
    text = read_text(path)
    try:
        return _parse(path, text)
    except (msgspec.DecodeError, UnicodeDecodeError) as first:
        try:
            return _parse(path, repaired(text))
        except msgspec.ValidationError as error:
            raise TraceError(str(path), f"is not a Kineto trace: {error}") from error
        except msgspec.DecodeError:
            raise DamagedTraceError(str(path), f"is cut off or broken: {first}") from first


def _parse(path: Path, text: bytes) -> RawFile:
    text.decode()  # msgspec does not look into the strings that it skips
    header = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    body = header.pop(EVENTS_KEY, None)
    if body is None:
        raise TraceError(str(path), f"has no {EVENTS_KEY!r}", "give a trace of torch.profiler")
    base = header.pop(BASE_KEY, None)
    return RawFile(
        path=path,
        header=header,
        base_time_ns=0 if base is None else msgspec.json.decode(base, type=int),
        events=msgspec.json.decode(body, type=list[RawEvent]),
        texts=msgspec.json.decode(body, type=list[msgspec.Raw]),
    )
