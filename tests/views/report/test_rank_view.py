"""One pass of all ranks: where its bars lie, and what each part took and waited."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands
from make.kineto import cpu_op, document, kernel, label, launch, step, write
from make.paths import DATA
from make.report import data_of

from qwen3_profile.analysis.part_rows import PartRow
from qwen3_profile.analysis.rank_waiting import rank_waiting
from qwen3_profile.attribution.parts import Times
from qwen3_profile.passes.reading import Reading
from qwen3_profile.records.load import load
from qwen3_profile.records.ranks import collect_ranks, trace_files
from qwen3_profile.views.report import build, rank_cells
from qwen3_profile.views.report import rank_view as module
from qwen3_profile.views.report.build import _read_again
from qwen3_profile.views.report.rank_json import rank_json
from qwen3_profile.views.report.rank_view import RankView, passes_of_ranks, rank_view

NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
LEFT = 40_000


def trace_of(rank: int, size: int, ahead_ns: int = 0) -> bytes:
    """100 ns of q_proj from 50 on, an all-reduce from 10,000 + 100 * rank to 40,000, then norm.

    Args:
        ahead_ns: of the clock of this rank.
    """
    came, ahead = 10_000 + 100 * rank, ahead_ns
    said = {"Collective name": "allreduce", "In msg nelems": 512, "dtype": "BFloat16",
            "Process Group Ranks": str(list(range(size))), "Group size": size}  # fmt: skip
    data = document(
        step(0, ahead, 100_000 + ahead),
        label("prefill", ahead, 99_000 + ahead),
        label("layer.0", ahead, 900 + ahead),
        label("layer.0.attn", 10 + ahead, 900 + ahead),
        label("layer.0.attn.q_proj", 20 + ahead, 40 + ahead),
        launch(1, 30 + ahead, 35 + ahead),
        kernel(1, 50 + ahead, 150 + ahead),
        label("layer.0.attn.o_proj", 41 + ahead, 800 + ahead),
        cpu_op("aten::mm", 42 + ahead, 60 + ahead),
        launch(2, 45 + ahead, 50 + ahead),
        kernel(2, came + ahead, LEFT + ahead, name=NCCL, **said),
        label("norm", 901 + ahead, 1000 + ahead),
        launch(3, 910 + ahead, 920 + ahead),
        kernel(3, LEFT + ahead, LEFT + 500 + ahead),
    )
    info = json.dumps({"backend": "nccl", "rank": rank, "world_size": size}).encode()
    return data.replace(b'"schemaVersion"', b'"distributedInfo": %s, "schemaVersion"' % info, 1)


def view_of(folder: Path, size: int, ahead_ns: Sequence[int] = ()) -> RankView:
    for rank in range(size):
        ahead = ahead_ns[rank] if ahead_ns else 0
        write(folder / f"rank{rank}.json.gz", trace_of(rank, size, ahead))
    return seen(folder)


def seen(folder: Path) -> RankView:
    ranks = collect_ranks(trace_files(folder))
    passes = passes_of_ranks(ranks, (0, "prefill"))
    assert passes is not None
    works = {at: passes.work(at, _read_again(ranks[at].path)) for at in passes.lined}
    return rank_view(passes, works)


def test_bars_of_ranks_lie_on_the_first_ones_clock(tmp_path: Path) -> None:
    view = view_of(tmp_path, 3, ahead_ns=(0, 5000, 70_000))
    for rank, line in enumerate(view.lines):
        came = 10_000 + 100 * rank
        # From the first event of all: q_proj's kernel, at 50.
        assert line.work.start_ns.tolist() == [0, came - 50, LEFT - 50]
        names = [view.parts[part].path[-1] for part in line.work.part]
        assert names == ["q_proj", "nccl", "norm"]
        assert line.work.layer.tolist() == [0, 0, -1]
        assert line.collectives.start_ns.tolist() == [came - 50]
        assert line.collectives.dur_ns.tolist() == [LEFT - came]
        assert line.waiting_ns.tolist() == [200 - 100 * rank]
        assert line.kinds == ("all_reduce",)
    assert view.waiting.residual_ns == (0, 0)
    assert view.layer == 0


def test_what_each_part_took_and_waited_on_each_rank(tmp_path: Path) -> None:
    view = view_of(tmp_path, 3)
    assert view.columns == ((0, 0), (1, 1), (2, 2))
    cells = {row.path[1:]: cells for row, cells in zip(view.parts, view.cells, strict=False)}
    shared = cells["layers", "attn", "o_proj", "nccl"]
    assert [(each.work_ns, each.waiting_ns) for each in shared] == [
        (29_800, 200), (29_800, 100), (29_800, 0),
    ]  # fmt: skip
    assert [each.work_ns for each in cells["layers", "attn", "q_proj"]] == [100] * 3
    assert [each.work_ns for each in cells["norm",]] == [500] * 3
    # Behind the parts what is of none.
    assert len(view.cells) == len(view.parts) + 1
    assert {each.most_ns for each in view.cells[-1]} == {0}


def test_many_ranks_stand_in_groups_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_cells, "MOST_COLUMNS", 2)
    monkeypatch.setattr(module, "MOST_LINES", 3)
    view = view_of(tmp_path, 5)
    assert view.columns == ((0, 2), (3, 4))
    assert [line.rank for line in view.lines] == [0, 2, 4]
    (shared,) = [
        cells for row, cells in zip(view.parts, view.cells, strict=False) if row.path[-1] == "nccl"
    ]
    # Waiting is 400, 300, 200 | 100, 0.
    assert [(c.work_ns, c.waiting_ns, c.most_ns, c.most_rank) for c in shared] == [
        (29_600, 300, 30_000, 0), (29_600, 50, 29_700, 3),
    ]  # fmt: skip
    assert (view.ranks, view.cell_ranks) == (5, 5)


def test_a_collective_without_a_label_stands_in_its_own_range() -> None:
    paths = [("trace", "x"), ("trace", "nccl:all_reduce", "nccl"), ("trace", "nccl:all_reduce")]
    parts = [PartRow(path, Times(), is_leaf=True) for path in paths]
    assert module._row_of("", "all_reduce", parts) == 1
    assert module._row_of("", "all_gather", parts) == -1
    assert module._row_of("x", "all_gather", parts) == 0


def test_real_ranks_add_up_to_the_terminals_table() -> None:
    ranks = collect_ranks(trace_files(DATA / "ranks"))
    view = seen(DATA / "ranks")
    waiting = rank_waiting(ranks, (0, "prefill"))
    assert waiting is not None
    assert waiting.total is not None
    assert waiting.total.waiting is not None
    for at, rank in enumerate(ranks):
        (record,) = rank.records
        column = [row[at] for row in view.cells]
        assert sum(c.work_ns + c.waiting_ns for c in column) == record.times.device_ns
        line = view.lines[at]
        assert int(line.work.dur_ns.sum()) == record.times.device_ns
        assert int(line.waiting_ns.sum()) == sum(c.waiting_ns for c in column)
    waits = [sum(row[at].waiting_ns for row in view.cells) for at in range(2)]
    assert waits == [waiting.total.waiting.least_ns, waiting.total.waiting.most_ns]
    # Rank 0 lost most in layer 4, and the page begins there.
    assert view.layer == 4


def test_the_trace_of_each_rank_is_read_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """For its own parts and kernels, and for the view of all ranks."""
    read: list[str] = []

    def counted(path: Path, *args: Any, **kwargs: Any) -> Reading:
        read.append(path.name)
        return real(path, *args, **kwargs)

    loaded, real = load(DATA / "ranks"), build.read
    monkeypatch.setattr(build, "read", counted)
    page = data_of(build.build_report(DATA / "ranks", loaded))
    assert [config["rank_view"] for config in page["configs"]] == [0, 0]
    assert sorted(read) == [f"tp2_8b_prefill_rank{rank}.json.gz" for rank in range(2)]


def test_bars_are_joined_where_they_are_too_many() -> None:
    view = seen(DATA / "ranks")
    for limit in (60_000, 300):
        lines = rank_json(view, limit)["lines"]
        assert sum(len(line["work"]["dur"]) for line in lines) <= 2 * 732
        # Each event is in one of the bars.
        assert [sum(line["work"]["count"]) for line in lines] == [732, 732]
    assert sum(len(line["work"]["dur"]) for line in lines) <= 300


def test_one_process_has_no_view(commands: Commands, tmp_path: Path) -> None:
    write(tmp_path / "one.json.gz", trace_of(0, 1))
    assert commands.export(tmp_path, "one.json.gz", "--report", "r.html").code == 0
    data = data_of((tmp_path / "r.html").read_text())
    assert data["rank_views"] == []
    assert [config["rank_view"] for config in data["configs"]] == [None]
