"""What a device took to run a phase over and over, as its driver's counter of energy told."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_profile.run_folder.bounds import Amount, Size, Step, WallNs


@dataclass(frozen=True, slots=True)
class Energy:
    """A loop of bare passes of one phase, and the idle device just before it.

    passes: how many ran in the loop, which took `wall_ns`, and `energy_mj` by the counter.
    idle_mj, idle_ns: the same of the device with nothing to do, before anything was looped.
    update_ns: the counter stands still for so long, and moves at once: what the loop's energy is
        known to.
    power_limit_mw: what the card may draw; throttled, others: as of a `GpuState`, after the loop.
    """

    passes: Step
    wall_ns: WallNs
    energy_mj: Amount
    idle_ns: WallNs
    idle_mj: Amount
    update_ns: WallNs
    power_limit_mw: Amount | None = None
    throttled: tuple[str, ...] = ()
    others: Size | None = None
