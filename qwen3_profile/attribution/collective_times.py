"""The collectives of a process one by one: who issued each, what it carried, when it ran."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qwen3_profile.trace.columns import Int32, Int64
from qwen3_profile.trace.messages import Message

# What torch, NCCL and others call them, without all that is no letter -> torch's function.
_KINDS = (
    ("reducescatter", "reduce_scatter"),
    ("allreduce", "all_reduce"),
    ("crossdevicereduce", "all_reduce"),
    ("allgather", "all_gather"),
    ("alltoall", "all_to_all"),
    ("sendrecv", "send_recv"),
    ("broadcast", "broadcast"),
    ("barrier", "barrier"),
    ("reduce", "reduce"),
    ("send", "send_recv"),
    ("recv", "send_recv"),
)
_OTHER = "other"
_NO_LETTER = re.compile(r"[^a-z]+")


@dataclass(frozen=True, slots=True, eq=False)
class Collectives:
    """What a process exchanged with others: arrays of one entry per collective, in their order.

    labels: texts; the label that issued one, or "" of none. messages: what they carry.
    label, message: int32[n], indices of these.
    step: int64[n], the number of the step that it was issued in, or -1.
    start_ns, dur_ns: int64[n]. overlapped_ns: int64[n], of that while another kernel ran.
    before: int64[4, m]: which collective, an index of `labels`, and for how long the process was
        busy with that, and idle in front of its kernels, from the end of the collective before, or
        from the begin of the step.
    on_device: whether they are kernels.
    """

    labels: tuple[str, ...]
    messages: tuple[Message, ...]
    label: Int32
    message: Int32
    step: Int64
    start_ns: Int64
    dur_ns: Int64
    overlapped_ns: Int64
    before: Int64
    on_device: bool

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def end_ns(self) -> Int64:
        return self.start_ns + self.dur_ns


def no_collectives() -> Collectives:
    few, many = np.empty(0, np.int32), np.empty(0, np.int64)
    return Collectives((), (), few, few, many, many, many, many, many.reshape(4, 0), False)


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str:
    """Which collective it is, as torch calls the function: "all_reduce", "all_gather", ...

    Args:
        name: as torch, gloo or the kernel has it.
    """
    letters = _NO_LETTER.sub("", name.partition("(")[0].lower())
    return next((kind for text, kind in _KINDS if text in letters), _OTHER)


def joined(several: Iterable[Collectives]) -> Collectives:
    """Those of stretches of time that follow each other, in one."""
    found = [each for each in several if len(each)]
    if len(found) < 2:
        return found[0] if found else no_collectives()
    names = tuple(dict.fromkeys(name for each in found for name in each.labels))
    messages = tuple(dict.fromkeys(message for each in found for message in each.messages))
    first = np.cumsum([0, *map(len, found)])
    return Collectives(
        labels=names,
        messages=messages,
        label=_renumbered(found, names, lambda each: (each.labels, each.label)),
        message=_renumbered(found, messages, lambda each: (each.messages, each.message)),
        step=np.concatenate([each.step for each in found]),
        start_ns=np.concatenate([each.start_ns for each in found]),
        dur_ns=np.concatenate([each.dur_ns for each in found]),
        overlapped_ns=np.concatenate([each.overlapped_ns for each in found]),
        before=np.concatenate(
            [
                np.stack((each.before[0] + at, _placed(each.labels, names)[each.before[1]],
                          *each.before[2:]))
                for each, at in zip(found, first.tolist(), strict=False)
            ],
            axis=1,
        ),
        on_device=found[0].on_device,
    )  # fmt: skip


def _renumbered(
    found: Sequence[Collectives],
    names: Sequence[object],
    column: Callable[[Collectives], tuple[Sequence[object], Int32]],
) -> Int32:
    pairs = map(column, found)
    numbers = [_placed(texts, names)[number] for texts, number in pairs]
    return np.concatenate(numbers).astype(np.int32)


def _placed(texts: Sequence[object], names: Sequence[object]) -> Int64:
    """Where each of some texts stands among all."""
    place = {name: at for at, name in enumerate(names)}
    return np.array([place[text] for text in texts], np.int64)
