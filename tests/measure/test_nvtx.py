"""Labels as NVTX ranges, on a machine without NVTX: what is opened and closed, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
from make.commands import Commands, Done
from torch.cuda import nvtx

from qwen3_profile import labels


class Ranges:
    """NVTX's stack of one thread."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.paths: list[tuple[str, ...]] = []

    def push(self, name: str) -> None:
        self.open.append(name)
        self.paths.append(tuple(self.open))

    def pop(self) -> None:
        self.open.pop()


def run(commands: Commands, cwd: Path, *argv: object) -> tuple[Done, Ranges]:
    ranges = Ranges()
    with (
        mock.patch.object(nvtx, "mark", return_value=None),
        mock.patch.object(nvtx, "range_push", ranges.push),
        mock.patch.object(nvtx, "range_pop", ranges.pop),
    ):
        done = commands.profile(cwd, "--nvtx", "--dtype", "float32", *argv)
    return done, ranges


def test_each_label_is_a_range_in_its_pass(commands: Commands, tmp_path: Path) -> None:
    done, ranges = run(commands, tmp_path, "--num-runs", 2, "--decode-steps", 3)
    assert done.code == 0, done.err
    assert ranges.open == []
    passes = Counter(path[0] for path in ranges.paths if len(path) == 1)
    assert passes == {"prefill": 2, "decode": 6}
    assert ("decode", "layer.1", "layer.1.attn", "layer.1.attn.rope") in ranges.paths
    inside = {path[-1] for path in ranges.paths if path[0] == "prefill"}
    assert set(labels.expected_labels(2, frozenset())) <= inside
    assert len(done.out.splitlines()) == 8
    assert "prefill run 1: " in done.out
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--compile",), "labels eager passes only"),
        (("--configs", "c.json"), "takes one dtype"),
    ],
)
def test_what_has_no_ranges_is_refused(
    commands: Commands, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    (tmp_path / "c.json").write_text('{"configs": [{"dtype": "bfloat16"}, {}]}')
    done, _ = run(commands, tmp_path, *argv)
    assert done.code == 2
    assert words in done.err


def test_a_torch_without_nvtx_is_told(commands: Commands, tmp_path: Path) -> None:
    failing = mock.Mock(side_effect=RuntimeError("NVTX functions not installed."))
    with mock.patch.object(nvtx, "mark", failing):
        done = commands.profile(tmp_path, "--nvtx")
    assert done.code == 2
    assert done.errors == [line for line in done.errors if "is built without NVTX" in line]
    assert len(done.errors) == 1
