"""Interned event keys: most events share category, name and track with many others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from qwen3_profile.trace.columns import Bool, Category, Int8, Int32, Int64, LaunchConfig, Track
from qwen3_profile.trace.json_events import Event, damaged, shown
from qwen3_profile.trace.losses import Losses
from qwen3_profile.trace.messages import CALL
from qwen3_profile.trace.said_twice import Noted

# Kineto's names of today, those of 2021, and what our own normalised trace calls a launch. To
# Kineto itself MTIA's events of a device are kernels, and those of HPU and Glow runtime calls.
_CATEGORIES = {
    "cpu_op": Category.CPU_OP,
    "Operator": Category.CPU_OP,
    "user_annotation": Category.USER_ANNOTATION,
    "python_function": Category.PYTHON_FUNCTION,
    "cuda_runtime": Category.RUNTIME,
    "runtime": Category.RUNTIME,
    "Runtime": Category.RUNTIME,
    "xpu_runtime": Category.RUNTIME,
    "mtia_runtime": Category.RUNTIME,
    "privateuse1_runtime": Category.RUNTIME,
    "cuda_driver": Category.DRIVER,
    "xpu_driver": Category.DRIVER,
    "privateuse1_driver": Category.DRIVER,
    "glow_runtime": Category.RUNTIME,
    "hpu_op": Category.RUNTIME,
    "kernel": Category.KERNEL,
    "Kernel": Category.KERNEL,
    "mtia_ccp_events": Category.KERNEL,
    "gpu_memcpy": Category.GPU_MEMCPY,
    "Memcpy": Category.GPU_MEMCPY,
    "gpu_memset": Category.GPU_MEMSET,
    "Memset": Category.GPU_MEMSET,
    "gpu_user_annotation": Category.GPU_USER_ANNOTATION,
}
# Complete events that are neither host ranges, launches nor device work.
_PASSED_OVER = frozenset(
    {
        "Trace", "collective_comm", "cpu_instant_event", "cuda_event", "cuda_profiler_range",
        "cuda_sync", "external_correlation", "gpu_pm_counter", "mtia_counters", "mtia_insight",
        "mtia_workloadd", "overhead", "xpu_scope_profiler", "xpu_sync",
    }
)  # fmt: skip
LINKED = frozenset(
    {
        Category.RUNTIME, Category.DRIVER, Category.KERNEL, Category.GPU_MEMCPY,
        Category.GPU_MEMSET,
    }
)  # fmt: skip
_ON_DEVICE = frozenset({Category.KERNEL, Category.GPU_MEMCPY, Category.GPU_MEMSET})
# A backend of its own writes calls of its driver so, and torch_neuronx what ran on the device.
EITHER_SIDE = frozenset({"privateuse1_runtime", "privateuse1_driver"})
_IS_LINKED = np.array([each in LINKED for each in Category], bool)
# Stacks write an event for every Python call; only modules are scopes that we can use.
MODULE_PREFIX = "nn.Module: "
# What the autograd engine calls the evaluation of one node of a backward.
NODE_PREFIX = "autograd::engine::evaluate_function: "

# The number of what is read by nobody.
PASSED_OVER = -1

_EventKey = tuple[str, str | None, bytes, bytes]
_Key = TypeVar("_Key", str, tuple[str, str])

_decode_id = msgspec.json.Decoder(int | str).decode


def is_needed(category: str) -> bool:
    """Whether a figure depends on events of a category: on ranges of the device none does."""
    return _CATEGORIES.get(category) is not Category.GPU_USER_ANNOTATION


class EventKeys:
    """Numbers (category, name, track) 0 upwards, in the order in which they come.

    Args:
        path: names the file in errors.
        keeps_op: which operators are kept, by name; None for all of them.
        launch_columns: whether launch configurations are numbered, too; the first says nothing.
    """

    def __init__(
        self,
        path: Path,
        keeps_op: Callable[[str], bool] | None = None,
        *,
        launch_columns: bool = False,
    ) -> None:
        self._path = path
        self._keeps_op = keeps_op
        self._names: dict[str, int] = {}
        self._tracks: dict[tuple[str, str], int] = {}
        self._known: dict[_EventKey, int] = {}
        self._rows: list[tuple[int, int, int, bool, bool, bool]] = []
        self._columns = _columns_of(())
        self._unread: Counter[str] = Counter()
        self.losses = Losses()
        self.noted = Noted()
        self.launch_columns = launch_columns
        self._configs = {LaunchConfig(): 0} if launch_columns else {}

    def category(self, event: Event) -> Category | None:
        """What the event is; None for what nobody reads.

        Raises:
            DamagedTraceError: its category is known, but it is no event with a name.
        """
        category = _CATEGORIES.get(event.cat)
        if category is None or (event.ph != "X" and not bytes(event.dur)):
            return None
        if event.name is None or event.ph != "X":
            raise damaged(self._path, f"an event of category {event.cat} {_lack(event)}")
        if category is Category.PYTHON_FUNCTION and not event.name.startswith(MODULE_PREFIX):
            return None
        return category

    def is_unread(self, event: Event) -> bool:
        """Whether the event is a complete one of a category that nobody knows."""
        return event.ph == "X" and event.cat not in _CATEGORIES and event.cat not in _PASSED_OVER

    def count_unread(self, category: str, count: int = 1) -> None:
        self._unread[category] += count

    @property
    def unread(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self._unread.items()))

    def number(self, event: Event, category: Category) -> int:
        """The number of the event's key.

        Raises:
            DamagedTraceError: its pid or tid is neither number nor text.
        """
        key = (event.cat, event.name, bytes(event.pid), bytes(event.tid))
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = self._new(event, category)
        return number

    def keys(self) -> tuple[_EventKey, ...]:
        """(category, name, pid, tid) of each number, as the file has them."""
        return tuple(self._known)

    def numbers(self, keys: Iterable[_EventKey]) -> Int64:
        """The number of each of these keys, which another process found in the same file."""
        found = []
        for cat, name, pid, tid in keys:
            event = Event("X", cat, name, msgspec.Raw(pid), msgspec.Raw(tid))
            found.append(self.number(event, _CATEGORIES[cat]))
        return np.array(found, np.int64)

    @property
    def launch_configs(self) -> tuple[LaunchConfig, ...]:
        """The launch configurations by their numbers; empty where these were not asked for."""
        return tuple(self._configs)

    def launch_number(self, config: LaunchConfig) -> int:
        return self._configs.setdefault(config, len(self._configs))

    def launch_numbers(self, configs: Iterable[LaunchConfig]) -> Int64:
        """The number of each of these, which another process found in the same file."""
        return np.array([self.launch_number(config) for config in configs], np.int64)

    def _new(self, event: Event, category: Category) -> int:
        name = event.name or ""
        # XPU's devices may have no streams.
        streamless = category in _ON_DEVICE and bytes(event.tid) in (b"", b"null")
        track = self.track_number(event, "" if streamless else None)
        is_op = category is Category.CPU_OP
        row = (
            int(category),
            self._names.setdefault(name, len(self._names)),
            track,
            not is_op or self._keeps_op is None or self._keeps_op(name),
            is_op and name.startswith(NODE_PREFIX),
            is_op and name == CALL,
        )
        self._rows.append(row)
        return len(self._rows) - 1

    def track_number(self, event: Event, tid: str | None = None) -> int:
        """The number of the event's track; 7 and "7" are one.

        Args:
            tid: in place of its own.

        Raises:
            DamagedTraceError: its pid or tid is neither number nor text.
        """
        if tid is None:
            tid = self._id(event, "tid", event.tid)
        track = (self._id(event, "pid", event.pid), tid)
        return self._tracks.setdefault(track, len(self._tracks))

    def track_of(self, number: int) -> int:
        """The number of the track of a key."""
        return self._rows[number][2]

    def track_texts(self) -> list[tuple[str, str]]:
        """(pid, tid) of each number of a track."""
        return list(self._tracks)

    def track_numbers(self, tracks: Iterable[tuple[str, str]]) -> Int64:
        """The number of each of these tracks, which another process found in the same file."""
        known = self._tracks
        return np.array([known.setdefault(each, len(known)) for each in tracks], np.int64)

    def _id(self, event: Event, key: str, text: msgspec.Raw) -> str:
        try:
            return str(_decode_id(text))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            told = f'event {event.name!r} has {shown(text)} as its "{key}"'
            raise damaged(self._path, told) from None

    @property
    def columns(self) -> KeyColumns:
        """The keys so far."""
        if len(self._columns) != len(self._rows):
            self._columns = _columns_of(self._rows)
        return self._columns

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._names))

    def tracks(self) -> tuple[Track, ...]:
        return tuple(Track(pid, tid) for pid, tid in sorted(self._tracks))

    def sorted_tracks(self) -> Int64:
        """Where each track stands in `tracks`."""
        return _sorted_positions(self._tracks)

    def sorted_columns(self) -> KeyColumns:
        """The keys, with names and tracks as `names` and `tracks` index them."""
        found = self.columns
        return KeyColumns(
            found.category,
            _sorted_positions(self._names)[found.name].astype(np.int32),
            self.sorted_tracks()[found.track].astype(np.int32),
            found.kept,
            found.is_node,
            found.is_call,
        )


class KeyColumns:
    """Parallel arrays, one entry a key: what its number stands for.

    is_node: evaluates a node of a backward. is_call: calls a collective.
    """

    __slots__ = ("category", "is_call", "is_node", "kept", "linked", "name", "track")

    def __init__(
        self, category: Int8, name: Int32, track: Int32, kept: Bool, is_node: Bool, is_call: Bool
    ) -> None:
        self.category = category
        self.name = name
        self.track = track
        self.kept = kept
        self.is_node = is_node
        self.is_call = is_call
        self.linked = _IS_LINKED[category]

    def __len__(self) -> int:
        return len(self.category)


def _columns_of(rows: object) -> KeyColumns:
    table = np.array(rows, np.int64).reshape(-1, 6)
    return KeyColumns(
        table[:, 0].astype(np.int8),
        table[:, 1].astype(np.int32),
        table[:, 2].astype(np.int32),
        table[:, 3].astype(bool),
        table[:, 4].astype(bool),
        table[:, 5].astype(bool),
    )


def _sorted_positions(known: Mapping[_Key, int]) -> Int64:
    """Where each of the keys, numbered 0 upwards, stands when they are sorted."""
    positions = np.empty(len(known), np.int64)
    positions[[known[key] for key in sorted(known)]] = np.arange(len(known))
    return positions


def _lack(event: Event) -> str:
    return 'has no "name"' if event.name is None else f'has {event.ph!r} as its "ph", not "X"'
