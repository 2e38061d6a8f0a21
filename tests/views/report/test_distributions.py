"""What the page shows of every part in every pass, and of a sweep as a grid."""

from __future__ import annotations

from dataclasses import replace

from make.samples import decode_record, record
from make.sides import scaled

from qwen3_profile.analysis.part_rows import part_tree
from qwen3_profile.analysis.scaling.sweep import sweeps_of
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.report.distributions import distributions, grid_of

# Of a part that runs at 1 ms or at 2 ms, in turn.
TWO_SPEEDS = [1.0, 2.0, 1.01, 2.01, 1.02, 2.02, 1.0, 2.0, 1.01, 2.01, 1.02, 2.02]


def passes(factors: list[float]) -> list[TimingRecord]:
    return [scaled(record(), factor, at) for at, factor in enumerate(factors)]


def test_every_part_has_its_time_in_every_pass_by_host_and_device() -> None:
    several = passes([1.0, 1.5, 1.2])
    rows = part_tree(several[0].times.forward)
    found = distributions(several, rows, True, 1)
    assert list(found) == ["cpu", "cuda"]
    assert {each.source for each in found.values()} == {"traced"}
    for at, row in enumerate(rows):
        for kind, ns in (("cpu", row.times.cpu_ns), ("cuda", row.times.device_ns)):
            assert found[kind].rows[at].ns == (ns, round(1.5 * ns), round(1.2 * ns))
    assert list(distributions(several, rows, False, 1)) == ["cpu"]


def test_two_speeds_of_a_part_are_told() -> None:
    several = passes(TWO_SPEEDS)
    found = distributions(several, part_tree(several[0].times.forward), False, 1)
    for each in found["cpu"].rows:
        if any(each.ns):
            (sentence,) = each.shape
            assert sentence.startswith("It has two speeds: 50% of the passes near")


def test_traced_steps_of_a_decode_are_passes_of_their_run() -> None:
    whole = decode_record(leaves_ns={0: 100, 2: 300}, step_times_ns=(500, 600, 700))
    steps = whole.one_by_one()
    rows = part_tree(steps[0].times.forward)
    found = distributions(steps, rows, False, 1)["cpu"].rows
    at = next(at for at, row in enumerate(rows) if row.name == "q_proj")
    assert found[at].ns == (200, 600)


def test_a_page_of_too_many_times_leaves_the_parts_out() -> None:
    several = passes([1.0] * 4)
    rows = part_tree(several[0].times.forward)
    assert distributions(several, rows, True, 400_000 // (8 * len(rows)))
    assert distributions(several, rows, True, 400_000 // (8 * len(rows)) + 1) == {}


def test_a_grid_knows_the_config_of_each_size() -> None:
    groups = []
    for batch, length, cache in (
        (2, 64, "static"), (1, 64, "dynamic"), (2, 64, "dynamic"), (1, 32, "dynamic"),
    ):  # fmt: skip
        whole = scaled(record(), batch * length / 64, 0)
        assert whole.config is not None
        config = replace(whole.config, batch_size=batch, input_len=length, cache=cache)
        groups.append([replace(whole, config=config)])
    (sweep,) = sweeps_of(groups)
    found = grid_of(sweep, groups)
    assert list(zip(found.batches, found.lengths, found.configs, strict=True)) == [
        (1, 32, 3), (1, 64, 1), (2, 64, 2),
    ]  # fmt: skip
    assert found.names[0] == ("total_time",)
    assert found.times_ns[0] == (5e5, 1e6, 2e6)
    assert found.rates == (32 / 5e-4, 64 / 1e-3, 128 / 2e-3)
