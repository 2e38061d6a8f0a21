"""A graph that is played: its replay is the eager pass."""

from __future__ import annotations

from typing import ClassVar

from qwen3_profile.measure.executions.cuda_graph import FixedPass

PLAYED_NODES: dict[int, str] = {}


class PlayedGraph:
    """A graph whose replay is the eager pass."""

    events: ClassVar[list[str]] = []

    def __init__(self, forward: FixedPass, where: str, *, marked: bool) -> None:
        assert where.endswith("_static_cuda_graph")
        self.events.append("capture, marked" if marked else "capture")
        self._forward = forward
        self.labels = PLAYED_NODES if marked else {}
        forward.rewind()

    def replay(self) -> None:
        self._forward.run()

    def pool_bytes(self) -> int:
        return 3 << 20

    def release(self) -> None:
        self.events.append("release")
