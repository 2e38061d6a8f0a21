"""The events of one raw Kineto file: their text, and the few fields that rules ask for.

The text of an event is what is written on, byte for byte, unless a rule changes it: a number that
went through a float is no longer the number that was recorded.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from qwen3_profile.errors import DamagedTraceError, TraceError

EVENTS_KEY = "traceEvents"
BASE_KEY = "baseTimeNanoseconds"

# Times since the epoch are above this, those since baseTimeNanoseconds at most 7.9e12.
_EPOCH_US = Decimal(10) ** 14

# A string whole, or one of the constants that are no JSON, as C and Python print them.
_STRING_OR_CONSTANT = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+]?\b(?:NaN|nan|Infinity|inf)\b', re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f]")


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
    data = _read_bytes(path)
    try:
        return _parse(path, data)
    except (msgspec.DecodeError, UnicodeDecodeError) as first:
        try:
            return _parse(path, _repaired(data))
        except msgspec.ValidationError as error:
            raise TraceError(str(path), f"is not a Kineto trace: {error}") from error
        except msgspec.DecodeError:
            raise DamagedTraceError(str(path), f"is cut off or broken: {first}") from first


def _parse(path: Path, data: bytes) -> RawFile:
    data.decode()  # msgspec does not look into the strings that it skips
    header = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
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


def _repaired(data: bytes) -> bytes:
    """`data` with what Kineto sometimes writes and JSON forbids made lawful; times are not touched.

    NaN and infinities become null, raw control characters \\u escapes, and bytes that are no
    UTF-8 the replacement character.
    """

    def lawful(match: re.Match[bytes]) -> bytes:
        found = match[0]
        if found[:1] != b'"':
            return b"null"
        return _CONTROL.sub(lambda control: b"\\u%04x" % control[0][0], found)

    return _STRING_OR_CONSTANT.sub(lawful, data.decode(errors="replace").encode())


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedTraceError(str(path), f"is cut off or not whole gzip: {error}") from error
    except OSError as error:
        raise TraceError(str(path), f"cannot be read: {error.strerror or error}") from error
