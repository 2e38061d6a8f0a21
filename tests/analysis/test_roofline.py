"""How near parts come to their roofs: small passes whose answer is worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.samples import CEILINGS, record, training_record

from qwen3_profile.analysis.part_rows import PartPath, part_tree
from qwen3_profile.analysis.roofline import (
    COMPUTE,
    MEMORY,
    TOLERANCE,
    Roof,
    part_roofs,
    roof_of,
    row_roofs,
)
from qwen3_profile.analysis.row_bytes import row_bytes
from qwen3_profile.attribution.parts import Part, Times, make_part
from qwen3_profile.records.flops import Flops
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic
from qwen3_profile.views.terminal.cells import roof_share


def part(name: str, ns: int, *parts: Part) -> Part:
    """A part with `ns` of its own on the device, in one event, and with those of its parts."""
    own = Times(calls=1, device_ns=ns, device_events=1 if ns else 0, cpu_ns=ns)
    total = Times(
        calls=1,
        device_ns=ns + sum(each.total.device_ns for each in parts),
        device_events=own.device_events + sum(each.total.device_events for each in parts),
        cpu_ns=ns + sum(each.total.cpu_ns for each in parts),
    )
    return make_part(name, total, own, parts)


def passed(
    forward: Part, flops: Flops | None, moved: dict[str, int | None] | None = None
) -> TimingRecord:
    traffic = {label: Moved(1, count) for label, count in (moved or {}).items()}
    times = replace(
        record().times, forward=forward, traffic=None if moved is None else Traffic(traffic)
    )
    facts = replace(record().facts, ceilings=CEILINGS)
    return replace(record(), times=times, facts=facts, flops=flops)


def layer(number: int, q_ns: int, norm_ns: int) -> Part:
    name = f"layer.{number}"
    q_proj = part(f"{name}.attn.q_proj", q_ns)
    return part(name, 0, part(f"{name}.input_layernorm", norm_ns), part(f"{name}.attn", 0, q_proj))


TWO_LAYERS = passed(
    part("prefill", 0, layer(0, 40, 30), layer(1, 60, 20), part("lm_head", 25)),
    Flops({f"layer.{n}.attn.q_proj": 2500 for n in (0, 1)} | {"lm_head": 100}),
    {f"layer.{n}.attn.q_proj": 100 for n in (0, 1)}
    | {f"layer.{n}.input_layernorm": 50 for n in (0, 1)}
    | {"lm_head": 200},
)


def path(*names: str) -> PartPath:
    return ("prefill", *names)


def test_rows_have_the_floor_of_the_nearer_roof_and_containers_the_sum() -> None:
    roofs = row_roofs(TWO_LAYERS, True)
    # 5000 FLOPs take 50 ns, 200 bytes 20.
    q_proj = roofs[path("layers", "attn", "q_proj")]
    assert (q_proj.ns, q_proj.compute_ns, q_proj.memory_ns, q_proj.floor_ns) == (100, 50, 20, 50)
    assert (q_proj.bound, q_proj.share, q_proj.gain_ns, q_proj.intensity) == (COMPUTE, 0.5, 50, 25)
    assert (q_proj.flops_per_s, q_proj.bytes_per_s) == (50e9, 2e9)
    norm = roofs[path("layers", "input_layernorm")]
    assert (norm.flops, norm.bytes, norm.floor_ns, norm.bound) == (0, 100, 10, MEMORY)
    head = roofs[path("lm_head")]
    assert (head.share, head.bound) == (0.8, MEMORY)
    whole = roofs[path()]
    assert (whole.ns, whole.flops, whole.bytes) == (175, 5100, 500)
    assert whole.floor_ns == 50 + 10 + 20
    assert roofs[path("layers")].floor_ns == 60


def test_parts_by_name_are_the_rows_of_all_layers() -> None:
    by_name, rows = part_roofs(TWO_LAYERS, True), row_roofs(TWO_LAYERS, True)
    assert by_name["q_proj"] == rows[path("layers", "attn", "q_proj")]
    assert by_name["lm_head"] == rows[path("lm_head")]


def test_without_ceilings_nothing_is_said() -> None:
    without = replace(TWO_LAYERS, facts=record().facts)
    assert row_roofs(without, True) == {} == part_roofs(without, True)
    nothing = passed(TWO_LAYERS.times.forward, None)
    assert row_roofs(nothing, True) == {} == part_roofs(nothing, True)


def test_what_is_not_known_sets_no_floor() -> None:
    forward = part("prefill", 0, part("lm_head", 25))
    packed = passed(forward, Flops({"lm_head": 100}), {"lm_head": None})
    assert row_roofs(packed, True)[path("lm_head")].floor_ns == 1
    unknown = passed(forward, Flops({}, unknown=("lm_head",)), {"lm_head": 200})
    roof = row_roofs(unknown, True)[path("lm_head")]
    assert (roof.flops, roof.floor_ns, roof.intensity) == (None, 20, None)
    uncounted = passed(forward, Flops({"lm_head": 100}))
    assert row_roofs(uncounted, True)[path("lm_head")].floor_ns == 1


def test_a_backward_has_roofs_of_its_own() -> None:
    given = training_record()
    labels = {"lm_head": 7}
    both = replace(
        given,
        facts=replace(given.facts, ceilings=CEILINGS),
        flops=Flops(labels, {"lm_head": 14}),
    )
    moved = Traffic({"lm_head": Moved(1, 300)}, {"lm_head": Moved(2, 500), "layer.0": Moved(1, 20)})
    both = replace(both, times=replace(both.times, traffic=moved))
    roofs = row_roofs(both, True)
    forward, backward = roofs["train_step", "lm_head"], roofs["backward", "lm_head"]
    assert (forward.flops, forward.bytes, backward.flops, backward.bytes) == (7, 300, 14, 500)
    assert (roofs["train_step",].bytes, roofs["backward",].bytes) == (820, 520)
    assert roofs["train_step", "backward"].bytes == 520
    whole = part_roofs(both, True)["lm_head"]
    assert (whole.flops, whole.bytes) == (21, 800)
    tree = part_tree(both.times.forward)
    in_tree = dict(zip((row.path for row in tree), row_bytes(both.times, tree), strict=True))
    assert in_tree["train_step", "backward", "lm_head"] == 500
    assert in_tree["train_step",] == 820


@pytest.mark.parametrize(
    ("ns", "impossible", "cell"),
    [(200, False, "5% m"), (10, False, "100% m"), (9, True, "over m"), (100_000, False, "<1% m")],
)
def test_what_is_faster_than_its_ceiling_is_no_figure(ns: int, impossible: bool, cell: str) -> None:
    roof = roof_of(ns, 0, 100, CEILINGS)
    assert (roof.is_impossible, roof_share(roof)) == (impossible, cell)


@pytest.mark.parametrize(
    ("ns", "at_a_higher_clock", "impossible", "cell"),
    [
        pytest.param(200, False, False, "50% c", id="half of the ceiling"),
        pytest.param(98, False, False, "100% c", id="as two measurements differ"),
        pytest.param(80, True, False, "125% c", id="1.25 times as fast, where 1.5 is possible"),
        pytest.param(64, False, True, "over c", id="faster than at any clock"),
    ],
)
def test_products_may_be_faster_at_a_higher_clock(
    ns: int, at_a_higher_clock: bool, impossible: bool, cell: str
) -> None:
    """Their own power left the products of the ceilings 1000 MHz of 1500."""
    products = tuple(replace(each, sm_clock_mhz=1000) for each in CEILINGS.products)
    slowed = replace(CEILINGS, products=products, sm_clock_mhz=(1400, 1500))
    assert slowed.clock_room == 1.5
    assert CEILINGS.clock_room == 1
    flops = round(100 * CEILINGS.flops_per_s / 1e9)
    roof = roof_of(ns, flops, 0, slowed)
    assert (roof.is_at_a_higher_clock, roof.is_impossible) == (at_a_higher_clock, impossible)
    assert roof_share(roof) == cell
    assert roof_of(80, flops, 0, CEILINGS).is_impossible


COUNTS = st.integers(0, 10**12)


@given(ns=st.integers(1, 10**9), flops=COUNTS, moved=COUNTS, more=st.integers(1, 10**9))
def test_a_floor_grows_with_work_and_a_share_falls_with_time(
    ns: int, flops: int, moved: int, more: int
) -> None:
    roof = roof_of(ns, flops, moved, CEILINGS)
    assert roof.floor_ns == max(roof.compute_ns, roof.memory_ns)
    assert roof_of(ns, flops + more, moved, CEILINGS).floor_ns >= roof.floor_ns
    assert roof_of(ns, flops, moved + more, CEILINGS).floor_ns >= roof.floor_ns
    assert 0 <= roof.gain_ns <= ns
    assert roof.is_impossible == (roof.floor_ns > (1 + TOLERANCE) * ns)
    slower = roof_of(ns + more, flops, moved, CEILINGS)
    if roof.share is not None:
        assert slower.share is not None
        assert slower.share < roof.share


def test_the_bound_is_where_the_intensity_lies() -> None:
    below, above = roof_of(9, 99, 10, CEILINGS), roof_of(9, 101, 10, CEILINGS)
    assert CEILINGS.ridge == 10
    assert (below.intensity, below.bound) == (9.9, MEMORY)
    assert (above.intensity, above.bound) == (10.1, COMPUTE)
    assert Roof(0, None, None, 0, 0, 0, 0).share is None
