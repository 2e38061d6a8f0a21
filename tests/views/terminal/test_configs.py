"""The table that ends several configs: bare time, tokens per second, GPU busy, verdict."""

from __future__ import annotations

from dataclasses import replace

from make.roofs import MEMORY, SHORT, US, bounded
from make.samples import decode_record, record

from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.views.terminal.configs import render_configs


def test_a_row_for_each_config_with_its_median() -> None:
    """Three runs of 30, 40 and 50 us; decode steps of 4, 5 and 9 us; both on a device."""
    prefill = [record(2, index=i, total_ns=ns) for i, ns in enumerate((30_000, 50_000, 40_000))]
    decode = decode_record(leaves_ns={0: 1000}, step_times_ns=(4000, 9000, 5000))
    head, first, second = render_configs([prefill, [decode]]).splitlines()
    assert head.split() == ["all", "configs", "bare", "ms", "tokens/s", "GPU", "busy", "verdict"]
    # 2 x 256 tokens in 40 us, 2 tokens in 5 us
    assert first.split()[:6] == ["prefill", "2", "x", "256", "0.040", "12800000.0"]
    assert second.split()[:6] == ["decode", "2", "x", "256", "0.005", "400000.0"]


def test_a_row_has_the_verdict_of_the_page_above_it() -> None:
    """The memory has 77 % of one pass, and of the other about as much as short kernels."""
    idle = IdleTimes(starved_ns=30 * US)
    memory = [bounded({"lm_head": MEMORY}, wall_us=130, idle=idle)]
    even = [bounded({"lm_head": MEMORY, "norm": SHORT}, wall_us=230, idle=idle)]
    _, first, second = render_configs([memory, even]).splitlines()
    assert first.split()[-2:] == ["77%", "memory-bound"]
    assert second.split()[-2:] == ["87%", "mixed"]


def test_it_is_left_out_of_one_config() -> None:
    assert render_configs([[record(2)]]) == ""


def test_what_differs_is_in_the_name() -> None:
    one = record(1)
    assert one.config
    two = replace(one, config=replace(one.config, dtype="float32"))
    rows = render_configs([[one], [two]]).splitlines()[1:]
    assert ["bfloat16" in rows[0], "float32" in rows[1]] == [True, True]
