"""Passes in which parts are bound by what they are meant to be bound by."""

from __future__ import annotations

from dataclasses import replace

from make.samples import CEILINGS, record
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.parts import Part, Times, make_part
from qwen3_profile.records.flops import Flops
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic

US = 1000
# A part of one layer: time in us, kernels, FLOPs, bytes. CEILINGS are 100 FLOPs and 10 bytes in a
# ns, and 1.5 us for the shortest kernel.
Work = tuple[int, int, int, int | None]
MEMORY: Work = (100, 1, 0, 800_000)
PRODUCT: Work = (100, 1, 9_000_000, 100)
SHORT: Work = (100, 50, 0, 10_000)
SLOW: Work = (100, 1, 0, 10_000)


def one(name: str, work: Work) -> Part:
    us, kernels, _, _ = work
    times = Times(calls=1, cpu_ns=us * US, device_ns=us * US, device_events=kernels)
    return make_part(name, times, times)


def bounded(
    works: dict[str, Work],
    *,
    wall_us: int | None = None,
    idle: IdleTimes | None = None,
    on_device: bool = True,
    communication_us: int = 0,
) -> TimingRecord:
    """A pass in which the device works on `works`, one after the other, and idles otherwise."""
    parts = [one(name, work) for name, work in works.items()]
    if wall_us is None:
        wall_us = sum(work[0] for work in works.values())
    busy_ns = sum(work[0] for work in works.values()) * US
    events = sum(work[1] for work in works.values())
    total = Times(calls=1, cpu_ns=wall_us * US, device_ns=busy_ns, device_events=events)
    forward = make_part("prefill", total, Times(), parts)
    if not on_device:
        forward = make_part("prefill", Times(calls=1, cpu_ns=wall_us * US), Times(), [
            make_part(p.name, p.total._replace(device_ns=0, device_events=0),
                      p.own._replace(device_ns=0, device_events=0)) for p in parts
        ])  # fmt: skip
    times = replace(
        record().times,
        forward=forward,
        device_ns=busy_ns if on_device else 0,
        device_events=events if on_device else 0,
        busy_ns=busy_ns if on_device else 0,
        idle=idle or IdleTimes(),
        communication=(("nccl", communication_us * US),) if communication_us else (),
        traffic=Traffic({name: Moved(work[1], work[3]) for name, work in works.items()}),
    )
    return replace(
        record(),
        times=times,
        facts=replace(record().facts, ceilings=CEILINGS),
        flops=Flops({name: work[2] for name, work in works.items() if work[2]}),
        total_ns=float(wall_us * US),
    )
