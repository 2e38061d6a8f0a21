"""The collectives of a record, summed by label, kind and size: transfer, waiting, bandwidth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen3_profile.attribution.collective_times import Collectives, kind_of
from qwen3_profile.attribution.message_sizes import LATENCY_BYTES, array_bytes, bus_factor
from qwen3_profile.records.matched_collectives import SplitCollectives
from qwen3_profile.trace.columns import Int64

_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class CollectiveTimes:
    """The collectives of one label, kind and size in a record, all of its passes together.

    label: who issued them; "" of none. bytes: the whole array of one; None where it is not told.
    group_size: of how many ranks; 0 where it is not told.
    ns: their time. overlapped_ns: of that while another kernel ran.
    transfer_ns: what the fastest rank needed for the same ones, an upper bound of the transfer;
        waiting_ns: the rest. None where they could not be told apart.
    typical_ns: the median transfer of one; a first one may have had to wake a link.
    """

    label: str
    kind: str
    count: int
    bytes: int | None
    group_size: int
    ns: int
    overlapped_ns: int
    transfer_ns: int | None
    waiting_ns: int | None
    typical_ns: float | None

    @property
    def exposed_ns(self) -> int:
        """While nothing else ran."""
        return self.ns - self.overlapped_ns

    @property
    def algorithm_bytes_per_s(self) -> float | None:
        """The algorithm bandwidth, by the median transfer; None of sizes that are mere latency."""
        if self.bytes is None or self.bytes < LATENCY_BYTES or not self.typical_ns:
            return None
        return self.bytes * _NS_PER_S / self.typical_ns

    @property
    def bus_bytes_per_s(self) -> float | None:
        """The bus bandwidth."""
        factor, rate = bus_factor(self.kind, self.group_size), self.algorithm_bytes_per_s
        return None if factor is None or rate is None else factor * rate


def collective_times(
    found: Collectives, split: SplitCollectives, steps: Collection[int]
) -> tuple[CollectiveTimes, ...]:
    """The collectives of the steps of these numbers, those of a label, kind and size together.

    What could not be told apart has rows of its own.
    """
    inside = np.isin(found.step, list(steps))
    sizes = [(kind_of(m.collective), array_bytes(m), m.group_size) for m in found.messages]
    rows: dict[tuple[int, bool, str, int | None, int], list[int]] = {}
    for at in np.flatnonzero(inside).tolist():
        known = bool(split.is_split[at])
        rows.setdefault((int(found.label[at]), known, *sizes[found.message[at]]), []).append(at)
    return tuple(
        _row(found, split, found.labels[label], size, np.array(places, np.int64))
        for (label, _, *size), places in rows.items()
    )


def _row(
    found: Collectives, split: SplitCollectives, label: str, size: Sequence[Any], places: Int64
) -> CollectiveTimes:
    kind, size_bytes, group_size = size
    ns = int(found.dur_ns[places].sum())
    known = bool(split.is_split[places].all())
    transfers_ns = split.transfer_ns[places]
    transfer_ns = int(transfers_ns.sum())
    return CollectiveTimes(
        label=label,
        kind=kind,
        count=len(places),
        bytes=size_bytes,
        group_size=group_size,
        ns=ns,
        overlapped_ns=int(found.overlapped_ns[places].sum()),
        transfer_ns=transfer_ns if known else None,
        waiting_ns=ns - transfer_ns if known else None,
        typical_ns=float(np.median(transfers_ns)) if known else None,
    )
