"""Device events that last too long: who is blamed, and what the sums are without them."""

from __future__ import annotations

import pytest
from make.kineto import host, kernel, label, launch, split
from make.paths import DATA

from qwen3_profile.attribution.attribute import Attribution, union_ns
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import NOTE, WARNING
from qwen3_profile.records.ledger import Ledger, make_ledger
from qwen3_profile.trace import read_trace

US = 1000


def on_one_stream(*durations_us: int, stream: int = 7, first: int = 1) -> list[str]:
    """A kernel every 100 us, each launched 50 us before it."""
    events = []
    for number, dur in enumerate(durations_us, first):
        at = 100 * US * number
        events += [launch(number, at - 50 * US, at - 45 * US)]
        events += [kernel(number, at, at + dur * US, stream)]
    return events


def apart(found: Attribution) -> list[str]:
    return [found.trace.names[i] for i in found.apart.name.tolist()]


@pytest.mark.parametrize(
    ("durations_us", "odd"),
    [
        pytest.param((90, 350, 90, 90), ["k2"], id="it ends after the next one"),
        pytest.param((90, 900, 900, 90, 90), ["k2", "k3"], id="two after each other"),
        pytest.param((900, 800, 700, 600, 500, 90), ["k1", "k2", "k3", "k4", "k5"], id="most"),
        pytest.param((90, 900, 90, 900), ["k2", "k4"], id="nothing follows the last one"),
        pytest.param((90, 900, 950), ["k2", "k3"], id="none ends before them"),
        pytest.param((90, 101, 90, 90), [], id="the next one begins a little early"),
        pytest.param((90, 201, 101), [], id="a microsecond is no proof"),
    ],
)
def test_who_outlasts_what_follows(durations_us: tuple[int, ...], odd: list[str]) -> None:
    found = split(label("A", 0, 700 * US), *on_one_stream(*durations_us))
    assert apart(found) == odd
    left = [dur for k, dur in enumerate(durations_us, 1) if f"k{k}" not in odd]
    assert int(found.trace.device.dur_ns.sum()) == sum(left) * US


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(
            [*on_one_stream(900), *on_one_stream(90, 90, stream=9, first=2)], id="other streams"
        ),
        pytest.param(
            [host("cuda_runtime", "hipGraphLaunch", 0, 9, correlation=1),
             kernel(1, 100 * US, 900 * US), kernel(1, 200 * US, 300 * US)],
            id="kernels of one graph",
        ),
        pytest.param(
            [*on_one_stream(90, 90, 90), launch(9, 900 * US, 901 * US),
             kernel(9, 120 * US, 130 * US), launch(8, 60 * US, 61 * US),
             kernel(8, 110 * US, 190 * US)],
            id="an event that was moved in time blames no other",
        ),
    ],
)  # fmt: skip
def test_what_may_overlap(events: list[str]) -> None:
    assert apart(split(label("A", 0, 1_000_000), *events)) == []


def test_severity_is_by_the_share() -> None:
    long = split(*on_one_stream(90, 350, 90, 90))
    (finding,) = [f for f in check_trace(long) if f.code == "impossible-duration"]
    assert (finding.severity, finding.count, finding.ns) == (WARNING, 1, 350 * US)
    assert "such as k2" in finding.message
    many = on_one_stream(*[99] * 2000, stream=9, first=10)
    small = split(*on_one_stream(90, 150, 30), *many)
    (finding,) = [f for f in check_trace(small) if f.code == "impossible-duration"]
    assert finding.severity == NOTE


def of_case(name: str) -> Ledger:
    return make_ledger(read_trace(DATA / "cases" / name / "trace.json"))


@pytest.mark.parametrize(
    ("name", "ns", "apart_ns"),
    [
        ("impossible_duration_one", 24_000_000, 15_000_000),
        ("impossible_duration_two", 24_250_000, 4_800_000_000),
    ],
)
def test_the_rest_is_right(name: str, ns: int, apart_ns: int) -> None:
    found = of_case(name)
    assert found.times.device_ns == found.times.busy_ns == ns
    assert (found.apart_ns, found.apart_events) == (apart_ns, 3)
    (finding,) = [f for f in found.findings if f.severity != NOTE]
    assert (finding.severity, finding.example) == (WARNING, "fmha_bwd")


def test_busy_has_nothing_twice() -> None:
    found = split(*on_one_stream(90, 350, 90, 90))
    device = found.trace.device
    assert union_ns(device.start_ns, device.end_ns) == int(device.dur_ns.sum())
