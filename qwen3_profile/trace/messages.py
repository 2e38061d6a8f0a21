"""What a trace says of a collective: which one, how much it carries, among whom.

Kineto writes it into the args of the call and, where it linked both, of the kernel; `Seq` only
where shapes were recorded, too. Kernels of graphs, and of other libraries than NCCL, have none:

    "Collective name": "allreduce", "In msg nelems": 8192, "Out msg nelems": 8192, "Group size": 2,
    "dtype": "BFloat16", "Process Group Name": "0", "Process Group Ranks": "[0, 1]", "Seq": 178
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

MESSAGE_KEY = b'"Collective name"'
# The operator that torch writes round each call; its args are the same.
CALL = "record_param_comms"
_WAIT = "wait"
UNNUMBERED = -1


@dataclass(frozen=True, slots=True)
class Message:
    """One collective as the call of it was recorded.

    collective: torch's name, such as "allreduce" or "_allgather_base".
    in_elements, out_elements: of this rank's input and output.
    dtype: such as "BFloat16".
    ranks: of its group, as text; empty where it is not told.
    sequence: counts the collectives of a group, or -1.
    """

    collective: str
    in_elements: int
    out_elements: int
    dtype: str
    group_size: int
    ranks: str = ""
    sequence: int = UNNUMBERED


@dataclass(frozen=True, slots=True)
class MessageCall:
    """The call of a collective: from when to when it ran on its thread, and what it carries."""

    start_ns: int
    end_ns: int
    message: Message


# A size of less or more is damage, and none.
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class _MessageArgs(msgspec.Struct, gc=False):
    collective: str = msgspec.field(name="Collective name")
    in_elements: _Count = msgspec.field(name="In msg nelems", default=0)
    out_elements: _Count = msgspec.field(name="Out msg nelems", default=0)
    dtype: str = ""
    group_size: _Count = msgspec.field(name="Group size", default=0)
    ranks: str = msgspec.field(name="Process Group Ranks", default="")
    sequence: int = msgspec.field(name="Seq", default=UNNUMBERED)


_decode = msgspec.json.Decoder(_MessageArgs).decode


def read_message(args: bytes) -> Message | None:
    """What args say; None where they tell of no collective, of mere waiting, or are odd."""
    if MESSAGE_KEY not in args:
        return None
    try:
        found = _decode(args)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if found.collective == _WAIT:
        return None
    return Message(
        found.collective, found.in_elements, found.out_elements, found.dtype, found.group_size,
        found.ranks, found.sequence,
    )  # fmt: skip
