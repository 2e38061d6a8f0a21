"""A sweep of records whose times are known."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from make.samples import record
from make.sides import scaled

from qwen3_profile.analysis.scaling.sweep import Sweep, sweeps_of
from qwen3_profile.cli.sweeps import tell_sweeps
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.scaling_json import sweep_json
from qwen3_profile.views.terminal.scaling import render_sweep


def sized(batch: int, length: int, factor: float) -> tuple[TimingRecord, ...]:
    whole = scaled(record(), factor, 0)
    assert whole.config is not None
    config = replace(whole.config, batch_size=batch, input_len=length)
    times = replace(whole.times, busy_ns=round(5e5 * factor))
    return (replace(whole, config=config, times=times),)


SIZES = [(1, 128), (2, 128), (4, 128), (1, 256), (2, 256), (4, 256)]


def sweep() -> Sweep:
    """A pass takes 1 ms and as many ms as it has thousands of tokens."""
    groups = [sized(b, n, 1 + b * n / 1000) for b, n in SIZES]
    (found,) = sweeps_of(groups)
    return found


def test_sizes_with_their_rates() -> None:
    found = sweep()
    assert [(size.batch, size.length) for size in found.sizes] == SIZES
    one, two = found.sizes[0], found.sizes[1]
    assert one.bare_ns == pytest.approx(1.128e6)
    assert one.rate == pytest.approx(128 / 1.128e-3)
    assert one.efficiency is None
    assert two.efficiency == pytest.approx((256 / 1.256e-3) / (2 * 128 / 1.128e-3))
    assert one.busy == pytest.approx(0.5)


def test_without_scipy_a_line_says_that_nothing_is_fitted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reading half runs without it."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert tell_sweeps([sized(b, n, 1 + b * n / 1000) for b, n in SIZES], None) == ()
    assert capsys.readouterr().err == "warning: no scaling is fitted: scipy is not installed\n"


def test_every_row_has_the_law_of_its_times() -> None:
    for row in sweep().rows:
        assert row.law is not None
        assert row.law.form == "linear"
        ratio = row.law.terms["per_token"].value / row.law.terms["constant"].value
        assert ratio == pytest.approx(1 / 1000, rel=1e-3)
        assert row.left_out is not None
        assert row.left_out.predicted.value == pytest.approx(row.left_out.measured_ns, rel=1e-3)


def test_what_comes_next() -> None:
    total = sweep().rows[0]
    assert total.batch_ahead is not None
    assert total.batch_ahead.value == pytest.approx((1 + 2048 / 1000) * 1e6, rel=1e-3)
    text = render_sweep(sweep())
    assert "8 x 256 takes 3.048 ms" in text
    assert max(map(len, text.splitlines())) <= 100


def test_an_interval_that_holds_everything_is_no_prediction() -> None:
    found = sweep()
    total, *others = found.rows
    assert total.batch_ahead is not None
    wide = replace(total.batch_ahead, low=0.0, high=2e12)
    text = " ".join(
        render_sweep(replace(found, rows=(replace(total, batch_ahead=wide), *others))).split()
    )
    assert "predicted: 8 x 256 cannot be told, the interval is 0 .. 2000000.000 ms; " in text
    assert "4 x 512 takes " in text


def test_batch_and_length_stand_in_one_table() -> None:
    lines = render_sweep(sweep()).splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("total ms"))
    assert [line.split() for line in lines[at : at + 4]] == [
        ["total", "ms", "x", "128", "x", "256"],
        ["1", "1.128", "1.256"], ["2", "1.256", "1.512"], ["4", "1.512", "2.024"],
    ]  # fmt: skip
    (alone,) = sweeps_of([sized(b, n, 1 + b * n / 1000) for b, n in SIZES[:3]])
    assert "total ms  " not in "".join(render_sweep(alone).split("efficiency:")[1:])


def test_the_whole_pass_has_its_name_in_serving() -> None:
    groups = []
    for batch, length in SIZES:
        (one,) = sized(batch, length, 1 + batch * length / 1000)
        assert one.config is not None
        groups.append([replace(one, config=replace(one.config, decode_steps=4))])
    (found,) = sweeps_of(groups)
    assert "total_time (TTFT) " in render_sweep(found)
    assert sweep_json(found)["total_time_is"] == "ttft"
    decodes = [[replace(one, phase="decode") for one in group] for group in groups]
    (found,) = sweeps_of(decodes)
    assert "total_time (TPOT) " in render_sweep(found)
    assert "total_time " in render_sweep(sweep())
    assert sweep_json(sweep())["total_time_is"] is None


def test_a_floor_is_told_once() -> None:
    sizes = [(1, 16), (1, 32), (1, 64), (1, 128), (1, 256), (1, 512), (1, 1024), (1, 2048)]
    (found,) = sweeps_of([sized(b, n, max(3, n / 100)) for b, n in sizes])
    assert found.rows[0].law is not None
    assert found.rows[0].law.form == "floor"
    (line,) = (each for each in render_sweep(found).splitlines() if each.startswith("total_time"))
    assert line.split()[1] == "f"
    assert float(line.split()[2]) == pytest.approx(3, rel=0.01)


def test_the_file_has_what_the_table_says() -> None:
    found = sweep_json(sweep())
    assert found["id"] == "A-c0-prefill-scaling"
    assert found["sizes"][1]["total_time"] == pytest.approx(1.256e-3)
    total = found["rows"][0]
    assert (total["path"], total["law"]["form"]) == (("total_time",), "linear")
    assert total["law"]["terms"]["per_token"]["value"] == pytest.approx(1e-6, rel=1e-3)
    assert total["twice_the_length"]["value"] == pytest.approx(3.048e-3, rel=1e-3)


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param([sized(1, 128, 1.0), sized(2, 128, 1.0)], id="two sizes"),
        pytest.param(
            [
                (replace(each[0], config=replace(each[0].config, dtype=dtype)),)
                for each, dtype in zip(
                    (sized(1, 128, 1.0), sized(2, 128, 1.0), sized(4, 128, 1.0)),
                    ("float32", "float16", "bfloat16"),
                    strict=True,
                )
            ],
            id="three dtypes",
        ),
    ],
)
def test_no_sweep(groups: list) -> None:
    assert list(sweeps_of(groups)) == []
