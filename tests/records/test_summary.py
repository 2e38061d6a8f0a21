"""Statistics of the runs of one config, against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from make.samples import decode_record, record

from qwen3_profile.records.quantiles import token_times
from qwen3_profile.records.summary import Summary, config_id, is_noisy, spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(
            [4, 1, 3, 2],
            {
                "median": 2.5,
                "mean": 2.5,
                "std": (5 / 3) ** 0.5,
                "min": 1,
                "max": 4,
                "iqr": 1.5,
                "p50": 2.5,
                "p90": 3.7,
                "p99": 3.97,
            },
            id="four in any order, ranks between them linear",
        ),
        pytest.param(
            [1, 2, 4, 8, 100],
            {
                "median": 4,
                "mean": 23,
                "std": 1860**0.5,
                "min": 1,
                "max": 100,
                "iqr": 6,
                "p50": 4,
                "p90": 63.2,
                "p99": 96.32,
            },
            id="an outlier moves the mean, not the median",
        ),
        pytest.param(
            [2, 4],
            {
                "median": 3,
                "mean": 3,
                "std": 2**0.5,
                "min": 2,
                "max": 4,
                "iqr": 1,
                "p50": 3,
                "p90": 3.8,
                "p99": 3.98,
            },
            id="two: the sample's deviation",
        ),
        pytest.param(
            [7],
            {
                "median": 7,
                "mean": 7,
                "std": 0,
                "min": 7,
                "max": 7,
                "iqr": 0,
                "p50": 7,
                "p90": 7,
                "p99": 7,
            },
            id="one has no deviation",
        ),
    ],
)
def test_spread(values: list[float], expected: dict[str, float]) -> None:
    stats = spread(values)
    assert stats == pytest.approx({**expected, "runs": len(values)})
    assert isinstance(stats["runs"], int)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_equal_numbers_have_no_spread(count: int) -> None:
    """Three times 0.1, in floats, is more than 0.3."""
    stats = spread([0.1] * count)
    assert {stats[key] for key in ("median", "mean", "min", "max")} == {0.1}
    assert stats["std"] == pytest.approx(0, abs=1e-15)
    assert stats["iqr"] == 0


@pytest.mark.parametrize(
    ("median", "iqr", "noisy"),
    [
        pytest.param(100.0, 9.0, False, id="under a tenth"),
        pytest.param(100.0, 10.0, False, id="a tenth"),
        pytest.param(100.0, 10.5, True, id="over a tenth"),
        pytest.param(0.0, 0.0, False, id="all zero"),
    ],
)
def test_noisy_is_an_iqr_over_a_tenth_of_the_median(median: float, iqr: float, noisy: bool) -> None:
    assert is_noisy({"median": median, "iqr": iqr}) is noisy


@pytest.mark.parametrize(
    ("ids", "same"),
    [
        pytest.param(("A-c0-r0-prefill", "A-c0-r12-prefill"), True, id="two runs of a config"),
        pytest.param(("A-c0-r0-prefill", "A-c1-r0-prefill"), False, id="two configs"),
        pytest.param(("A-c0-r0-prefill", "A-c0-r0-decode"), False, id="two phases"),
        pytest.param(("A-x-c0-r0-prefill", "A-y-c0-r0-prefill"), False, id="two runs' names"),
    ],
)
def test_config_id(ids: tuple[str, str], same: bool) -> None:
    first, second = (config_id(text) for text in ids)
    assert (first == second) is same
    assert config_id("A-c0-r0-prefill") == "A-c0-prefill"


def summarise(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    summary = Summary()
    for each in records:
        summary.add(each)
    return summary.to_json()


def entries(*totals: int | None) -> list[dict[str, Any]]:
    return [record(1, index=i, total_ns=ns).to_json() for i, ns in enumerate(totals)]


def test_every_time_of_a_record_has_its_statistics() -> None:
    found = summarise(entries(1000, 2000, 6000))
    assert found["id"] == "A-c0-prefill"
    assert (found["schema_version"], found["runs"], found["phase"]) == (1, 3, "prefill")
    assert (found["batch_size"], found["input_len"], found["dtype"]) == (2, 256, "bfloat16")
    assert found["model"]["name"] == "Qwen/Qwen3-0.6B"
    assert found["total_time"] == pytest.approx(
        {"median": 2e-6, "mean": 3e-6, "std": 7e-12**0.5, "min": 1e-6, "max": 6e-6,
         "iqr": 2.5e-6, "p50": 2e-6, "p90": 5.2e-6, "p99": 5.92e-6, "runs": 3}
    )  # fmt: skip
    assert found["disturbance"]["median"] == 2.0
    (layer,) = found["layer_details"]
    assert layer["attn"]["median"] == 9e-6
    assert layer["attn_details"]["q_proj_cuda"]["median"] == 1e-7
    assert layer["ffn_details"]["down_proj"]["runs"] == 3
    assert found["model_details"]["lm_head"]["max"] == 1e-6
    for key in ("profiled_time", "forward", "forward_cuda", "cuda_total", "cuda_busy", "cuda_gap",
                "unattributed_cuda"):  # fmt: skip
        assert found[key]["runs"] == 3


def test_noise_is_told_of_the_headlines_by_name_and_of_the_parts_by_number() -> None:
    total, profiled = summarise(entries(1000, 2000, 6000))["warnings"]
    assert total == "total_time is noisy: IQR is 125.0% of the median, over 10%"
    assert profiled.startswith("profiled_time is noisy")

    steady, odd = entries(1000, 1000)
    odd["layer_details"][0]["attn"] *= 2
    (line,) = summarise([steady, odd])["warnings"]
    count, of = line.split()[0], line.split()[2]
    assert (count, int(of) > 30) == ("1", True)

    assert summarise(entries(1000, 1000))["warnings"] == []


def test_noise_around_a_median_of_zero_is_told_too() -> None:
    lost = entries(1000, 1000, 1000)
    lost[0]["cuda_total"], lost[1]["cuda_total"] = 0.0, 0.0
    (line,) = (line for line in summarise(lost)["warnings"] if line.startswith("cuda_total"))
    assert "noisy" in line


def test_values_that_are_not_known_are_left_out() -> None:
    assert summarise(entries(None, None))["total_time"] is None
    assert summarise(entries(None, 3000))["total_time"]["runs"] == 1


def test_a_part_that_only_some_runs_have_is_counted_as_often() -> None:
    first, second = entries(1000, 1000)
    first["layer_details"][0]["residual_attn"] = 5e-6
    (layer,) = summarise([first, second])["layer_details"]
    assert (layer["residual_attn"]["median"], layer["residual_attn"]["runs"]) == (5e-6, 1)
    assert layer["attn"]["runs"] == 2


@pytest.mark.parametrize(
    ("steps", "median", "p90", "p99"),
    [
        pytest.param([7], 7, 7, 7, id="one step"),
        # ranks 0 .. 10: 90 % is rank 9, 99 % lies 0.9 of the way from rank 9 to rank 10
        pytest.param([*range(10), 20], 5, 9, 9 + 0.9 * 11, id="an outlier moves p99, not p90"),
        pytest.param([4, 1, 3, 2], 2.5, 3.7, 3.97, id="in any order, ranks between them linear"),
    ],
)
def test_time_per_output_token(steps: list[float], median: float, p90: float, p99: float) -> None:
    found = token_times(steps)
    assert (found.median, found.p90, found.p99) == pytest.approx((median, p90, p99))


def test_the_summary_of_a_decode_is_over_every_step_of_every_run() -> None:
    runs = [
        decode_record(1, index=0, leaves_ns={0: 1000}, step_times_ns=(1000, 2000, 3000)),
        decode_record(1, index=1, leaves_ns={0: 1000}, step_times_ns=(4000, 5000, 9000)),
    ]
    found = summarise([each.to_json() for each in runs])
    # ranks 0 .. 5 of 1, 2, 3, 4, 5, 9: 90 % is half way from 5 to 9, 99 % is 0.95 of it
    assert found["tpot"] == pytest.approx(
        {"median": 3.5e-6, "p90": 7e-6, "p99": 8.8e-6, "steps": 6}
    )
    assert (found["id"], found["runs"]) == ("A-c0-decode", 2)
    # of each run the mean step
    assert (found["total_time"]["min"], found["total_time"]["max"]) == (2e-6, 6e-6)
    assert found["ttft"] is None


def test_the_summary_of_a_prefill_has_a_first_token_only_if_tokens_follow() -> None:
    alone = record(1, total_ns=1000)
    assert alone.config is not None
    before = replace(alone, config=replace(alone.config, decode_steps=4))
    assert "ttft" not in alone.to_json()
    assert before.to_json()["ttft"] == 1e-6
    found = summarise([before.to_json()])
    assert found["ttft"]["median"] == 1e-6
    assert "tpot" not in found
