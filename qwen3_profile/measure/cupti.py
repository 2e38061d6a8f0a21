"""Which records CUPTI makes while a session of the profiler runs.

torch.profiler with the device's activity alone still has CUPTI record every call of the driver and
the runtime, and its own overhead: on an H200 that is much of what such a session costs a
launch-bound pass. Once the session runs they can be switched off; the next one asks for its own.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

# CUpti_ActivityKind, cupti_activity.h: the values have not changed since CUDA 5.
_DRIVER, _RUNTIME, _OVERHEAD = 4, 5, 17
_SUCCESS = 0
_LIBRARY = re.compile(r"\s(/\S*libcupti\.so[.\d]*)\s*$", re.MULTILINE)


def record_kernels_only() -> str:
    """Switches off all records but those of device work, in the session that runs.

    Returns:
        Why it could not be done; empty if it was.
    """
    library = _loaded_library()
    if library is None:
        return "torch has loaded no libcupti"
    disable = getattr(library, "cuptiActivityDisable", None)
    if disable is None:
        return "libcupti has no cuptiActivityDisable"
    for kind in (_DRIVER, _RUNTIME, _OVERHEAD):
        code = disable(ctypes.c_int(kind))
        if code != _SUCCESS:
            return f"CUPTI refuses to switch off records of kind {kind} (error {code})"
    return ""


def _loaded_library() -> ctypes.CDLL | None:
    """libcupti as this process has it; another copy would be another CUPTI."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _LIBRARY.search(maps)
    return ctypes.CDLL(found[1]) if found else None
