"""A part that is faster than its ceiling is a finding of the record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make.roofs import CEILINGS
from make.samples import record

from qwen3_profile.records.flops import Flops
from qwen3_profile.records.impossible_rates import IMPOSSIBLE_RATE, check_rates
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic

TIMES = record().times
# What the device took for this part, in both layers together.
TOOK_NS = sum(part.own.device_ns for part in TIMES.forward.each() if part.name.endswith(".q_proj"))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, ""), (1.02, ""), (1.04, "104%"), (3.0, "300%")]
)
def test_flops_over_the_ceiling(share: float, expected: str) -> None:
    count = round(share * CEILINGS.flops_per_s * TOOK_NS / 1e9)
    found = check_rates(TIMES, Flops({"layer.0.attn.q_proj": count}), CEILINGS)
    assert len(found) == bool(expected)
    for finding in found:
        assert (finding.code, finding.severity) == (IMPOSSIBLE_RATE, "note")
        assert (finding.count, finding.ns, finding.example) == (1, TOOK_NS, "q_proj")
        assert f"q_proj {expected} of the FLOP/s" in finding.message


def test_what_a_higher_clock_can_do_is_possible() -> None:
    products = tuple(replace(each, sm_clock_mhz=1000) for each in CEILINGS.products)
    slowed = replace(CEILINGS, products=products, sm_clock_mhz=(1500,))
    for share, is_over in ((1.4, False), (1.6, True)):
        count = round(share * CEILINGS.flops_per_s * TOOK_NS / 1e9)
        found = check_rates(TIMES, Flops({"layer.0.attn.q_proj": count}), slowed)
        assert bool(found) == is_over


def test_bytes_over_the_ceiling() -> None:
    count = round(2 * CEILINGS.bytes_per_s * TOOK_NS / 1e9)
    moved = Traffic({"layer.1.attn.q_proj": Moved(1, count), "norm": Moved(1, None)})
    (finding,) = check_rates(replace(TIMES, traffic=moved), None, CEILINGS)
    assert "q_proj 200% of the bytes/s" in finding.message


def test_without_ceilings_nothing_is_impossible() -> None:
    assert check_rates(TIMES, Flops({"layer.0.attn.q_proj": 10**18}), None) == ()
