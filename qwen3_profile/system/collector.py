"""When Python may look for garbage: not in a measurement, and not among what stays anyway."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def keep_all_objects() -> Iterator[None]:
    """Lets nobody look for garbage meanwhile: for work that makes many objects and keeps them.

    They are old at its end, so that the next collection of young objects does not go through them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not _is_frozen():
            gc.freeze()
            gc.unfreeze()
        if was_on:
            gc.enable()


@contextlib.contextmanager
def frozen_heap() -> Iterator[None]:
    """Spares what is there already the collections in the block: they come before every pass.

    The libraries alone are several hundred thousand objects, which take a fifth of a second to
    look through. Inside another such block, or where the caller froze them, it does nothing.
    """
    if _is_frozen():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Keeps the garbage collector out of a measurement, as timeit does; collects beforehand.

    Inside another such block it does nothing: collecting takes longer than a decode step.
    """
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _is_frozen() -> bool:
    """Whether somebody froze the heap: that a few objects are is no sign of it.

    Python 3.12 starts with some that are, on which thousands more are imported.
    """
    frozen = gc.get_freeze_count()
    return bool(frozen) and frozen > len(gc.get_objects())
