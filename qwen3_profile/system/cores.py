"""Work on several files in, its results in their order out: on all cores, where that pays.

Processes are forked, so that each begins with all that is imported. That is safe only while no
other thread runs and torch has not been loaded: else, and for little work, one core does it all.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Of files together, packed ones counted as text: what is read in the time that it takes to fork.
_LEAST_BYTES = 50_000_000
# How many bytes of a trace's text are one of its .gz.
_PACKED = 14


def map_files(
    work: Callable[[_Item], _Result], items: Sequence[_Item], files: Sequence[Path]
) -> list[_Result]:
    """The results of `work`, in the order of `items`; of several errors that of the first item.

    Args:
        work: can be pickled, as its results can, and prints nothing.
        files: what the items stand for; their sizes say whether several cores pay.
    """
    count = min(len(items), core_count())
    if count < 2 or not may_fork() or sum(map(text_bytes, files)) < _LEAST_BYTES:
        return [work(item) for item in items]
    # Slow to import, and most exports are of one file.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(count, mp_context=get_context("fork")) as pool:
        waiting = [pool.submit(work, item) for item in items]
        try:
            return [each.result() for each in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def core_count() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def may_fork() -> bool:
    """Whether a fork of this process would lack nothing, and is not one of many already."""
    if sys.platform != "linux" or "torch" in sys.modules or threading.active_count() > 1:
        return False
    pools = sys.modules.get("multiprocessing")
    return pools is None or pools.parent_process() is None


def text_bytes(file: Path) -> int:
    """About how long the text of a trace file is; 0 where there is none."""
    try:
        size = file.stat().st_size
    except OSError:
        return 0
    return size * _PACKED if file.suffix == ".gz" else size
