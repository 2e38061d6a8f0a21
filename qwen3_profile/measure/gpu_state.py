"""Asks NVML after each run whether the GPU was held back, and whether another process is on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from qwen3_profile.measure.nvml import nvml_of
from qwen3_profile.run_folder.gpu_state import GpuState

# Bits of nvmlClocksEventReasons, of nvml.h. That the card idles, or that somebody set its clock, is
# no throttling.
_REASONS = {
    0x04: "the power limit",
    0x08: "a hardware slowdown",
    0x20: "the temperature",
    0x40: "the temperature, by the hardware",
    0x80: "the power brake",
}
# NVML_TEMPERATURE_GPU
_CORE = 0


def gpu_state(device: torch.device, run_index: int) -> GpuState | None:
    """The state of this moment; None of what is no NVIDIA GPU, or where NVML is not there."""
    nvml, handle = nvml_of(device)
    if handle is None:
        return None

    def ask(*names: str, more: tuple[int, ...] = ()) -> Any:
        return _first_answer(nvml, [getattr(nvml, name, None) for name in names], handle, more)

    bits = ask(
        "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    )
    processes = ask("nvmlDeviceGetComputeRunningProcesses")
    return GpuState(
        run_index,
        temperature_c=ask("nvmlDeviceGetTemperature", more=(_CORE,)),
        power_mw=ask("nvmlDeviceGetPowerUsage"),
        power_limit_mw=ask("nvmlDeviceGetEnforcedPowerLimit"),
        throttled=tuple(why for bit, why in _REASONS.items() if (bits or 0) & bit),
        # This one is among them, though a container may know it by another number.
        others=None if processes is None else max(0, len({each.pid for each in processes}) - 1),
    )


def _first_answer(
    nvml: Any, functions: list[Callable[..., Any] | None], handle: Any, more: tuple[int, ...]
) -> Any:
    """Of functions of several releases the one that is there and answers; None where none does."""
    for function in functions:
        try:
            if function is not None:
                return function(handle, *more)
        except nvml.NVMLError:
            continue
    return None
