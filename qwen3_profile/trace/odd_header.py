"""The header of a trace whose fields are of other types than Kineto's.

Scripts that trim or merge traces write numbers as text, one object for a list of one, and what
they like. What means the same is taken; what does not is left out and told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

_INT64_MAX = 2**63 - 1
_WHOLE = re.compile(r"\s*([-+]?\d{1,19})(?:\.0*)?\s*")
_DOTTED = re.compile(r"\s*v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?.{0,40}")
_LONGEST_SHOWN = 40

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def mend_header(text: bytes, versions: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
    """The text with the fields of its header as Kineto writes them; and which could not be.

    Args:
        versions: the keys of those fields that are versions.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is not a JSON object.
    """
    raw = _decode(text)
    numbers = ("schemaVersion", "baseTimeNanoseconds", *versions)
    asked = (*numbers, "deviceProperties", "distributedInfo", "WARNING", "ERROR")
    header = _Header({key: _value(raw[key]) for key in asked if key in raw})
    inside = _Header(header.object("distributedInfo"), "distributedInfo.")
    found: dict[str, Any] = {
        "deviceProperties": [{"name": name} for name in header.devices()],
        "distributedInfo": {key: inside.number(key) for key in ("rank", "world_size")},
        "WARNING": header.texts("WARNING"),
        "ERROR": header.texts("ERROR"),
        **{key: header.version(key) for key in versions},
        "schemaVersion": header.number("schemaVersion"),
        "baseTimeNanoseconds": header.number("baseTimeNanoseconds") or 0,
    }
    if "traceEvents" in raw:
        found["traceEvents"] = raw["traceEvents"]
    return msgspec.json.encode(found), (*header.ignored, *inside.ignored)


def _value(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return bytes(raw)  # of no type that is known


class _Header:
    """Fields of JSON, asked for by what they should be; `ignored` tells of those that are not."""

    def __init__(self, fields: dict[str, Any], prefix: str = "") -> None:
        self._fields = fields
        self._prefix = prefix
        self.ignored: tuple[str, ...] = ()

    def _ignore(self, key: str) -> None:
        value = self._fields[key]
        text = value if isinstance(value, bytes) else msgspec.json.encode(value)
        shown = text.decode(errors="replace")
        shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
        self.ignored = (*self.ignored, f"{self._prefix}{key}: {shown}")

    def number(self, key: str) -> int | None:
        value = self._fields.get(key)
        if value is None:
            return None
        found = _number(value)
        if found is None:
            self._ignore(key)
        return found

    def version(self, key: str) -> int | None:
        """As CUDA and HIP count them: 12.4 is 12040, and 6.3.42131 is 60342131."""
        value = self._fields.get(key)
        match = _DOTTED.fullmatch(str(value)) if isinstance(value, (str, float)) else None
        if match is None or _number(value) is not None:
            return self.number(key)
        major, minor, patch = (int(part or 0) for part in match.groups())
        if key.startswith("cuda"):
            return 1000 * major + 10 * minor
        return 10_000_000 * major + 100_000 * minor + patch

    def object(self, key: str) -> dict[str, Any]:
        value = self._fields.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self._ignore(key)
        return {}

    def texts(self, key: str) -> list[str]:
        """A text, or a list of them; of anything else its JSON."""
        value = self._fields.get(key)
        if value is None:
            return []
        each = value if isinstance(value, list) else [value]
        return [text if isinstance(text, str) else _json(text) for text in each]

    def devices(self) -> Iterator[str]:
        """The names of those of a list, of one object, or of objects by their ids."""
        value = self._fields.get("deviceProperties")
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            value = list(value.values())
        for each in value if isinstance(value, list) else [value]:
            name = each.get("name", "") if isinstance(each, dict) else each
            if isinstance(name, (str, int)):
                yield str(name)
            elif each is not None:
                self._ignore("deviceProperties")
                return


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    match = _WHOLE.fullmatch(str(value))
    found = int(match[1]) if match else None
    return found if found is not None and abs(found) <= _INT64_MAX else None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
