"""Names of other people's objects, replaced for the length of a block and put back after it.

In comes a place, a name and a wrapper of what is there; out goes the same place as it was. What
somebody else has put over ours meanwhile is theirs, and stays. Functions that several blocks
need at once, in one thread or in several, are wrapped once and put back by the last to leave.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from qwen3_profile.errors import RunError

Function = Callable[..., Any]

_ABSENT = object()
_MARK = "_qwen3_profile_patch"
_lock = threading.Lock()


class Patches:
    """The replacements of one block.

    is_open: false once the block has ended. A wrapper that lives on inside somebody else's asks
        this, and then does nothing.
    """

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self.is_open = True
        undo.callback(setattr, self, "is_open", False)

    def put(self, place: Any, name: str, wrapper: Function, *, shared: bool = False) -> None:
        """Replaces `name` until the block ends.

        Args:
            place: a dict; a class; or an object, whose own attributes are meant.
            name: the key or attribute. A class must have it itself.
            wrapper: takes its place.
            shared: a wrapper that another block has put there serves for this one too.

        Raises:
            RunError: another block has put a wrapper there, and it is not shared.
        """
        with _lock:
            patch = _ours(place, name)
            if patch is None or not (shared or patch.users):
                patch = _Patch(place, name, wrapper, _names(place).get(name, _ABSENT))
                setattr(wrapper, _MARK, patch)
            elif not shared:
                raise RunError("the model", "is labelled already", "leave the outer block first")
            # First the way back, so that an interrupt here leaves nothing behind.
            self._undo.callback(patch.release, self)
            patch.acquire(self)


@dataclass(eq=False)
class _Patch:
    place: Any
    name: str
    wrapper: Function
    previous: object
    users: set[Patches] = field(default_factory=set)

    def acquire(self, user: Patches) -> None:
        if not self.users:
            self._write(self.wrapper)
        self.users.add(user)

    def release(self, user: Patches) -> None:
        with _lock:
            self.users.discard(user)
            if not self.users and _names(self.place).get(self.name) is self.wrapper:
                self._write(self.previous)

    def _write(self, value: object) -> None:
        if isinstance(self.place, type):
            setattr(self.place, self.name, value)
        elif value is _ABSENT:
            del _names(self.place)[self.name]
        else:
            _names(self.place)[self.name] = value


def _names(place: Any) -> Any:
    return place if isinstance(place, dict) else vars(place)


def _ours(place: Any, name: str) -> _Patch | None:
    """The patch in force at `name`; None where a wrapper of somebody else copied our mark."""
    current = _names(place).get(name)
    patch = getattr(current, _MARK, None)
    return patch if isinstance(patch, _Patch) and patch.wrapper is current else None
