"""What the operators of a forward pass move, by label; and the file that a run keeps it in.

    {"schema_version": 1, "passes": [{"position": 0, "labels": {
        "layer.0.attn.q_proj": {"operations": 1, "bytes": 8519680},
        "layer.0.residual_attn": {"operations": 1, "bytes": 196608}}, "backward": {}}]}

What bytes are, `measure.op_bytes` says. Pure data: no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from qwen3_profile.run_folder.side_files import read_versioned
from qwen3_profile.system.files import write_atomic

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Moved:
    """What some operations move.

    operations: how many there are that move anything: operators of torch, or kernel calls of a
        compiled graph.
    bytes: read and written; None where what one of them moves is not known.
    """

    operations: int = 0
    bytes: int | None = 0

    def __add__(self, other: Moved) -> Moved:
        known = self.bytes is not None and other.bytes is not None
        return Moved(
            self.operations + other.operations,
            (self.bytes or 0) + (other.bytes or 0) if known else None,
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one forward pass moves, or several together.

    labels: label -> what the operations move that it is the innermost label of; those between the
        labels have the names of their gaps, and those without a name the container's, the pass
        itself being "".
    backward: the same of what runs backward, by the label of the operation that it is the backward
        of; "" where there is none.
    """

    labels: dict[str, Moved]
    backward: dict[str, Moved] = field(default_factory=dict)

    @property
    def total(self) -> Moved:
        """All of it; of the same operations as the labels together."""
        return sum((*self.labels.values(), *self.backward.values()), Moved())

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            gather((*self.labels.items(), *other.labels.items())),
            gather((*self.backward.items(), *other.backward.items())),
        )


@dataclass(frozen=True, slots=True)
class PassTraffic:
    """A counted forward pass. position: of a decode step, how many came before it."""

    position: int
    labels: dict[str, Moved]
    backward: dict[str, Moved] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _File:
    schema_version: int
    passes: tuple[PassTraffic, ...]


def gather(moved: Iterable[tuple[str, Moved]]) -> dict[str, Moved]:
    """The sums by label, in the order of the first operation of each."""
    found: dict[str, Moved] = {}
    for label, each in moved:
        found[label] = found.get(label, Moved()) + each
    return found


def per_pass(moved: int | None, steps: int) -> float | None:
    """The mean of bytes that are a sum over `steps` passes."""
    return None if moved is None else moved / steps


def write_traffic(path: Path, passes: Mapping[int, Traffic]) -> None:
    """Writes the traffic of each position whole or not at all."""
    found = tuple(PassTraffic(at, each.labels, each.backward) for at, each in passes.items())
    write_atomic(path, msgspec.json.encode(_File(SCHEMA_VERSION, found)) + b"\n")


def read_traffic(path: Path) -> dict[int, Traffic]:
    """What `write_traffic` wrote.

    Raises:
        TraceError: it is not there, not ours, or of a newer schema.
    """
    found = read_versioned(path, _File, SCHEMA_VERSION, "file of bytes")
    return {each.position: Traffic(each.labels, each.backward) for each in found.passes}
