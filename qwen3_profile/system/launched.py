"""Which process of how many this one is, where torchrun started several."""

from __future__ import annotations

import os
from dataclasses import dataclass

# What torchrun tells each process.
_RANK, _SIZE, _LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"
_NEEDED = (_RANK, _SIZE, _LOCAL, "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Launched:
    """One process of several.

    rank: of `size` in all; local_rank: of those on this host.
    """

    rank: int
    size: int
    local_rank: int

    @property
    def host(self) -> str:
        import socket  # few ask

        return socket.gethostname()


def is_first() -> bool:
    """Whether this process tells what goes for all."""
    process = launched()
    return process is None or not process.rank


def launched() -> Launched | None:
    """None where this process is alone."""
    found = [os.environ.get(name, "") for name in _NEEDED]
    if not all(found) or not all(text.isdecimal() for text in found[:3]):
        return None
    rank, size, local_rank = map(int, found[:3])
    return Launched(rank, size, local_rank) if size > 1 else None
