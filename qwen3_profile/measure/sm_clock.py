"""The clock of a GPU's multiprocessors (SMs) around each pass, from NVML.

It is asked while the device is idle, outside of what is timed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from qwen3_profile.measure.nvml import is_nvidia, nvml_of


class SmClockReader:
    """Keeps what it reads until that is taken.

    Args:
        device: whose clock it is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_known = is_nvidia(device)
        self._mhz: list[int] = []

    def read(self) -> None:
        """Asks for the clock of this moment; a driver that does not tell is not asked again."""
        if not self._is_known:
            return
        mhz = _ask(self._device)
        self._is_known = mhz is not None
        self._mhz += [] if mhz is None else [mhz]

    def take(self) -> tuple[int, ...]:
        """What was read since the last time, in MHz."""
        taken = tuple(self._mhz)
        self._mhz.clear()
        return taken

    @contextlib.contextmanager
    def left_alone(self, when: bool) -> Iterator[None]:
        """Asks for nothing in the block: between steps that follow each other it would delay."""
        before = self._is_known
        self._is_known = before and not when
        try:
            yield
        finally:
            self._is_known = before and (when or self._is_known)


def _ask(device: torch.device) -> int | None:
    """The SM clock in MHz; None where nobody tells."""
    nvml, handle = nvml_of(device)
    if handle is None:
        return None
    try:
        return int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    except nvml.NVMLError:
        return None
