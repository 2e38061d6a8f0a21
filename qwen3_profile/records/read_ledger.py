"""Reads a ledger back: as the record of one pass, which is the whole trace with its ranges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.attribution.parts import NO_PART, NO_TIMES, Part, PartSums, Times, sum_times
from qwen3_profile.errors import TraceError
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.passes.pass_times import PassTimes, Unattributed
from qwen3_profile.records.ledger import SCHEMA_VERSION
from qwen3_profile.records.record import RunFacts, TimingRecord, record_of

Kernels = tuple[KernelRow, ...]


def is_ledger(head: bytes) -> bool:
    """Whether a file that begins so is a ledger of ours."""
    return head.lstrip()[:1] == b"{" and b'"schema_version"' in head and b'"scopes"' in head


def read_ledger(path: Path, text: bytes) -> tuple[TimingRecord, Kernels]:
    """The ledger as a record, and its kernels: none where they were not asked for.

    Raises:
        TraceError: it is none of ours, or of a newer version.
    """
    try:
        return _read(path, msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(str(path), f"is not a ledger: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"is not a ledger of ours: {type(error).__name__} {error}"
        raise TraceError(str(path), what, "write it again with export --ledger") from error


def ledger_of_trace(path: Path, *, accept: bool = False) -> tuple[TimingRecord, Kernels]:
    """The same of a trace whose ledger nobody has written."""
    from qwen3_profile.attribution.findings import refuse_damage
    from qwen3_profile.attribution.selection import read_asked_for
    from qwen3_profile.records.ledger import make_long_ledger

    ledger = make_long_ledger(read_asked_for(path, accept_damaged=accept), kernels=True)
    if not accept:
        refuse_damage(ledger.info.path, ledger.findings)
    return read_ledger(path, ledger.to_bytes())


def _read(path: Path, found: Mapping[str, Any]) -> tuple[TimingRecord, Kernels]:
    if found["schema_version"] > SCHEMA_VERSION:
        newer = f"was written by a newer qwen3_profile (schema {found['schema_version']})"
        raise TraceError(str(path), newer, "upgrade qwen3_profile")
    trace = found["trace"]
    times = PassTimes(
        number=0,
        start_ns=0,
        forward=_tree(found["rows"]),
        device_ns=found["device_time_ns"],
        device_events=found["device_events"],
        busy_ns=found["device_busy_ns"]["all"],
        idle=IdleTimes(**found["idle_ns"]),
        unattributed=tuple(Unattributed(**item) for item in found["unattributed"]),
        cross_thread_ns=found["cross_thread_ns"],
        cross_thread_events=found["cross_thread_events"],
    )
    name = Path(trace["name"]).name
    facts = RunFacts(run=name, trace=name, device=", ".join(dict.fromkeys(trace["devices"])))
    findings = tuple(msgspec.convert(found["findings"], list[Finding]))
    unique = f"ledger {name}@{trace['base_time_ns']}"
    kernels = tuple(_kernel(row) for row in found.get("kernels", ()))
    return record_of(unique, 0, 0, times, findings, facts), kernels


def _kernel(row: Mapping[str, Any]) -> KernelRow:
    path = (WHOLE_TRACE, *row["path"]) if row["path"] else ()
    return KernelRow(path, row["reason"], row["name"], row["events"], row["device_ns"])


def _tree(rows: list[dict[str, Any]]) -> Part:
    """The ranges as they are nested, all in one part."""
    tops = (_total(row) for row in rows if len(row["path"]) == 1)
    tree = PartSums()
    places: dict[tuple[str, ...], int] = {
        (): tree.add_row(NO_PART, WHOLE_TRACE, (*sum_times(tops), *NO_TIMES))
    }
    for row in rows:  # what lies in a range comes behind it
        *above, name = row["path"]
        times = (*_total(row), *_own(row))
        places[(*above, name)] = tree.add_row(places[tuple(above)], name, times)
    return tree.root()


def _total(row: Mapping[str, Any]) -> Times:
    names = (name for name in Times._fields if name in row)
    return Times(**{name: row[name] for name in names})


def _own(row: Mapping[str, Any]) -> Times:
    return Times(cpu_ns=row["cpu_self_ns"], device_ns=row["device_self_ns"])
