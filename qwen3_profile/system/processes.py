"""Work in forked processes: over several files, over many items, or next to this process.

A fork has all that is imported and all that was read, and costs a few milliseconds. It is safe only
while no other thread runs and torch has not been loaded: else, and for little work, one process
does it all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Of files together, packed ones counted as text: what is read in the time that it takes to fork.
_LEAST_BYTES = 50_000_000
# How many bytes of a trace's text are one of a packed file; of xz it is more.
_PACKED = 14
_PACKED_SUFFIXES = frozenset({".gz", ".zst", ".xz", ".bz2"})
# Fewer items are done before a fork of them would be.
_FEWEST = 4
_PARENT_DEATH = 1  # of prctl: the signal that a process gets when its parent's thread ends


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
    from multiprocessing import active_children, get_context

    others = active_children()
    fork = get_context("fork")
    with ProcessPoolExecutor(count, fork, end_with_parent, (os.getpid(),)) as pool:
        waiting = [pool.submit(work, item) for item in items]
        try:
            return [each.result() for each in waiting]
        except BaseException as error:
            if not isinstance(error, Exception):  # nobody waits for what they are at
                for child in active_children():
                    if child not in others:
                        child.kill()
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
    return size * _PACKED if file.suffix in _PACKED_SUFFIXES else size


class ForkFailedError(Exception):
    """There could be no fork, or it could not do its work; it tells nobody why."""


def can_fork() -> bool:
    """Whether there is a second core, and a way to use it."""
    return core_count() > 1 and may_fork()


@contextlib.contextmanager
def forked(make: Callable[[], Iterable[Any]]) -> Iterator[Iterator[Any]]:
    """Makes messages in a fork of this process: gives an iterator of them, which waits for them.

    Args:
        make: its messages can be pickled, and none is None.

    Raises:
        ForkFailedError: at the begin, or when a message is asked for that does not come.
    """
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise ForkFailedError from error
    if child == 0:
        end_with_parent(parent)
        os.close(reading)
        _send(make, writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            yield _receive(pipe)
    finally:
        # Who ignores SIGCHLD has no children to wait for.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def map_in_turns(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """The results of `work`, in the order of `items`; a fork does every second one, if it can.

    Args:
        work: prints nothing, and its results can be pickled. Where it raises in the fork, all of
            it is done here, to raise here.
    """
    if len(items) >= _FEWEST and can_fork():
        found: list[Any] = [None] * len(items)
        try:
            with forked(lambda: [[work(item) for item in items[1::2]]]) as messages:
                found[::2] = [work(item) for item in items[::2]]
                found[1::2] = next(messages)
                return found
        except ForkFailedError:
            pass
    return [work(item) for item in items]


def end_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Lets this fork end with the process that made it, however that ends, and at any signal.

    Args:
        by: the signal that ends it then, also in what it turns itself into.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH, by)
    if os.getppid() != parent:  # it ended before
        os._exit(0)


def _send(make: Callable[[], Iterable[Any]], writing: int) -> None:
    """What the fork does, from its begin to its end. That it failed is told by no last message."""
    try:
        with open(writing, "wb") as pipe:
            for message in (*make(), None):
                pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    finally:
        # Nothing that the fork has in common with this process is to be cleaned up twice.
        os._exit(0)


def _receive(pipe: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            message = pickle.load(pipe)
        except (EOFError, pickle.UnpicklingError) as error:
            raise ForkFailedError from error
        if message is None:
            return
        yield message
