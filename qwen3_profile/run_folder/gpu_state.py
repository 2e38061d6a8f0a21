"""What the driver tells of a GPU after a run: was its clock held back, and who else is there."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_profile.run_folder.bounds import Amount, Index, Size


@dataclass(frozen=True, slots=True)
class GpuState:
    """Right after the passes of one run; None of what NVML does not tell.

    power_mw, power_limit_mw: what the card draws, and may draw, in milliwatts.
    throttled: why the driver holds the clock back, in words; empty where it does not.
    others: how many processes besides this one have the device open.
    """

    run_index: Index
    temperature_c: Size | None = None
    power_mw: Amount | None = None
    power_limit_mw: Amount | None = None
    throttled: tuple[str, ...] = ()
    others: Size | None = None
