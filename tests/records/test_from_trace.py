"""A lone trace becomes records; one whose sums would be wrong becomes an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from make.kineto import cpu_op, document, forward_pass, kernel, label, launch, step, write
from make.samples import run as sample_run

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import EXIT_DAMAGED, DamagedTraceError, TraceError
from qwen3_profile.records.from_run import collect_config
from qwen3_profile.records.load import collect_trace
from qwen3_profile.run_folder.run_json import ConfigResult, Measurement, Run

WORK = [launch(1, 5, 6), kernel(1, 10, 20), launch(2, 55, 56), kernel(2, 60, 75)]


def trace(folder: Path, *events: str) -> Path:
    return write(folder / "t.pt.trace.json", document(*events, base_time_ns=1_000_000))


def test_a_record_for_each_forward_pass(tmp_path: Path) -> None:
    path = trace(tmp_path, label("prefill", 0, 40), label("decode", 50, 90), *WORK)
    first, second = collect_trace(path)
    assert (first.phase, first.times.device_ns) == ("prefill", 10)
    assert (second.phase, second.times.device_ns) == ("decode", 15)
    assert first.id == "t.pt.trace.json@1000000-c0-r0-prefill"
    assert second.id == "t.pt.trace.json@1000000-c0-r1-decode"
    assert (first.facts.run, first.facts.trace) == ("t", "t.pt.trace.json")


def test_a_trace_without_labels_of_ours(tmp_path: Path) -> None:
    (record,) = collect_trace(trace(tmp_path, step(0, 0, 99), cpu_op("aten::mm", 0, 90), *WORK))
    assert (record.phase, record.times.device_ns, record.times.unattributed_ns) == ("trace", 25, 0)
    assert [part.name for part in record.times.forward.parts] == ["ProfilerStep"]


def test_a_trace_without_ranges(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="labels of qwen3_profile"):
        collect_trace(trace(tmp_path, cpu_op("aten::mm", 0, 90), *WORK))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([label("prefill", 0, 40), label("decode", 50, 90)], id="two passes in a step"),
        pytest.param([label("prefill", 0, 40), label("norm", 50, 90)], id="a label beside a pass"),
    ],
)
def test_sums_that_do_not_balance_are_refused_with_the_figures(
    tmp_path: Path, events: list[str]
) -> None:
    path = trace(tmp_path, step(3, 0, 99), *events, *WORK)
    with pytest.raises(DamagedTraceError) as caught:
        collect_trace(path)
    assert caught.value.exit_code == EXIT_DAMAGED
    line = str(caught.value)
    assert str(path) in line
    assert "step 3" in line
    assert "10 ns" in line
    assert "25 ns" in line


# --- the decode of a saved run: several traces, one record per measured run -----------------------

BARE_NS = ((1000, 2000, 3000, 4000, 6000), (10_000, 20_000, 30_000, 40_000, 50_000))
PART_NS = {0: 1000, 2: 2000, 4: 6000}


def decode_run(folder: Path, *, phase: str = "decode", cuda: bool = True) -> tuple[Run, int]:
    """A run of one layer with two measured decodes of 5 steps, 3 of them traced, in `folder`.

    The traced pass of position p takes PART_NS[p] a part, and a hundredfold its bare time.
    """
    measurements = []
    for run_index, bare in enumerate(BARE_NS):
        for position, leaf_ns in PART_NS.items():
            number = 10 * run_index + position
            name = f"d.run{run_index}.step{position}.kineto.json.gz"
            events = forward_pass(1, number=number, leaf_ns=leaf_ns, phase=phase, cuda=cuda)
            write(folder / name, document(*events))
            ns = bare[position]
            started = f"2026-01-02T03:04:0{run_index}+00:00"
            measurements.append(
                Measurement(run_index, started, ns, 100 * ns, number, name, (), position)
            )
    run = sample_run()
    result = replace(
        run.configs[0],
        phase="decode",
        config=RunConfig(batch_size=2, input_len=256, num_runs=2, decode_steps=5),
        measurements=tuple(measurements),
        step_times_ns=BARE_NS,
    )
    return replace(run, id="R", configs=(result,)), len(measurements)


def only(run: Run) -> ConfigResult:
    (result,) = run.configs
    return result


def test_a_decode_is_one_record_per_run_of_all_its_traced_steps(tmp_path: Path) -> None:
    run, _ = decode_run(tmp_path)
    first, second = collect_config(tmp_path, run, only(run))
    assert [first.id, second.id] == ["R-c0-r0-decode", "R-c0-r1-decode"]
    assert (first.phase, first.steps, first.run_index, second.run_index) == ("decode", 3, 0, 1)
    assert [(s.position, s.context_len) for s in first.traced] == [(0, 257), (2, 259), (4, 261)]
    assert [(s.bare_ns, s.profiled_ns) for s in second.traced] == [
        (10_000, 1_000_000), (30_000, 3_000_000), (50_000, 5_000_000),
    ]  # fmt: skip
    assert second.timestamp == "2026-01-02T03:04:01+00:00"
    # 19 parts a pass, and a kernel of a tenth of each
    assert first.times.forward.total.cpu_ns == 19 * (1000 + 2000 + 6000)
    assert first.times.device_ns == 19 * (100 + 200 + 600)
    assert [s.times.device_ns for s in first.traced] == [1900, 3800, 11_400]
    assert first.times.balances
    assert all(step.times.balances for step in first.traced)
    assert first.findings == second.findings == ()


def test_bare_times_are_of_every_step_and_the_disturbance_of_the_traced(tmp_path: Path) -> None:
    run, _ = decode_run(tmp_path)
    first, second = collect_config(tmp_path, run, only(run))
    assert (first.step_times_ns, second.step_times_ns) == BARE_NS
    assert (first.total_ns, second.total_ns) == (16_000 / 5, 30_000)
    assert first.profiled_ns == 100 * (1000 + 3000 + 6000) / 3
    # the mean of all bare steps is none of its business
    assert first.disturbance == pytest.approx(100.0)


def test_each_traced_step_is_a_record_of_its_own_for_a_table(tmp_path: Path) -> None:
    run, _ = decode_run(tmp_path)
    first, _ = collect_config(tmp_path, run, only(run))
    singles = first.one_by_one()
    assert [single.total_ns for single in singles] == [1000, 3000, 6000]
    assert [single.times.device_ns for single in singles] == [1900, 3800, 11_400]
    assert [single.traced[0].position for single in singles] == [0, 2, 4]
    assert {single.steps for single in singles} == {1}
    assert {single.id for single in singles} == {first.id}


def test_a_record_names_the_kernels_that_took_the_place_of_others(tmp_path: Path) -> None:
    run, _ = decode_run(tmp_path)
    result = replace(only(run), replaced=("norm: liger_kernel.LigerRMSNorm.forward",))
    environment = collect_config(tmp_path, run, result)[0].facts.environment
    assert environment is not None
    assert environment.kernels_replaced == ("norm: liger_kernel.LigerRMSNorm.forward",)


def test_a_trace_of_another_step_or_phase_is_refused(tmp_path: Path) -> None:
    run, _ = decode_run(tmp_path)
    first, *others = only(run).measurements
    wrong = replace(only(run), measurements=(replace(first, step=3), *others))
    with pytest.raises(TraceError, match="holds 0 decode passes in step 3, not one"):
        collect_config(tmp_path, run, wrong)
    run, _ = decode_run(tmp_path, phase="prefill")
    with pytest.raises(TraceError, match="holds 0 decode passes in step 0, not one"):
        collect_config(tmp_path, run, only(run))


def test_a_traced_step_without_device_events_is_refused(tmp_path: Path) -> None:
    """A session that began before the one before it had let go of the device records nothing."""
    run, _ = decode_run(tmp_path, cuda=False)
    with pytest.raises(DamagedTraceError, match="no device events of a pass on cuda:0"):
        collect_config(tmp_path, run, only(run))
    assert len(collect_config(tmp_path, run, only(run), accept_damaged=True)) == 2
    on_cpu = replace(run, device="cpu")
    assert len(collect_config(tmp_path, on_cpu, only(on_cpu))) == 2
