"""What is read of the args of an event: its links, what autograd wrote, how it was launched."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qwen3_profile.trace.columns import NO_CORRELATION, NO_NODE_ID, NO_SEQUENCE, LaunchConfig

_INT64_MAX = 2**63 - 1
SEQUENCE_KEY = '"Sequence number"'

OddArgs = (msgspec.DecodeError, UnicodeDecodeError)


class _LinkArgs(msgspec.Struct, gc=False):
    correlation: int | None = None


class _OpArgs(msgspec.Struct, gc=False):
    sequence: int = msgspec.field(name="Sequence number", default=NO_SEQUENCE)
    forward_thread: int = msgspec.field(name="Fwd thread id", default=0)


class _LaunchArgs(msgspec.Struct, gc=False):
    grid: list[int] | None = None
    block: list[int] | None = None
    node_id: Annotated[int, msgspec.Meta(ge=-(2**63), le=_INT64_MAX)] = msgspec.field(
        name="graph node id", default=NO_NODE_ID
    )
    kernel: str = ""


class _DeviceArgs(msgspec.Struct, gc=False):
    device: int | str | None = None


_device_args = msgspec.json.Decoder(_DeviceArgs).decode
_decode_id = msgspec.json.Decoder(int | str).decode
_link_args = msgspec.json.Decoder(_LinkArgs).decode
_op_args = msgspec.json.Decoder(_OpArgs).decode
_launch_args = msgspec.json.Decoder(_LaunchArgs).decode


def read_correlation(args: bytes) -> int:
    """The id in the args of a launch or a device event, or -1.

    Raises:
        OddArgs: they are no such JSON.
    """
    found = _link_args(args).correlation if args else None
    if found is None:
        return NO_CORRELATION
    if not -(2**63) <= found < 2**64:
        raise msgspec.ValidationError("Expected an id of 64 bits - at `$.correlation`")
    # Unsigned ids become negative ones; the largest one, too, stands for none.
    return found - 2**64 if found > _INT64_MAX else found


def is_on_device(args: bytes, pid: bytes) -> bool:
    """Whether an event lies on the device that its args name, as Kineto's device events do."""
    try:
        device = _device_args(args).device if args else None
        return device is not None and str(device) == str(_decode_id(pid))
    except OddArgs:
        return False


def read_sequence(args: bytes, *, is_node: bool) -> tuple[int, int] | None:
    """Sequence number and forward thread of what autograd numbered or evaluated, else None.

    Raises:
        OddArgs: the args of the operator are no such JSON.
    """
    none = (NO_SEQUENCE, 0) if is_node else None
    if SEQUENCE_KEY.encode() not in args:
        return none
    found = _op_args(args)
    known = 0 <= found.sequence <= _INT64_MAX and 0 <= found.forward_thread <= _INT64_MAX
    return (found.sequence, found.forward_thread) if known else none


def read_launch_config(args: bytes) -> LaunchConfig:
    """What the args of a launch or a device event, which have a correlation, say of it.

    Of args that are not as Kineto writes them nothing is known:

        {"correlation": 18, "grid": [8, 1, 1], "block": [128, 1, 1], "graph node id": 4294967301}
        {"correlation": 7, "kernel": "triton_poi_fused_0", "grid": [1036, 1, 1], ...}
    """
    try:
        found = _launch_args(args)
    except OddArgs:
        return LaunchConfig()
    grid = tuple(found.grid) if found.grid else None
    block = tuple(found.block) if found.block else None
    return LaunchConfig(grid, block, found.node_id, found.kernel)
