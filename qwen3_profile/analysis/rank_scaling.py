"""The same work on 1, 2, ... ranks: speed-up, and what the time that was not saved goes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from qwen3_profile.analysis.median_pass import is_on_device, median_bare_ns
from qwen3_profile.config import SHARED, RunConfig
from qwen3_profile.records.record import TimingRecord


@dataclass(frozen=True, slots=True)
class RankTimes:
    """One pass, by what it goes to; means over the passes of all ranks, in ns.

    compute: of device events that are no collectives; on the CPU all that is no collective.
    transfer, waiting: of collectives, the first an upper bound. idle: of the device.
    """

    compute_ns: float
    transfer_ns: float
    waiting_ns: float
    idle_ns: float

    @property
    def ns(self) -> float:
        return self.compute_ns + self.transfer_ns + self.waiting_ns + self.idle_ns


@dataclass(frozen=True, slots=True)
class ScalingRow:
    """The runs on so many ranks.

    bare_ns: the median pass, of the slowest rank. times: where a pass goes.
    speed_up: against the fewest ranks; efficiency: that by how many times as many there are.
    loss_ns: by how much longer a pass takes than it would at an efficiency of 1. Of that goes to
        transfer and waiting what the fewer ranks did not have; to compute and idle what did not
        shrink with the number of ranks; rest_ns: what the traced passes do not show.
    """

    ranks: int
    bare_ns: float
    times: RankTimes
    speed_up: float
    efficiency: float
    loss_ns: float
    lost: RankTimes
    rest_ns: float


@dataclass(frozen=True, slots=True)
class RankScaling:
    """One model, config and phase, the fewest ranks first.

    name: of the model. parallel: how ranks shared it.
    """

    name: str
    parallel: str
    config: RunConfig
    phase: str
    on_device: bool
    rows: tuple[ScalingRow, ...]


def rank_scaling(records: Iterable[TimingRecord]) -> tuple[RankScaling, ...]:
    """Of whatever ran on several numbers of ranks, one model shared by them."""
    groups: dict[tuple[str, int, RunConfig, str, str], list[TimingRecord]] = {}
    for record in records:
        model, config, parallel = record.facts.model, record.config, record.facts.parallel
        if model is None or config is None or not record.total_ns:
            continue
        same = replace(config, num_runs=1, warmup_runs=0)
        # A process that is alone stands before each way to share the model.
        for way in SHARED:
            if parallel in (None, way):
                key = (model.name, model.num_layers, same, record.phase, way)
                groups.setdefault(key, []).append(record)
    found = (_scaling(name, way, mine) for (name, *_, way), mine in groups.items())
    return tuple(each for each in found if len(each.rows) > 1)


def _scaling(name: str, parallel: str, records: Sequence[TimingRecord]) -> RankScaling:
    by_count: dict[int, list[TimingRecord]] = {}
    for record in records:
        by_count.setdefault(record.facts.world_size or 1, []).append(record)
    counts = sorted(by_count)
    fewest = counts[0]
    base_ns, base = median_bare_ns(by_count[fewest]), times_of(by_count[fewest])
    rows = tuple(_row(count / fewest, count, by_count[count], base_ns, base) for count in counts)
    config = records[0].config or RunConfig()
    return RankScaling(name, parallel, config, records[0].phase, is_on_device(records), rows)


def _row(
    times_as_many: float,
    count: int,
    records: Sequence[TimingRecord],
    base_ns: float,
    base: RankTimes,
) -> ScalingRow:
    bare_ns, times = median_bare_ns(records), times_of(records)
    loss_ns = bare_ns - base_ns / times_as_many
    lost = RankTimes(
        compute_ns=times.compute_ns - base.compute_ns / times_as_many,
        transfer_ns=times.transfer_ns - base.transfer_ns / times_as_many,
        waiting_ns=times.waiting_ns - base.waiting_ns / times_as_many,
        idle_ns=times.idle_ns - base.idle_ns / times_as_many,
    )
    speed_up = base_ns / bare_ns
    return ScalingRow(
        count, bare_ns, times, speed_up, speed_up / times_as_many, loss_ns, lost, loss_ns - lost.ns
    )


def times_of(records: Sequence[TimingRecord]) -> RankTimes:
    """Where a pass goes, as the mean over these records."""
    each = [_times(record) for record in records]
    names = ("compute_ns", "transfer_ns", "waiting_ns", "idle_ns")
    return RankTimes(*(sum(getattr(one, name) for one in each) / len(each) for name in names))


def _times(record: TimingRecord) -> RankTimes:
    times, steps = record.times, record.steps
    exposed_ns = sum(each.exposed_ns for each in record.collectives)
    waiting_ns = sum(each.waiting_ns or 0 for each in record.collectives)
    # What is overlapped is no time of its own.
    waiting_ns = min(waiting_ns, exposed_ns)
    if times.device_events:
        span_ns, idle_ns = times.busy_ns, times.gap_ns
    else:
        span_ns, idle_ns = times.forward.total.cpu_ns, 0
    compute_ns = span_ns - exposed_ns
    transfer_ns = exposed_ns - waiting_ns
    return RankTimes(*(ns / steps for ns in (compute_ns, transfer_ns, waiting_ns, idle_ns)))
