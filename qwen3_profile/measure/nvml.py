"""The driver of an NVIDIA GPU, where it is there to be asked.

NVML comes with the driver, and its Python half as nvidia-ml-py; without that, and on what is no
NVIDIA GPU, nothing is known.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch


def is_nvidia(device: torch.device) -> bool:
    """Whether a device is a GPU of NVIDIA's: torch calls those of others "cuda", too."""
    return device.type == "cuda" and torch.version.cuda is not None


@lru_cache(maxsize=64)
def nvml_of(device: torch.device) -> tuple[Any, Any]:
    """NVML, and its handle of a device; None for what is not there, both where it is no NVIDIA GPU.

    CUDA counts only visible devices; the UUID names the same card to both. torch before 2.5 does
    not tell it.
    """
    if not is_nvidia(device):
        return None, None
    try:
        import pynvml
    except ImportError:
        return None, None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", "")
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return pynvml, None
