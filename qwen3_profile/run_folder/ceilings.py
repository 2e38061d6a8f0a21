"""How fast a device computes and moves data at most, as it was measured; and where that is kept.

{"schema_version": 1, "ceilings": [{"device": "GPU-8f...", "dtype": "bfloat16", ...}]}
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec

from qwen3_profile.errors import ProfileError
from qwen3_profile.run_folder.bounds import Mhz, Rate, Size
from qwen3_profile.run_folder.side_files import read_versioned
from qwen3_profile.system.files import make_folder, write_atomic

SCHEMA_VERSION = 1
# So begins the name of a GPU, which its UUID ends.
GPU = "GPU-"
# Ceilings measured twice differ by up to so much; what is faster by more is impossible.
TOLERANCE = 0.03
# Clocks, drivers and neighbours change.
_KEPT_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ProductRate:
    """How fast [rows, into] is multiplied with weights [out, into], in FLOP/s; and a GPU's clock
    meanwhile, None where the driver does not tell.
    """

    rows: Size
    into: Size
    out: Size
    flops_per_s: Rate
    sm_clock_mhz: Mhz | None = None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device does at most, in one dtype.

    device: its UUID; of a CPU its name and how many threads compute.
    measured: when, ISO 8601, UTC.
    products: of several shapes; medians of repeated measurements, as the others.
    copy_bytes_per_s: what a copy reads and writes together. read_bytes_per_s: what a sum reads.
    launch_ns: how long a kernel takes that does next to nothing; of a CPU an operator.
    sm_clock_mhz: of a GPU before and after it; empty where the driver does not tell.
    """

    device: str
    driver: str
    torch: str
    dtype: str
    measured: str
    products: tuple[ProductRate, ...]
    copy_bytes_per_s: Rate
    read_bytes_per_s: Rate
    launch_ns: Rate
    sm_clock_mhz: tuple[Mhz, ...] = ()

    @property
    def flops_per_s(self) -> float:
        """Of the fastest product."""
        return max((each.flops_per_s for each in self.products), default=0.0)

    @property
    def clock_room(self) -> float:
        """How many times as fast products may get at the highest clock that was read: they are
        measured at the one that their own power leaves; 1 where the driver does not tell.
        """
        highest = max(self.sm_clock_mhz, default=0)
        at_most = max(
            (
                each.flops_per_s * highest / each.sm_clock_mhz
                for each in self.products
                if each.sm_clock_mhz
            ),
            default=0.0,
        )
        return max(1.0, at_most / self.flops_per_s) if self.flops_per_s else 1.0

    @property
    def bytes_per_s(self) -> float:
        """Of the faster of copy and sum."""
        return max(self.copy_bytes_per_s, self.read_bytes_per_s)

    @property
    def ridge(self) -> float:
        """FLOPs for each byte, from which on the products set the pace and not the memory."""
        return self.flops_per_s / self.bytes_per_s if self.bytes_per_s else 0.0

    @property
    def is_of_gpu(self) -> bool:
        return self.device.startswith(GPU)

    def is_of(self, device: str, driver: str, torch: str, dtype: str) -> bool:
        return (self.device, self.driver, self.torch, self.dtype) == (device, driver, torch, dtype)

    def is_fresh(self, now: datetime) -> bool:
        """Whether it was measured within the last day."""
        age = now - datetime.fromisoformat(self.measured)
        return timedelta(0) <= age < _KEPT_FOR


@dataclass(frozen=True, slots=True)
class _File:
    schema_version: int
    ceilings: tuple[Ceilings, ...]


def kept_file() -> Path:
    """Where the ceilings of this user's devices are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "qwen3_profile" / "ceilings.json"


def read_kept(path: Path) -> tuple[Ceilings, ...]:
    """What is kept and not older than a day; none where there is no such file, or one that is no
    longer understood: then they are measured again.
    """
    try:
        found = read_versioned(path, _File, SCHEMA_VERSION, "file of ceilings").ceilings
        now = datetime.now(timezone.utc)
        return tuple(each for each in found if each.is_fresh(now))
    except (ProfileError, ValueError, TypeError):
        return ()


def keep(path: Path, ceilings: Iterable[Ceilings]) -> None:
    """Keeps these in place of what is there.

    Raises:
        OutputError: they cannot be written.
    """
    make_folder(path.parent)
    write_atomic(path, msgspec.json.encode(_File(SCHEMA_VERSION, tuple(ceilings))) + b"\n")
