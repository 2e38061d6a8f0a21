"""The clock of a GPU's multiprocessors (SMs) around each pass, from NVML.

NVML comes with the driver, and its Python half as nvidia-ml-py; without that, and on what is no
NVIDIA GPU, no clock is known. It is asked while the device is idle, outside of what is timed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch


class SmClockReader:
    """Keeps what it reads until that is taken.

    Args:
        device: whose clock it is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_known = device.type == "cuda" and torch.version.cuda is not None
        self._mhz: list[int] = []

    def read(self) -> None:
        """Asks for the clock of this moment; a driver that does not tell is not asked again."""
        if not self._is_known:
            return
        mhz = _ask(_uuid(self._device))
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


def _uuid(device: torch.device) -> str:
    """CUDA counts only visible devices; the UUID names the same card to both. torch before 2.5 does
    not tell it.
    """
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))


def _ask(uuid: str) -> int | None:
    """The SM clock in MHz; None where nobody tells."""
    nvml, handle = _handle(uuid)
    if handle is None:
        return None
    try:
        return int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    except nvml.NVMLError:
        return None


@lru_cache(maxsize=64)
def _handle(uuid: str) -> tuple[Any, Any]:
    """NVML, and what it knows the device by; None where it does not."""
    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return pynvml, None
