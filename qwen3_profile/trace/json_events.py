"""The JSON of a trace file as typed events and header, and what can be done where it is broken."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Annotated

import msgspec

from qwen3_profile.errors import COPY_AGAIN, DamagedTraceError, TraceError

GZIP_MAGIC = b"\x1f\x8b"
# What tells a broken trace from a file that never was one.
SIGNS = (b'"traceEvents"', b'"ph"')
_LONGEST_SHOWN = 60

VERSIONS = tuple(
    f"{kind}_{part}_version" for kind in ("cuda", "hip") for part in ("runtime", "driver")
)
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Event(msgspec.Struct, gc=False):
    """One event; a time or an id stays as its text, b"" where the file has none."""

    ph: str = ""
    cat: str = ""
    name: str | None = None
    pid: msgspec.Raw = msgspec.Raw(b"")
    tid: msgspec.Raw = msgspec.Raw(b"")
    ts: msgspec.Raw = msgspec.Raw(b"")
    dur: msgspec.Raw = msgspec.Raw(b"")
    args: msgspec.Raw = msgspec.Raw(b"")
    id: msgspec.Raw = msgspec.Raw(b"")


class Device(msgspec.Struct):
    """One entry of `deviceProperties`."""

    name: str = ""


class Distributed(msgspec.Struct):
    """Which process wrote the file."""

    rank: _Int64 | None = None
    world_size: _Int64 | None = None


class Document(msgspec.Struct):
    """The file; versions as CUDA and HIP count them, such as 13000 for CUDA 13.0."""

    trace_events: list[Event] | None = msgspec.field(name="traceEvents", default=None)
    schema_version: _Int64 | None = msgspec.field(name="schemaVersion", default=None)
    base_time_ns: _Int64 = msgspec.field(name="baseTimeNanoseconds", default=0)
    devices: list[Device] = msgspec.field(name="deviceProperties", default_factory=list)
    distributed: Distributed | None = msgspec.field(name="distributedInfo", default=None)
    cuda_runtime_version: _Int64 | None = None
    cuda_driver_version: _Int64 | None = None
    hip_runtime_version: _Int64 | None = None
    hip_driver_version: _Int64 | None = None
    warnings: list[str] = msgspec.field(name="WARNING", default_factory=list)
    errors: list[str] = msgspec.field(name="ERROR", default_factory=list)
    # Fields of the header that nobody can read, not of the file.
    ignored: tuple[str, ...] = msgspec.field(name="", default=())

    @property
    def versions(self) -> tuple[tuple[str, int], ...]:
        """(key, version) of what the file names."""
        found = ((key, getattr(self, key)) for key in VERSIONS)
        return tuple((key, version) for key, version in found if version is not None)


# What msgspec raises of text that is no JSON, or not of the type.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

decode_event = msgspec.json.Decoder(Event).decode
decode_events = msgspec.json.Decoder(list[Event]).decode
_decode_document = msgspec.json.Decoder(Document).decode


def decode_document(path: Path, text: bytes, *, is_trace: bool = False) -> Document:
    """The document of a file's whole text.

    Args:
        path: names the file in errors.
        text: of the file; what is known to be good of its events may be left out.
        is_trace: whether such events were left out.

    Raises:
        TraceError: the text is that of another kind of file.
        DamagedTraceError: it was a trace, but is cut off or broken.
    """
    text = text.lstrip()
    if not text:
        raise damaged(path, "is empty")
    try:
        if text[:1] == b"[":
            return Document(trace_events=decode_events(text))
        document = _decode_document(text)
    except msgspec.ValidationError as error:
        raise TraceError(str(path), f"is not a Kineto trace: {error}") from error
    except NOT_JSON as error:
        if not is_trace and not any(sign in text[: 1 << 20] for sign in SIGNS):
            raise TraceError(
                str(path),
                f"is not a Kineto trace: {error}",
                "give a file that torch.profiler wrote",
            ) from error
        raise damaged(path, f"is cut off or not JSON: {error}") from error
    if document.trace_events is None:
        raise TraceError(
            str(path), 'holds no "traceEvents"', "give a trace that torch.profiler wrote"
        )
    return document


def damaged(path: Path, what: str) -> DamagedTraceError:
    """The error of a file whose text is not what was written."""
    return DamagedTraceError(str(path), what, COPY_AGAIN)


def shown(text: bytes | msgspec.Raw) -> str:
    """The JSON of a value, in a line."""
    found = bytes(text)[: _LONGEST_SHOWN + 1].decode(errors="replace")
    return f"{found[:_LONGEST_SHOWN]}..." if len(found) > _LONGEST_SHOWN else found or "nothing"


def inflate_some(packed: bytes) -> bytes:
    """As much of a gzip stream as can be inflated before it ends or breaks."""
    found = []
    inflater = zlib.decompressobj(wbits=31)
    for at in range(0, len(packed), 1 << 16):
        try:
            found.append(inflater.decompress(packed[at : at + (1 << 16)]))
        except zlib.error:
            break
    return b"".join(found)
