"""The bytes that each row of the parts table moves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from qwen3_profile import label_parts, labels
from qwen3_profile.analysis.part_rows import PartPath, PartRow, own_path, place_of
from qwen3_profile.passes.compiled.part_names import scope_names
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.run_folder.bytes_moved import Moved


def row_bytes(times: PassTimes, rows: Sequence[PartRow]) -> tuple[int | None, ...]:
    """What each row moves, with the rows below it; None where that is not known.

    Nothing at all where no pass was counted.

    Args:
        rows: of this pass, those of a backward among them, below it or in one; or of its backward
            alone.
    """
    if times.traffic is None:
        return ()
    accessed: dict[PartPath, Moved] = {}
    known = {row.path for row in rows}
    # What of a packed Linear is moved by which of its stages was not counted.
    packed = {row.path[:-1] for row in rows if row.name in label_parts.stages()}
    is_backward = bool(rows) and rows[0].path == (labels.BACKWARD,)
    for path, each in _backward_paths(times) if is_backward else _paths(times):
        own = path if path in packed else own_path(path, known)
        for depth in range(1, len(own) + 1):
            accessed[own[:depth]] = accessed.get(own[:depth], Moved()) + each
    return tuple(
        accessed[row.path].bytes if row.path in accessed else _uncounted(row, packed)
        for row in rows
    )


def _uncounted(row: PartRow, packed: Collection[PartPath]) -> int | None:
    return None if row.times.device_events or row.path[:-1] in packed else 0


def _paths(times: PassTimes) -> Iterator[tuple[PartPath, Moved]]:
    """The row in which each label lies, and each kernel, as the table has them."""
    phase = times.forward.name
    for label, moved in times.traffic.labels.items() if times.traffic else ():
        yield place_of((phase, *scope_names((label,))))[0], moved
    for path, moved in _backward_paths(times):
        yield (phase, *path), moved
    for kernel in times.compiled.kernels if times.compiled else ():
        yield place_of((phase, *scope_names(kernel.labels)))[0], kernel.moved


def _backward_paths(times: PassTimes) -> Iterator[tuple[PartPath, Moved]]:
    for label, moved in times.traffic.backward.items() if times.traffic else ():
        yield place_of((labels.BACKWARD, *scope_names((label,))))[0], moved
