"""A driver that tells what a test gives it, in place of NVML."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from qwen3_profile.measure.nvml import nvml_of

UUID = "8f0e-1"


class NVMLError(Exception):
    """As pynvml has it: base of all that it raises."""


class FakeNvml(ModuleType):
    """Knows one card; its clock goes through `mhz`, of which None is a driver that refuses."""

    NVML_CLOCK_SM = 1
    NVMLError = NVMLError

    def __init__(self, mhz: Iterator[int | None]) -> None:
        super().__init__("pynvml")
        self.mhz, self.asked, self.inits = mhz, 0, 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.inits += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:  # noqa: N802
        if uuid != f"GPU-{UUID}":
            raise NVMLError("not found")
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle: object, kind: int) -> int:  # noqa: N802
        assert (handle, kind) == ("handle", self.NVML_CLOCK_SM)
        self.asked += 1
        found = next(self.mhz)
        if found is None:
            raise NVMLError("not supported")
        return found


def install(patch: pytest.MonkeyPatch, mhz: Iterator[int | None], uuid: str = UUID) -> FakeNvml:
    """A CUDA device of that UUID, and its driver, until the test ends."""
    fake = FakeNvml(mhz)
    patch.setitem(sys.modules, "pynvml", fake)
    properties: Any = SimpleNamespace(uuid=uuid)
    patch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    patch.setattr(torch.version, "cuda", "13.0")
    nvml_of.cache_clear()
    return fake
