"""The collectives of several ranks: what is transfer, what is waiting, who came last, and why."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.kineto import document, host, kernel, label, launch, step, write
from make.paths import DATA, SHARED

from qwen3_profile.analysis.rank_waiting import LostTime, RankWaiting, rank_waiting
from qwen3_profile.attribution.collective_times import Collectives, kind_of
from qwen3_profile.attribution.message_sizes import array_bytes, bus_factor
from qwen3_profile.export import main
from qwen3_profile.records.matched_collectives import match_collectives
from qwen3_profile.records.ranks import RankTrace, collect_ranks, trace_files
from qwen3_profile.trace.messages import Message, read_message
from qwen3_profile.views.terminal.ranks import render_ranks

TP2 = DATA / "ranks"
# Two layers of 8B on 2 x H200, recorded without links from operators to kernels.
UNLINKED = DATA / "ranks_unlinked"
MS = 1_000_000


def nccl(
    number: int,
    start: int,
    end: int,
    name: str = "AllReduce",
    elements: int = 1 << 20,
    **args: object,
) -> list[str]:
    """A collective's kernel of BFloat16 between two ranks, launched at its number."""
    said = {
        "Collective name": name.lower(), "In msg nelems": elements, "Out msg nelems": elements,
        "dtype": "BFloat16", "Group size": 2, "Process Group Ranks": "[0, 1]",
    }  # fmt: skip
    kernel_name = f"ncclDevKernel_{name}_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
    return [
        launch(number, number * 10, number * 10 + 5),
        kernel(number, start, end, name=kernel_name, **(said | args)),
    ]


def work(number: int, start: int, end: int) -> list[str]:
    return [launch(number, number * 10, number * 10 + 5), kernel(number, start, end)]


def one_layer(late: int = 0, ahead: int = 0) -> list[str]:
    """A layer of 1 ms of work and an all-reduce of 2 ms in each block; times in ns.

    Args:
        late: how long nothing happens before the ffn's kernel begins.
        ahead: by how much the device's clock is.
    """
    first, second = 1 * MS + ahead, 4 * MS + ahead
    return [
        step(0, 0, 40 * MS),
        label("prefill", 0, 990),
        label("layer.0", 0, 990),
        label("layer.0.attn", 10, 200),
        label("layer.0.attn.q_proj", 20, 100),
        *work(3, ahead, first),
        label("layer.0.attn.o_proj", 110, 200),
        *nccl(12, first, first + 2 * MS),
        label("layer.0.ffn", 210, 900),
        label("layer.0.ffn.up_proj", 220, 300),
        *work(23, first + 2 * MS + late, second + late),
        label("layer.0.ffn.down_proj", 310, 900),
        *nccl(40, second + late, second + 5 * MS),
        # An event that outlasts all others together would be taken for damage.
        label("norm", 910, 980),
        *work(92, second + 5 * MS, second + 9 * MS),
        *work(93, second + 9 * MS, second + 13 * MS),
    ]


def ranks_of(folder: Path, *events: list[str]) -> tuple[RankTrace, ...]:
    for rank, each in enumerate(events):
        write(folder / f"rank{rank}.json", document(*each))
    return collect_ranks(trace_files(folder))


def waiting_of(folder: Path, *events: list[str]) -> RankWaiting:
    found = rank_waiting(ranks_of(folder, *events))
    assert found is not None
    return found


# --- worked by hand -------------------------------------------------------------------------------


def test_the_last_one_needs_the_transfer_and_the_first_one_waits(tmp_path: Path) -> None:
    found = waiting_of(tmp_path, one_layer(), one_layer(late=3 * MS))
    rows = {row.part: row for row in found.rows}
    assert list(rows) == ["attn.o_proj", "ffn.down_proj"]
    both, ffn = rows["attn.o_proj"], rows["ffn.down_proj"]
    assert (both.count, both.bytes, both.transfer_ns) == (1, 2 << 20, 2 * MS)
    assert both.waiting is not None
    assert both.waiting.most_ns == 0
    # Rank 0 is in the kernel for 5 ms, rank 1 for the last 2 of them.
    assert (ffn.transfer_ns, ffn.time.least_ns, ffn.time.most_ns) == (2 * MS, 2 * MS, 5 * MS)
    assert ffn.waiting is not None
    assert (ffn.waiting.least_ns, ffn.waiting.most_ns, ffn.waiting.slowest) == (0, 3 * MS, 0)
    assert found.total is not None
    assert found.total.transfer_ns == 4 * MS
    # 2 MiB in 2 ms; with two ranks the factor of an all-reduce is 1.
    assert ffn.algorithm_bytes_per_s == ffn.bus_bytes_per_s == (2 << 20) / 2e-3


@pytest.mark.parametrize("ahead", [0, -700, 250_000])
def test_the_straggler_and_where_it_lost_its_time(tmp_path: Path, ahead: int) -> None:
    """Whatever its clock says."""
    found = waiting_of(tmp_path, one_layer(), one_layer(late=3 * MS, ahead=MS + ahead))
    late = found.straggler
    assert late is not None
    assert (late.rank, late.last, late.of, late.held_ns) == (1, 1, 2, 3 * MS)
    assert late.lost == (LostTime("ffn.up_proj", 0, 3 * MS),)
    assert late.lost_at == LostTime("layer.0.ffn.up_proj", 0, 3 * MS)
    assert found.residual_ns == (0, 0)


def test_work_that_takes_longer_is_told_from_a_late_host(tmp_path: Path) -> None:
    late = one_layer(late=2 * MS)
    slow = [kernel(23, 3 * MS, 6 * MS) if '"name": "k23"' in text else text for text in late]
    found = waiting_of(tmp_path, one_layer(), slow)
    assert found.straggler is not None
    assert found.straggler.lost == (LostTime("ffn.up_proj", 2 * MS, 0),)
    assert "lost 2.000 to longer work: ffn.up_proj 2.000" in " ".join(
        render_ranks(collect_ranks(trace_files(tmp_path))).split()
    )


def test_nobody_waits_where_all_come_together(tmp_path: Path) -> None:
    found = waiting_of(tmp_path, one_layer(), one_layer())
    assert found.straggler is None
    assert found.total is not None
    assert found.total.waiting is not None
    assert found.total.waiting.most_ns == 0


def test_what_other_kernels_run_beside_is_overlapped(tmp_path: Path) -> None:
    beside = [launch(50, 500, 505), kernel(50, int(1.5 * MS), int(2.25 * MS), stream=9)]
    again = [launch(51, 510, 515), kernel(51, 2 * MS, int(2.5 * MS), stream=11)]
    found = waiting_of(tmp_path, [*one_layer(), *beside, *again], one_layer())
    assert found.total is not None
    assert (found.total.overlapped.least_ns, found.total.overlapped.most_ns) == (0, MS)
    shown = " ".join(render_ranks(collect_ranks(trace_files(tmp_path))).split())
    assert "overlapped with other kernels of the rank: 0 to 1.000 ms" in shown


# --- which is which -------------------------------------------------------------------------------


def test_a_trace_that_begins_later_is_matched_from_its_end(tmp_path: Path) -> None:
    events = one_layer(late=3 * MS)
    without_first = [text for text in events if '"correlation": 12' not in text]
    found = waiting_of(tmp_path, one_layer(), without_first)
    known = {row.part: row for row in found.rows if row.waiting is not None}
    assert list(known) == ["ffn.down_proj"]
    assert known["ffn.down_proj"].transfer_ns == 2 * MS
    (told,) = found.differences
    assert told.startswith("1 collectives are in the traces of some ranks only")


def test_numbers_of_torch_are_believed(tmp_path: Path) -> None:
    """The last one of rank 0 is not in the trace of rank 1."""
    mine = [*nccl(1, 0, 5 * MS, Seq=7), *nccl(2, 5 * MS, 6 * MS, Seq=8)]
    theirs = nccl(1, 3 * MS, 5 * MS, Seq=7)
    labels = [step(0, 0, 40 * MS), label("prefill", 0, 890), label("layer.0", 0, 890)]
    rest = [*work(5, 6 * MS, 12 * MS), *work(6, 12 * MS, 18 * MS)]
    found = waiting_of(tmp_path, [*labels, *mine, *rest], [*labels, *theirs, *rest])
    (known,) = [row for row in found.rows if row.waiting is not None]
    assert (known.count, known.transfer_ns) == (1, 2 * MS)


def test_ranks_that_do_not_do_the_same_are_not_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [text.replace(f": {1 << 20}", ": 512") for text in one_layer()]
    found = waiting_of(tmp_path, one_layer(), other)
    assert all(row.waiting is None for row in found.rows)
    (told,) = found.differences
    assert (
        "all_reduce of 1048576 BFloat16 on rank 0 and all_reduce of 512 BFloat16 on rank 1" in told
    )
    assert main([str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 0
    assert "the ranks do not do the same" in " ".join(capsys.readouterr().out.split())


def test_what_need_not_end_together_is_not_split(tmp_path: Path) -> None:
    labels = [step(0, 0, 40 * MS), label("prefill", 0, 890), label("layer.0", 0, 890)]
    rest = [*work(5, 6 * MS, 12 * MS), *work(6, 12 * MS, 18 * MS)]
    sends = (nccl(1, 0, end * MS, "SendRecv") for end in (3, 5))
    found = waiting_of(tmp_path, *([*labels, *each, *rest] for each in sends))
    (row,) = found.rows
    assert (row.kind, row.waiting, row.time.most_ns) == ("send_recv", None, 5 * MS)
    assert "not split: sends" in render_ranks(collect_ranks(trace_files(tmp_path)))


def test_groups_of_ranks_are_matched_apart(tmp_path: Path) -> None:
    """Ranks 0 and 1 are one group, 2 and 3 another; each is aligned in itself."""
    other = {"Process Group Ranks": "[2, 3]"}
    labels = [step(0, 0, 40 * MS), label("prefill", 0, 890), label("layer.0", 0, 890)]
    events = [
        [
            *labels,
            *work(9, 0, 9 * MS),
            *work(10, 9 * MS, 19 * MS),
            *nccl(1, start * MS, 5 * MS, **args),
        ]
        for start, args in ((0, {}), (2, {}), (1, other), (4, other))
    ]
    ranks = ranks_of(tmp_path, *events)
    assert ranks[0].matched is not None
    splits = ranks[0].matched.splits
    assert [each.transfer_ns.tolist() for each in splits] == [[3 * MS], [3 * MS], [MS], [MS]]
    assert [each.held_ns.tolist() for each in splits] == [[0], [2 * MS], [0], [3 * MS]]


@given(
    lengths=st.lists(
        st.lists(st.integers(0, 10**9), min_size=3, max_size=3), min_size=1, max_size=9
    ),
    shift=st.integers(-(10**12), 10**12),
)
def test_transfer_and_waiting_are_the_time(lengths: list[list[int]], shift: int) -> None:
    """Of every rank, to the nanosecond; and by the clocks' offset nothing changes."""
    count = len(lengths)
    table = np.array(lengths, np.int64)
    ends = np.cumsum(np.full(count, 2 * 10**9))
    none, zeros = np.empty((4, 0), np.int64), np.zeros(count, np.int32)
    message = Message("allreduce", 4, 4, "Float", 3)
    found = [
        Collectives(
            ("a",), (message,), zeros, zeros, zeros.astype(np.int64),
            ends - table[:, rank] + rank * shift, table[:, rank], zeros.astype(np.int64), none,
            True,
        )
        for rank in range(3)
    ]  # fmt: skip
    matched = match_collectives((0, 1, 2), found)
    for rank, split in enumerate(matched.splits):
        assert (split.transfer_ns == table.min(axis=1)).all()
        waits = table[:, rank] - split.transfer_ns
        assert (waits >= 0).all()
    assert matched.offset_ns == ({0: 0}, {0: shift}, {0: 2 * shift})
    assert matched.residual_ns == (0, 0)
    assert sum(matched.last) == count
    held = sum(int(split.held_ns.sum()) for split in matched.splits)
    assert held == int((table.max(axis=1) - table.min(axis=1)).sum())


@given(shifts=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=4))
def test_each_pass_is_aligned_by_itself(shifts: list[int]) -> None:
    """Passes that were recorded apart lie beside each other as each rank has put them."""
    passes = len(shifts)
    none, zeros = np.empty((4, 0), np.int64), np.zeros(2 * passes, np.int32)
    steps = np.repeat(np.arange(passes), 2)
    starts = np.arange(2 * passes) * 10**9
    long, message = np.full(2 * passes, 5), Message("allreduce", 4, 4, "Float", 2)
    ahead = np.repeat(np.array(shifts, np.int64), 2)
    found = [
        Collectives(("a",), (message,), zeros, zeros, steps, each, long, zeros * 0, none, True)
        for each in (starts, starts + ahead)
    ]
    matched = match_collectives((0, 1), found)
    assert matched.residual_ns == (0, 0)
    assert matched.offset_ns[1] == dict(enumerate(shifts))


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("allreduce", "all_reduce"),
        ("allgather_into_tensor_coalesced", "all_gather"),
        ("_allgather_base", "all_gather"),
        ("_reduce_scatter_base", "reduce_scatter"),
        ("all_to_allv", "all_to_all"),
        ("gloo:all_reduce", "all_reduce"),
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "send_recv"),
        ("ncclDevKernel_ReduceScatter_Sum_f32_RING_LL(ncclDevComm*)", "reduce_scatter"),
        ("void vllm::cross_device_reduce_1stage<__half, 8>(vllm::RankData*)", "all_reduce"),
        ("broadcast", "broadcast"),
        ("moeA2ADispatchKernel", "other"),
    ],
)
def test_kinds_have_one_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_kernel_that_says_nothing_carries_what_its_call_does(tmp_path: Path) -> None:
    """The call that its launch lies in, at 120 and at 400; to wait for one is no call."""
    bare = [text.replace('"Collective name"', '"other"') for text in one_layer()]
    sizes = {"In msg nelems": 512, "Out msg nelems": 512, "dtype": "Float", "Group size": 2}
    mine = [
        *bare,
        *(
            host("cpu_op", "record_param_comms", start, end, **{"Collective name": name}, **sizes)
            for name, start, end in (
                ("allreduce", 118, 130), ("wait", 390, 401), ("allreduce", 402, 410),
            )
        ),
    ]  # fmt: skip
    found = {row.part: row for row in waiting_of(tmp_path, mine, mine).rows}
    assert (found["attn.o_proj"].bytes, found["ffn.down_proj"].bytes) == (2048, None)


def test_sizes_are_told_where_operators_and_kernels_are_not_linked() -> None:
    """128 tokens of 4096 in bfloat16, and a row of the vocabulary."""
    found = rank_waiting(collect_ranks(trace_files(UNLINKED)))
    assert found is not None
    mib = 1 << 20
    assert [(row.part, row.count, row.bytes) for row in found.rows] == [
        ("embed_tokens", 1, mib), ("attn.o_proj", 2, mib), ("ffn.down_proj", 2, mib),
        ("lm_head", 1, 151_936 * 2),
    ]  # fmt: skip
    assert found.residual_ns is not None
    assert max(map(abs, found.residual_ns)) < 2_000


@pytest.mark.parametrize(
    ("name", "into", "out", "dtype", "expected"),
    [
        ("allreduce", 2_097_152, 2_097_152, "BFloat16", 4_194_304),
        ("allgather_into_tensor_coalesced", 151_936, 303_872, "BFloat16", 607_744),
        ("_reduce_scatter_base", 64, 32, "Float", 256),
        ("allreduce", 0, 0, "Float", None),
        ("allreduce", 8, 8, "Novel", None),
    ],
)
def test_the_size_is_that_of_the_whole_array(
    name: str, into: int, out: int, dtype: str, expected: int | None
) -> None:
    assert array_bytes(Message(name, into, out, dtype, 2)) == expected


@pytest.mark.parametrize(
    ("kind", "ranks", "factor"),
    [
        ("all_reduce", 2, 1.0), ("all_reduce", 8, 1.75), ("all_gather", 8, 0.875),
        ("reduce_scatter", 4, 0.75), ("all_to_all", 2, 0.5), ("broadcast", 8, 1.0),
        ("reduce", 8, 1.0), ("send_recv", 2, None), ("all_reduce", 1, None),
    ],
)  # fmt: skip
def test_factors_of_nccl_tests(kind: str, ranks: int, factor: float | None) -> None:
    assert bus_factor(kind, ranks) == factor


@pytest.mark.parametrize(
    "args",
    [
        b"{}",
        b'{"Collective name": 7}',
        b'{"Collective name": "x',
        b'{"In msg nelems": 4}',
        b'{"Collective name": "allreduce", "In msg nelems": -4}',
        b'{"Collective name": "allreduce", "In msg nelems": 1e300}',
        b'{"Collective name": "wait", "In msg nelems": 0}',
    ],
)
def test_odd_args_carry_nothing(args: bytes) -> None:
    assert read_message(args) is None


# --- the CPU --------------------------------------------------------------------------------------


def on_cpu(late: int) -> list[str]:
    """gloo writes its calls on a thread of its own."""
    us = 1000
    return [
        step(0, 0, 9000 * us),
        label("prefill", 0, 8990 * us),
        label("layer.0", 0, 8990 * us),
        label("layer.0.ffn", 0, 8000 * us),
        label("layer.0.ffn.up_proj", 10 * us, 100 * us + late),
        label("layer.0.ffn.down_proj", 110 * us + late, 7000 * us),
        host("user_annotation", "gloo:all_reduce", 200 * us + late, 6000 * us, thread=2),
        host("user_annotation", "gloo:barrier", 10_000 * us, 10_001 * us, thread=2),
    ]


def test_calls_of_gloo_are_split_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = waiting_of(tmp_path, on_cpu(0), on_cpu(5 * MS))
    (row,) = found.rows
    assert (row.part, row.kind, row.transfer_ns) == ("ffn.down_proj", "all_reduce", 800_000)
    assert row.waiting is not None
    assert row.waiting.most_ns == 5 * MS
    assert found.straggler is not None
    assert found.straggler.rank == 1
    assert found.straggler.lost_at == LostTime("layer.0.ffn.up_proj", 5 * MS, 0)
    assert main([str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 0
    assert "straggler: rank 1" in capsys.readouterr().out


# --- two H200 -------------------------------------------------------------------------------------


def plain(path: Path) -> list[dict[str, Any]]:
    """The collectives' kernels of a trace in their order, by json and a loop."""
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    found = [e for e in events if e.get("cat") == "kernel" and e["name"].startswith("nccl")]
    return sorted(found, key=lambda event: float(event["ts"]))


def test_two_ranks_of_an_h200_by_a_plain_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = collect_ranks(trace_files(TP2))
    both = [plain(each.path) for each in ranks]
    ns = [[round(float(e["dur"]) * 1000) for e in events] for events in both]
    transfer = [min(pair) for pair in zip(*ns, strict=True)]
    found = rank_waiting(ranks)
    assert found is not None
    assert found.total is not None
    assert found.total.waiting is not None
    assert found.total.transfer_ns == sum(transfer) == 926_240
    waits = [sum(mine) - sum(transfer) for mine in ns]
    assert (
        [found.total.waiting.least_ns, found.total.waiting.most_ns]
        == waits
        == [274_687, 22_625_627]
    )
    assert found.straggler is not None
    last = Counter(0 if one < other else 1 for one, other in zip(*ns, strict=True))
    assert (found.straggler.rank, found.straggler.last) == (0, last[0]) == (0, 23)
    # What it lost between the ends of collectives is what the other waited for, but for the ends.
    net = sum(each.ns for each in found.straggler.lost)
    assert net == pytest.approx(found.straggler.held_ns, rel=0.03)
    wide = [row for row in found.rows if row.part == "ffn.down_proj"]
    assert wide[0].bus_bytes_per_s == pytest.approx(4_194_304 * 1e9 / np.median(transfer[1:24:2]))
    assert main([str(TP2), "--output-dir", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "all 25 - 23.552 0.926 0.275 22.626 1 - -" in shown
    saved = json.loads((tmp_path / "timing_records.json").read_bytes())
    for entry, mine in zip(saved, ns, strict=True):
        rows = entry["collectives"]
        assert sum(row["time"] for row in rows) == pytest.approx(sum(mine) / 1e9)
        assert sum(row["transfer_at_most"] for row in rows) == pytest.approx(sum(transfer) / 1e9)
        for row in rows:
            assert row["time"] == pytest.approx(row["transfer_at_most"] + row["waiting"])
            assert row["time"] == pytest.approx(row["exposed"] + row["overlapped"])
        per_part = entry["nccl_cuda"] + entry["communication"].get("other", 0)
        assert per_part == pytest.approx(sum(mine) / 1e9)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded traces are not here")
def test_windows_of_four_ranks_are_matched_from_their_ends() -> None:
    ranks = collect_ranks(sorted(SHARED.glob("torchrec_v100x4_qcomm_r*.json.gz")))
    assert [len(each.collectives) for each in ranks] == [31, 31, 27, 31]
    found = rank_waiting(ranks)
    assert found is not None
    assert found.straggler is not None
    assert (found.straggler.rank, found.straggler.last, found.straggler.of) == (2, 10, 12)
    # V100s of one host: their ends lie within 0.12 ms, waits of tens of ms.
    assert found.residual_ns is not None
    assert max(map(abs, found.residual_ns)) < 120_000
