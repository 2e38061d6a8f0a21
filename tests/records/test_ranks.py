"""A folder with one trace of each rank: who is who, the spread, and the time of collectives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from make.kineto import (
    cpu_op,
    document,
    forward_pass,
    host,
    kernel,
    label,
    launch,
    read,
    self_cpu_ns,
    write,
)
from make.paths import DATA, SHARED
from make.random_traces import traces

from qwen3_profile import labels
from qwen3_profile.attribution import collective_kernels
from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.collective_kernels import collective_kind
from qwen3_profile.attribution.collectives import is_collective, split_collectives
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import collectives
from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.export import main
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.passes.ranges import read_ranges
from qwen3_profile.passes.reading import DeviceTotals
from qwen3_profile.records.from_trace import records_of
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.records.load import collect_trace
from qwen3_profile.records.ranks import RankTrace, collect_ranks, trace_files
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.trace import read_trace
from qwen3_profile.views.terminal.ranks import render_ranks
from qwen3_profile.views.terminal.tables import render

TRACES = SHARED
TORCHREC = sorted(TRACES.glob("torchrec_v100x4_qcomm_r*.json.gz"))

NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevComm*, unsigned long, ncclWork*)"


def pass_events(nccl_ns: int) -> list[str]:
    """One layer; its o_proj launches 100 ns of work and an all-reduce, its attn another one.

    Beside them the layer has work as long as the all-reduce: an event that outlasts all others
    together is taken for damage.
    """
    return [
        label("prefill", 0, 1000),
        label("layer.0", 0, 1000),
        label("layer.0.attn", 10, 900),
        cpu_op("layer.0.attn.o_proj", 20, 100),
        launch(1, 30, 40),
        kernel(1, 50, 150),
        launch(2, 45, 50),
        kernel(2, 150, 150 + nccl_ns, name=NCCL),
        launch(4, 950, 960),
        kernel(4, 10_000_000, 10_000_000 + nccl_ns),
        launch(3, 500, 510),
        kernel(3, 10_000, 10_000 + 7, stream=9, name="ncclKernel_SendRecv(ncclDevComm*)"),
    ]


def rank_file(folder: Path, name: str, nccl_ns: int = 50, rank: int | None = None) -> Path:
    data = document(*pass_events(nccl_ns))
    if rank is not None:
        info = json.dumps({"backend": "nccl", "rank": rank, "world_size": 4})
        data = data.replace(b'"schemaVersion"', b'"distributedInfo": %s, "schemaVersion"'
                            % info.encode(), 1)  # fmt: skip
    return write(folder / name, data)


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        pytest.param("rank-3.json", 3, id="rank"),
        pytest.param("my_rank_12.json.gz", 12, id="rank_after_a_word"),
        pytest.param("1712345678.9-TP-5.trace.json.gz", 5, id="sglang"),
        pytest.param("worker2_step_12.169.pt.trace.json", 2, id="worker"),
        pytest.param("qcomm_r7.json.gz", 7, id="r"),
    ],
)
def test_the_rank_is_in_the_name(tmp_path: Path, name: str, rank: int) -> None:
    (found,) = collect_ranks([rank_file(tmp_path, name)])
    assert found.rank == rank
    assert [record.facts.rank for record in found.records] == [rank]


def test_what_the_file_says_counts_more_than_its_name(tmp_path: Path) -> None:
    (found,) = collect_ranks([rank_file(tmp_path, "rank0.json", rank=6)])
    assert found.rank == 6
    assert found.records[0].facts.world_size == 4


def test_a_folder_where_no_trace_says_its_rank_is_refused(tmp_path: Path) -> None:
    files = [rank_file(tmp_path, name) for name in ("one.json", "two.json")]
    with pytest.raises(TraceError, match="says its rank neither"):
        collect_ranks(files)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        pytest.param(
            ["tp2_prefill_rank0.json", "tp2_prefill_rank1.json",
             "tp2_decode_rank0.json", "tp2_decode_rank1.json"],
            [("tp2_decode", 0), ("tp2_decode", 1), ("tp2_prefill", 0), ("tp2_prefill", 1)],
            id="phases in the name",
        ),
        pytest.param(
            ["1759-TP-0-DECODE.trace.json", "1759-TP-1-DECODE.trace.json",
             "1759-TP-0-EXTEND.trace.json", "1759-TP-1-EXTEND.trace.json"],
            [("DECODE", 0), ("DECODE", 1), ("EXTEND", 0), ("EXTEND", 1)], id="SGLang's stages",
        ),
        pytest.param(
            ["rank0.175970.pt.trace.json", "rank1.175971.pt.trace.json",
             "rank0.175990.pt.trace.json", "rank1.175989.pt.trace.json"],
            [("#1", 0), ("#1", 1), ("#2", 0), ("#2", 1)], id="vLLM's, of two sessions",
        ),
        pytest.param(
            ["rank0.json", "rank1.json", "warmup_rank0.json"],
            [("rank", 0), ("rank", 1), ("warmup", 0)], id="a warm-up",
        ),
        pytest.param(
            ["rank1.json", "copy_of_rank1.json"], [("copy_of", 1), ("rank", 1)], id="a copy"
        ),
        pytest.param(
            ["dp0_pp0_tp0_dcp0_ep0_rank0.175970.pt.trace.json",
             "dp0_pp0_tp1_dcp0_ep1_rank1.175971.pt.trace.json"],
            [("", 0), ("", 1)], id="one of each rank",
        ),
    ],
)  # fmt: skip
def test_several_traces_of_a_rank_are_grouped(
    tmp_path: Path, names: list[str], groups: list[tuple[str, int]]
) -> None:
    for name in names:
        rank_file(tmp_path, name)
    found = collect_ranks(trace_files(tmp_path))
    assert [(each.group, each.rank) for each in found] == groups


def test_each_group_has_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a_rank0.json", "a_rank1.json", "b_rank0.json", "b_rank1.json"):
        rank_file(tmp_path, name)
    out = tmp_path / "out"
    assert main([str(tmp_path), "--output-dir", str(out), f"--report={out}/r.html"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("=== a ===") < shown.index("=== b ===")
    assert shown.count("2 ranks: 0, 1") == 2


def test_the_front_end_of_a_server_is_left_out_with_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DATA / "cases" / "folder_vllm_frontend"
    assert main([str(folder), "--output-dir", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "2 ranks: 0, 1" in told.out
    assert told.err.count("warning") == 1
    assert "async_llm" in told.err


MERGED = DATA / "cases" / "merged_processes" / "trace.json"


def test_the_merged_file_beside_the_ranks_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rank_file(tmp_path, "1759-TP-0.trace.json")
    rank_file(tmp_path, "1759-TP-1.trace.json")
    (tmp_path / "merged-1759.trace.json").write_bytes(MERGED.read_bytes())
    assert main([str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "2 ranks: 0, 1" in told.out
    assert told.err.count("warning") == 1
    assert "merged-1759" in told.err


def test_a_merged_file_alone_in_its_folder_gives_its_ranks(tmp_path: Path) -> None:
    (tmp_path / "merged-1759.trace.json").write_bytes(MERGED.read_bytes())
    found = collect_ranks(trace_files(tmp_path))
    assert [(each.rank, each.totals.ns, len(each.records)) for each in found] == [
        (0, 140_000, 1), (1, 140_000, 1),
    ]  # fmt: skip


def test_what_is_no_trace_is_told_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rank_file(tmp_path, "rank0.json")
    write(tmp_path / "config.json", b'{"a": 1}')
    write(tmp_path / "list.json", b"[]")
    write(tmp_path / ".rank1.json", b"hidden")
    write(tmp_path / "notes.txt", b"text")
    files = trace_files(tmp_path)
    assert [path.name for path in files] == ["config.json", "list.json", "rank0.json"]
    assert [rank.rank for rank in collect_ranks(files)] == [0]
    told = capsys.readouterr().err
    assert "config.json" in told
    assert "list.json" in told


def test_a_damaged_rank_is_not_left_out(tmp_path: Path) -> None:
    good = rank_file(tmp_path, "rank0.json")
    bad = write(tmp_path / "rank1.json", good.read_bytes()[:-40])
    with pytest.raises(DamagedTraceError):
        collect_ranks([good, bad])


def test_the_spread_over_the_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "ranks"
    folder.mkdir()
    for rank, nccl_ns in enumerate((1_000_000, 5_000_000, 3_000_000)):
        rank_file(folder, f"rank{rank}.json.gz", nccl_ns)
    assert main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert ["o_proj", "1.000", "3.000", "5.000", "1"] in rows
    assert rows.count(["nccl", "1.000", "3.000", "5.000", "1"]) == 2  # the trace's, and o_proj's
    assert ["nccl", "0.000", "0.000", "0.000", "-"] in rows
    saved = json.loads((tmp_path / "out" / "timing_records.json").read_text())
    assert [entry["rank"] for entry in saved] == [0, 1, 2]
    assert len({entry["id"] for entry in saved}) == 3


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        pytest.param([0, 3], "2 of 4 ranks: 0, 3;", id="two_are_missing"),
        pytest.param([0, 1, 2, 3], "4 ranks: 0, 1, 2, 3;", id="all"),
        pytest.param([None, None], "2 ranks: 0, 1;", id="nobody_says_how_many"),
    ],
)
def test_ranks_that_are_missing_are_told(
    tmp_path: Path, ranks: list[int | None], told: str
) -> None:
    for at, rank in enumerate(ranks):
        rank_file(tmp_path, f"rank{at}.json", rank=rank)
    assert render_ranks(collect_ranks(trace_files(tmp_path))).startswith(told)


def test_a_part_that_a_rank_has_not_counts_as_nothing(tmp_path: Path) -> None:
    both = rank_file(tmp_path, "rank0.json")
    events = [label("prefill", 0, 1000), label("layer.0", 0, 1000), launch(1, 5, 6),
              kernel(1, 10, 2_000_010)]  # fmt: skip
    ranks = collect_ranks([both, write(tmp_path / "rank1.json", document(*events))])
    (line,) = [x for x in render_ranks(ranks).splitlines() if x.split()[:1] == ["o_proj"]]
    assert line.split() == ["o_proj", "0", "0.000", "0.000", "0"]


def test_traces_without_ranges_still_have_their_totals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        events = (launch(1, 0, 5), kernel(1, 10, 10 + 1_000_000 * (rank + 1), name=NCCL))
        write(tmp_path / f"rank{rank}.json", document(*events))
    out = tmp_path / "out"
    assert main([str(tmp_path), "--output-dir", str(out)]) == 0
    shown = capsys.readouterr().out
    assert ["nccl", "1.000", "1.500", "2.000", "1"] in [line.split() for line in shown.splitlines()]
    assert "--ledger FILE" in shown
    assert not list(out.glob("*"))


def training_events(nccl_ns: int) -> list[str]:
    """Ranges of others: one in one, a name twice, one of a framework; a kernel outside all."""
    ms = 1_000_000
    return [
        label("ProfilerStep#3", 0, 90),
        label("my.forward", 0, 50),
        label("wait", 10, 20),
        label("wait", 60, 70),
        label("Optimizer.step#SGD.step", 80, 90),
        launch(1, 1, 2),
        kernel(1, 5, 5 + 2 * ms),
        launch(2, 11, 12),
        kernel(2, 5 * ms, 5 * ms + nccl_ns, name=NCCL),
        launch(3, 61, 62),
        kernel(3, 30 * ms, 30 * ms + nccl_ns, name=NCCL),
        launch(4, 85, 86),
        kernel(4, 60 * ms, 61 * ms),
    ]


def test_ranks_without_passes_are_compared_by_their_ranges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ranks"
    folder.mkdir()
    for rank, nccl_ns in enumerate((3_000_000, 9_000_000, 1_000_000)):
        write(folder / f"rank{rank}.json", document(*training_events(nccl_ns)))
    assert main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    begin = shown.index("trace: cuda of each range, with all in it; 3 ranks")
    rows = [line.rsplit(maxsplit=4) for line in shown[begin:].splitlines()[2:11]]
    assert rows == [
        ["trace", "5.000", "9.000", "21.000", "1"],
        ["  ProfilerStep", "5.000", "9.000", "21.000", "1"],
        ["    my_forward", "3.000", "5.000", "11.000", "1"],
        ["      wait", "1.000", "3.000", "9.000", "1"],
        ["        nccl", "1.000", "3.000", "9.000", "1"],
        ["    wait", "1.000", "3.000", "9.000", "1"],
        ["      nccl", "1.000", "3.000", "9.000", "1"],
        ["    Optimizer_step#SGD_step", "1.000", "1.000", "1.000", "-"],
        ["unattributed", "0", "0", "0", "-"],
    ]
    saved = json.loads((tmp_path / "out" / "timing_records.json").read_text())
    assert [(entry["rank"], entry["phase"]) for entry in saved] == [(n, "trace") for n in range(3)]
    assert [entry["nccl"] for entry in saved] == [{"wait.nccl": ms / 1000} for ms in (6, 18, 2)]
    for entry in saved:
        assert entry["nccl_cuda"] == entry["nccl"]["wait.nccl"]
        ledger = entry["ledger_ns"]
        assert ledger["labels"] + ledger["unattributed"] == ledger["device_time"]
        assert entry["model_details"]["ProfilerStep_cuda"] == pytest.approx(
            entry["nccl_cuda"] + 0.003
        )


@given(traces())
@settings(max_examples=60)
def test_a_whole_trace_balances_whatever_its_ranges(events: list[str]) -> None:
    mine = [text for text in events if '"name": "prefill"' not in text]
    trace = read(*mine)
    ledger = make_ledger(trace)
    found = read_ranges(Path("t.json"), trace, ())
    assert (found is not None) == bool(ledger.rows or ledger.framework_rows)
    for one in records_of(found) if found else ():
        assert one.times.balances
        assert one.times.device_ns == ledger.times.device_ns
        own = sum(part.own.device_ns for _, part in one.times.forward.walk())
        assert own == one.times.forward.total.device_ns
        assert render_spread_of(one)


def render_spread_of(record: TimingRecord) -> str:
    rank = RankTrace(Path("t.json"), 0, None, DeviceTotals(0, 0, 0, ()), (record,))
    return render_ranks((rank, rank))


def test_a_standalone_trace_without_passes_has_its_ranges(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", document(*training_events(1_000_000)))
    (record,) = collect_trace(path)
    shown = [line.split()[:5] for line in render([record]).splitlines()]
    assert "trace t.json: by range, as it shows no layers" in render([record])
    # The sentence is of the whole trace, as the totals above it are.
    times = record.times
    busy = (
        f"GPU busy {times.busy_ns / 1e6:.3f} of the {(times.busy_ns + times.gap_ns) / 1e6:.3f} ms"
    )
    assert f"{busy} until its last kernel ends" in " ".join(render([record]).split())
    # Whatever a range holds is in its row, so ranges inside it are below it.
    assert ["ProfilerStep", "1", "0.000", "5.000", "4"] in shown
    assert ["my_forward", "1", "0.000", "3.000", "2"] in shown
    assert ["Optimizer_step#SGD_step", "1", "0.000", "1.000", "1"] in shown
    most = "Most CUDA time inside these ranges: my_forward 40.0%, nccl 40.0%,"
    assert f"{most} Optimizer_step#SGD_step 20.0%;" in " ".join(render([record]).split())


def test_a_trace_without_any_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="--ledger FILE"):
        collect_trace(write(tmp_path / "t.json", document(launch(1, 1, 2), kernel(1, 5, 9))))


def test_many_ranges_are_cut_to_those_of_the_most_time(tmp_path: Path) -> None:
    events = [label(f"range {i}", 100 * i, 100 * i + 50) for i in range(60)]
    events += [launch(i, 100 * i + 1, 100 * i + 2) for i in range(1, 60)]
    events += [kernel(i, 100 * i + 3, 100 * i + 13 + i) for i in range(1, 60)]
    (record,) = collect_trace(write(tmp_path / "t.json", document(*events)))
    shown = render([record])
    assert "range 59" in shown
    assert "range 3 " not in shown
    assert "rows of the most time" in shown


def test_what_is_odd_on_several_ranks_is_told_once(tmp_path: Path) -> None:
    for rank in range(3):
        lost = [kernel(99, 600, 650 + rank)] if rank else []
        write(tmp_path / f"rank{rank}.json", document(*pass_events(50), *lost))
    shown = " ".join(render_ranks(collect_ranks(trace_files(tmp_path))).split())
    assert shown.count("no launch record") == 1
    assert "warning: rank 1: 1 of 5 device events cannot be given to a label" in shown
    assert shown.endswith(", and 1 more rank has such")


def test_a_config_of_ranks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rank_file(tmp_path, "rank0.json")
    assert main([str(tmp_path), "--config", "0", "--output-dir", str(tmp_path / "out")]) == 2
    assert "--config" in capsys.readouterr().err


def part(record_forward: Part, name: str) -> Part:
    return next(below for _, below in record_forward.walk() if below.name == name)


def test_collectives_are_a_part_of_the_part_that_launched_them(tmp_path: Path) -> None:
    (record,) = collect_trace(rank_file(tmp_path, "t.json", 50))
    forward = record.times.forward
    o_proj = part(forward, "layer.0.attn.o_proj")
    nccl = part(forward, "layer.0.attn.o_proj.nccl")
    assert (o_proj.total.device_ns, o_proj.own.device_ns) == (150, 100)
    assert (nccl.total.device_ns, nccl.total.device_events, nccl.total.cpu_ns) == (50, 1, 0)
    assert part(forward, "layer.0.attn.nccl").total.device_ns == 7
    assert sum(item.own.device_ns for item in collectives(forward)) == 57
    assert record.times.balances
    entry = record.to_json()
    assert entry["nccl_cuda"] == 57 / 1e9
    assert entry["nccl"]["layer.0.attn.o_proj.nccl"] == 50 / 1e9
    assert entry["layer_details"][0]["attn_details"]["nccl_cuda"] == 7 / 1e9


def test_collectives_of_modules_too(tmp_path: Path) -> None:
    module = "nn.Module: RowParallelLinear_0"
    events = (
        host("python_function", "nn.Module: LlamaDecoderLayer_0", 0, 100),
        host("python_function", "nn.Module: LlamaMLP_0", 10, 90),
        host("python_function", module, 20, 80),
        launch(1, 30, 40),
        kernel(1, 50, 60, name=NCCL),
    )
    (record,) = collect_trace(write(tmp_path / "t.json", document(*events)))
    assert part(record.times.forward, "layer.0.ffn.down_proj.nccl").total.device_ns == 10


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(NCCL, True, id="today"),
        pytest.param("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", True, id="before"),
        pytest.param("void ncclKernel_X()", True, id="with_its_type"),
        pytest.param("rcclAllReduce", True, id="rccl"),
        pytest.param("ncclSymDevKernel_AllGather_LL(ncclSymDevArgs)", True, id="symmetric"),
        pytest.param("ncclSymkDevKernel_AllReduce_RSxLD_AGxST_sum_bf16", True, id="symk"),
        pytest.param("ncclAllReduceRingLLKernel_sum_f32(ncclColl)", True, id="of_2020"),
        pytest.param("ampere_gemm", False, id="a_matmul"),
        pytest.param("my_ncclKernel_lookalike", False, id="only_at_the_start"),
    ],
)
def test_collectives_are_known_by_their_names(name: str, expected: bool) -> None:
    trace = read(launch(1, 0, 5), kernel(1, 10, 20, name=name))
    assert is_collective(trace).tolist() == [expected]


@pytest.mark.parametrize(
    ("kernel_name", "kind"),
    [
        ("void rcclGenericKernel<1, false>(ncclDevKernelArgsStorage<4096ul>)", "nccl"),
        ("mscclKernel_Sum_half_Simple_false(ncclDevComm*, mscclAlgo*, mscclWork*)", "msccl"),
        ("void sglang::allreduce_LL_1node<__half>(mscclpp::MemoryChannelDeviceHandle*)", "mscclpp"),
        ("void vllm::cross_device_reduce_1stage<__half, 8>(vllm::RankData*)", "custom_all_reduce"),
        ("void sglang::cross_device_reduce_2stage<__half, 8>()", "custom_all_reduce"),
        ("void aiter::reduce_scatter_cross_device_store<__half, 8>()", "custom_all_reduce"),
        ("void quickreduce::allreduce_prototype_twoshot<X, __half>(__half const*)", "quickreduce"),
        ("void (anonymous namespace)::multimem_all_reduce_kernel<X, 16>()", "symmetric_memory"),
        ("two_shot_all_reduce_kernel_inplace", "symmetric_memory"),
        (
            "void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport"
            "<(flashinfer::trtllm_allreduce_fusion::AllReduceFusionPattern)1, __half, 2>()",
            "trtllm_flashinfer",
        ),
        ("moeA2ADispatchKernel", "trtllm_flashinfer"),
        ("void deep_ep::internode_ll::dispatch<true, 7168>(void*)", "deepep"),
        ("void deep_ep::intranode::combine<__half, 8>()", "deepep"),
        ("void deep_ep::layout::get_dispatch_layout<256, 32, 8>()", None),
        ("EpCombineIntraNodeKernel_bf16", "mori"),
        ("void barrier_on_stream_kernel_threadgroup<(threadgroup_t)1>(int, int)", "nvshmem"),
        ("triton_poi_fused_add_all_reduce_4", None),
        ("void at::native::reduce_kernel<512, 1>()", None),
    ],
)
def test_who_carries_the_data(kernel_name: str, kind: str | None) -> None:
    assert collective_kind(kernel_name) == kind


def test_what_is_shown_as_communication_says_who_carries_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in range(2):
        data = document(*pass_events(2_000_000)).replace(
            b"ncclKernel_SendRecv", b"void deep_ep::intranode::dispatch<8>"
        )
        write(tmp_path / f"rank{rank}.json", data)
    assert main([str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    # On both ranks as long: there is no rank of the maximum, nor a column of it.
    assert ["nccl", "2.000", "2.000", "2.000"] in rows
    assert ["deepep", "0.000", "0.000", "0.000"] in rows
    saved = json.loads((tmp_path / "out" / "timing_records.json").read_bytes())
    (record, _) = saved["records"] if isinstance(saved, dict) else saved
    assert record["communication"] == pytest.approx({"nccl": 2e-3, "deepep": 7e-9})


def test_the_kinds_of_the_table_are_names_of_parts() -> None:
    assert [kind for kind, _ in collective_kernels._KINDS] == list(labels.COLLECTIVES)


def test_symmetric_kernels_are_nccls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = DATA / "cases" / "folder_symmetric_nccl" / "r"
    assert main([str(folder), "--output-dir", str(tmp_path)]) == 0
    assert "nccl 0.030 0.030 0.030" in " ".join(capsys.readouterr().out.split())


def test_without_collectives_nothing_changes() -> None:
    trace = read(*forward_pass(2))
    found = attribute(trace, build_scopes(trace, select_labels(trace)))
    assert split_collectives(found) is found


def test_sums_stay_what_they_were() -> None:
    trace = read(*pass_events(50))
    before = attribute(trace, build_scopes(trace, select_labels(trace)))
    after = split_collectives(before)
    assert after.sums.sum(axis=0).tolist() == before.sums.sum(axis=0).tolist()
    assert self_cpu_ns(after.scopes).sum() == self_cpu_ns(before.scopes).sum()
    (old,), (new,) = read_steps(before), read_steps(after)
    assert new.forward.total == old.forward.total


@pytest.mark.skipif(not TORCHREC, reason="the recorded traces are not here")
def test_four_ranks_of_a_real_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder_of(TORCHREC, tmp_path)), "--output-dir", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "4 ranks: 0, 1, 2, 3" in shown
    rows = [line.rsplit(maxsplit=4) for line in shown.splitlines()]
    assert ["    ## forward ##", "161.679", "205.780", "208.495", "0"] in rows
    saved = json.loads((tmp_path / "out" / "timing_records.json").read_text())
    assert [entry["rank"] for entry in saved] == [0, 1, 2, 3]
    for entry, path in zip(saved, TORCHREC, strict=True):
        ledger = make_ledger(read_trace(path))
        assert entry["ledger_ns"]["device_time"] == ledger.times.device_ns
        assert 0 < entry["nccl_cuda"] < entry["forward_cuda"]


def folder_of(files: list[Path], tmp_path: Path) -> Path:
    """A folder with links to the files."""
    folder = tmp_path / "ranks"
    folder.mkdir()
    for path in files:
        (folder / path.name).symlink_to(path)
    return folder
