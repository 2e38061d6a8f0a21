"""Work beside this process, by a fork of it; what it makes comes through a pipe.

A fork has all that is imported and all that was read, and costs a few milliseconds. `cores` says
whether there may be one.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, TypeVar

from qwen3_profile.system.cores import core_count, may_fork

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Fewer items are done before a fork of them would be.
_FEWEST = 4


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
    try:
        child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise ForkFailedError from error
    if child == 0:
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
