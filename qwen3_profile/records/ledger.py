"""One trace in, its ledger out: every nanosecond of device time in one row, or with its reason.

Works on any Kineto trace. Scopes are the trace's own: `labels` are record_function ranges,
`modules` the `nn.Module: X_n` ranges of a profiler that recorded stacks, `both` nests the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qwen3_profile.attribution.attribute import Reason
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.scopes import Step, build_scopes, find_steps
from qwen3_profile.attribution.selection import select, select_framework
from qwen3_profile.passes.windows import is_long, map_windows
from qwen3_profile.records.account import Account, add_accounts, all_roots, make_account
from qwen3_profile.trace import Recording, TraceInfo
from qwen3_profile.trace.columns import Trace

if TYPE_CHECKING:
    from qwen3_profile.passes.cuda_graphs.assign import Relabel

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Row:
    """What belongs to one path of scope names. Times in ns; all but the self ones with children.

    graph_events: of `device_events`, those that were launched as part of a graph.
    """

    path: tuple[str, ...]
    calls: int
    cpu_ns: int
    cpu_self_ns: int
    device_ns: int
    device_self_ns: int
    device_events: int
    graph_events: int
    gap_ns: int
    launch_ns: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Device time that belongs to no scope."""

    reason: str
    ns: int
    events: int


@dataclass(frozen=True, slots=True)
class Busy:
    """The union of the device intervals of one device."""

    device: str
    ns: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The whole account of a trace.

    versions: of CUDA or HIP, as the file has them; Kineto does not write torch's.
    rank, world_size: which process of how many wrote the trace, if it says so.
    device_time_ns is the sum of the rows' device_self_ns and of unattributed, exactly.
    device_busy_ns: the union over all devices; busy_by_device: of each one's streams.
    linked_ns, linked_events: of device events whose launch is in the trace.
    framework: rows of what frameworks wrote of themselves; their time is in `rows` or
        `unattributed` as well.
    kernels: which kernels, copies and fills the device time of rows and rest is; None where
        nobody asked.
    """

    path: str
    base_time_ns: int
    devices: tuple[str, ...]
    versions: tuple[tuple[str, int], ...]
    rank: int | None
    world_size: int | None
    scopes: str
    device_time_ns: int
    device_events: int
    device_busy_ns: int
    busy_by_device: tuple[Busy, ...]
    linked_ns: int
    linked_events: int
    unattributed: tuple[Rest, ...]
    cross_thread_events: int
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    rows: tuple[Row, ...]
    framework: tuple[Row, ...]
    kernels: tuple[KernelRow, ...] | None = None

    @property
    def balances(self) -> bool:
        """Rows and rest are the sum of all device events, to the nanosecond."""
        attributed = sum(row.device_self_ns for row in self.rows)
        return attributed + sum(rest.ns for rest in self.unattributed) == self.device_time_ns

    def to_json(self) -> dict[str, Any]:
        """The ledger as its file holds it."""
        found = asdict(self)
        if self.kernels is None:
            del found["kernels"]
        keys = ("path", "base_time_ns", "devices", "rank", "world_size")
        trace = {key: found.pop(key) for key in keys}
        trace["versions"] = dict(found.pop("versions"))
        busy = {"all": found.pop("device_busy_ns")}
        busy |= {item["device"]: item["ns"] for item in found.pop("busy_by_device")}
        return {
            "schema_version": SCHEMA_VERSION,
            "trace": {"name": trace.pop("path"), **trace},
            "device_busy_ns": busy,
            **found,
        }

    def to_bytes(self) -> bytes:
        """The text of the ledger's file, one row to a line."""
        found = self.to_json()
        lists = ("rows", "framework", "kernels")
        rows = {key: found.pop(key) for key in lists if key in found}
        head = msgspec.json.format(msgspec.json.encode(found), indent=2).removesuffix(b"\n}")
        for key, values in rows.items():
            lines = b",\n    ".join(msgspec.json.encode(value) for value in values)
            head += b',\n  "%s": [\n    %s\n  ]' % (key.encode(), lines)
        return head + b"\n}\n"


def make_ledger(
    trace: Trace,
    scopes: str = "labels",
    relabel: Relabel | None = None,
    *,
    kernels: bool = False,
) -> Ledger:
    """Accounts for every nanosecond of device time in `trace`.

    Args:
        trace: any Kineto trace.
        scopes: one of `SCOPES`.
        kernels: also which kernels it is.
        relabel: gives device events to other scopes, and tells what is to be doubted of that.
    """
    steps = find_steps(trace)
    account = _account(trace, scopes, steps, relabel, kernels=kernels)
    return _ledger(trace.info, scopes, account)


def make_long_ledger(
    recording: Recording, scopes: str = "labels", *, kernels: bool = False
) -> Ledger:
    """As `make_ledger`, of a trace that may be too long to be looked at in one piece."""
    if is_long(recording) and not kernels:
        accounts = map_windows(recording, lambda trace, steps: _account(trace, scopes, steps))
        account = add_accounts(accounts) if len(accounts) > 1 else None
        if account is not None:
            return _ledger(recording.info, scopes, account)
    return make_ledger(recording.trace(), scopes, kernels=kernels)


def _account(
    trace: Trace,
    scopes: str,
    steps: tuple[Step, ...],
    relabel: Relabel | None = None,
    *,
    kernels: bool = False,
) -> Account:
    return make_account(
        trace,
        build_scopes(trace, select(trace, scopes), name_gaps=False),
        build_scopes(trace, select_framework(trace), name_gaps=False),
        steps,
        relabel,
        kernels=kernels,
    )


def _ledger(info: TraceInfo, scopes: str, account: Account) -> Ledger:
    return Ledger(
        path=info.path,
        base_time_ns=info.base_time_ns,
        devices=info.devices,
        versions=info.versions,
        rank=info.rank,
        world_size=info.world_size,
        scopes=scopes,
        device_time_ns=account.device_ns,
        device_events=account.device_events,
        device_busy_ns=account.device_busy_ns,
        busy_by_device=tuple(Busy(name, ns) for (_, name), ns in account.busy_ns.items()),
        linked_ns=account.linked_ns,
        linked_events=account.linked_events,
        unattributed=tuple(
            Rest(reason.text, *account.unattributed[reason])
            for reason in Reason
            if reason in account.unattributed
        ),
        cross_thread_events=account.cross_thread_events,
        findings=account.findings,
        steps=account.steps,
        rows=tuple(_rows(account.roots)),
        framework=tuple(_rows(account.framework)),
        kernels=account.kernels,
    )


def _rows(roots: dict[int, tuple[Part, ...]]) -> Iterator[Row]:
    for root in all_roots(roots):
        for path, part in root.walk():
            yield _row(path, part)


def _row(path: tuple[str, ...], part: Part) -> Row:
    total = part.total
    return Row(
        path=path,
        calls=total.calls,
        cpu_ns=total.cpu_ns,
        cpu_self_ns=part.own.cpu_ns,
        device_ns=total.device_ns,
        device_self_ns=part.own.device_ns,
        device_events=total.device_events,
        graph_events=total.graph_events,
        gap_ns=total.gap_ns,
        launch_ns=total.launch_ns,
    )
