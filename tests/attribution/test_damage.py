"""Damaged traces: each is refused by the name of its damage, or gives a right answer.

What a right answer is:
- cut off: none, but for what follows the last brace. Where damage is accepted, it is the account
  of the whole events in front of the cut, and a finding says that the file is cut off.
- a flipped byte: what plain reading of the flipped file finds, for a digit of a duration looks like
  any other; and where an event is lost by it, a finding that was not there before.
- a dropped field: the table below says it of each field.
- a doubled id: none, for nobody can tell whose it was; but a call recorded twice, letter for
  letter, changes nothing.
- another order of the events: the same account, letter for letter.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from make.fuzz_cases import check_bytes
from make.kineto import (
    cpu_op,
    document,
    driver,
    event,
    forward_pass,
    host,
    kernel,
    label,
    launch,
    memcpy,
    memset,
    step,
    write,
)
from make.paths import DATA, SHARED
from make.plain import KERNELS

from qwen3_profile import export
from qwen3_profile.attribution.findings import DAMAGE
from qwen3_profile.errors import DamagedTraceError, ProfileError
from qwen3_profile.records.ledger import Ledger, make_ledger
from qwen3_profile.trace import read_trace

PLACES = 200

NAMED = re.compile(
    r"is not JSON at|is cut off|is empty|not whole gzip|is not a Kineto trace"
    r"|holds no \"traceEvents\"|as its \"|has no \"|has an impossible|has a negative|has odd args"
    r"|add up to more"
)

# --- ten traces of every kind -------------------------------------------------------------------

BODY = [step(0, 0, 9000), label("prefill", 10, 8900), cpu_op("layer.0.attn", 100, 4000)]


def calls(count: int, *, thread: int = 1, device: int = 0, first: int = 1) -> list[str]:
    """Launches and their kernels in turn on two streams."""
    found = []
    for i in range(first, first + count):
        found.append(launch(i, 100 * i, 100 * i + 9, thread))
        found.append(kernel(i, 100 * i + 20, 100 * i + 60 + i, 7 + i % 2, device))
    return found


def graphs() -> list[str]:
    found = list(BODY)
    for i in range(1, 9):
        found.append(host("cuda_runtime", "cudaGraphLaunch", 100 * i, 100 * i + 9, correlation=i))
        found += [kernel(i, 100 * i + 20 + k, 100 * i + 50 + k, 7 + k % 2) for k in range(3)]
    return found


def whole_microseconds() -> list[str]:
    found = [event("Operator", "aten::mm", 1, 1, "1712195495984500", "900")]
    found.append(event("user_annotation", "mine", 1, 1, "1712195495984500", "800"))
    for i in range(1, 12):
        at = 1712195495984501 + 10 * i
        found.append(event("Runtime", "cudaLaunchKernel", 1, 1, str(at), "1", correlation=i))
        found.append(event("Kernel", "k", 0, 7, str(at + 2), "4", correlation=i, stream=7))
    return found


def stacks() -> list[str]:
    found = list(BODY)
    for i in range(4):
        name = f"nn.Module: Linear_{i}"
        found.append(host("python_function", name, 100 * i, 100 * i + 90))
        found.append(host("python_function", "torch/nn/modules/linear.py(1): f", 0, 1))
    return [*found, *calls(6)]


def of_data(name: str, count: int) -> bytes:
    """The first events of a trace recorded for this project that we read, with their kernels."""
    whole = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
    read = [each for each in whole["traceEvents"] if each.get("ph") == "X"]
    ids = [each["args"]["correlation"] for each in read if each["cat"] == "cuda_runtime"]
    wanted = set(sorted(ids)[:count])
    whole["traceEvents"] = [
        each for each in read
        if each["cat"] == "user_annotation" or each.get("args", {}).get("correlation") in wanted
    ][: 4 * count]  # fmt: skip
    return json.dumps(whole, indent=1).encode()


MADE: dict[str, bytes] = {
    "a labelled pass": document(*forward_pass(1)),
    "graphs": document(*graphs()),
    "whole microseconds of 2021": document(*whole_microseconds()),
    "stacks": document(*stacks()),
    "a list": f"[{','.join([*BODY, *calls(12)])}]".encode(),
    "since 1970": document(*BODY, *calls(12), base_time_ns=1_712_195_495_000_000_000),
    "two threads and two devices": document(
        *BODY, *calls(6), *calls(6, thread=2, device=1, first=10)
    ),
    "lost records": document(*BODY, *calls(8), kernel(90, 990, 999), launch(91, 990, 999)),
    "copies and Triton": document(
        *BODY, *calls(5), driver(30, 700, 710), memset(30, 720, 733), launch(31, 750, 755),
        memcpy(31, 760, 790),
    ),
    "recorded on an H100": of_data("qwen3-30b-a3b_2layers_prefill_b2_l256", 40),
}  # fmt: skip
KINDS = [pytest.param(data, id=name) for name, data in MADE.items()]


@pytest.fixture
def ledger_of(tmp_path: Path) -> Callable[..., Ledger]:
    def make(data: bytes, *, accept_damaged: bool = False) -> Ledger:
        path = tmp_path / "trace.json"
        path.write_bytes(data)
        return make_ledger(read_trace(path, accept_damaged=accept_damaged))

    return make


def letters(found: Ledger) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(found.to_bytes())
    del text["trace"]["name"]
    return text


def named_or_read(ledger_of: Callable[..., Ledger], data: bytes, **how: bool) -> Ledger | None:
    """The ledger, or None where it is refused by the name of the damage."""
    refusal = ""
    try:
        return ledger_of(data, **how)
    except ProfileError as error:
        refusal = str(error)
    assert NAMED.search(refusal)
    return None


def places(data: bytes) -> Iterator[int]:
    return iter(sorted({len(data) * i // PLACES for i in range(PLACES)}))


@pytest.mark.parametrize("data", KINDS)
def test_the_traces_are_sound(data: bytes) -> None:
    found = check_bytes(data)
    assert found is not None
    assert found.times.device_events > 5
    assert not any(finding.severity == DAMAGE for finding in found.findings)


# --- cut off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [pytest.param(False, id="text"), pytest.param(True, id="gzip")])
@pytest.mark.parametrize("data", KINDS)
def test_cut_at_two_hundred_places(
    data: bytes, pack: bool, ledger_of: Callable[..., Ledger]
) -> None:
    packed = gzip.compress(data, mtime=0) if pack else data
    for cut in places(packed):
        if packed[:cut].strip() == packed.strip():
            continue
        with pytest.raises(ProfileError, match=NAMED):
            ledger_of(packed[:cut])


@pytest.mark.parametrize("data", KINDS)
def test_what_is_accepted_of_a_cut_off_file(data: bytes, ledger_of: Callable[..., Ledger]) -> None:
    whole = json.loads(data)
    events = whole if isinstance(whole, list) else whole["traceEvents"]
    prefixes = {
        tuple(pair)
        for pair in accumulate(
            ([1, ns(each)] for each in events if each.get("cat") in KERNELS),
            lambda one, other: [one[0] + other[0], one[1] + other[1]],
            initial=[0, 0],
        )
    }
    counts = []
    for cut in list(places(data))[::8]:
        found = named_or_read(ledger_of, data[:cut], accept_damaged=True)
        if found is None:
            continue
        assert [f.code for f in found.findings if f.severity == DAMAGE][:1] == ["cut-off"]
        assert (found.times.device_events, found.times.device_ns) in prefixes
        assert found.times.balances
        counts.append(found.times.device_events)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def ns(event: dict[str, Any]) -> int:
    return round(event["dur"] * 1000)


# --- flipped bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", KINDS)
def test_a_flipped_byte_at_a_hundred_places(data: bytes) -> None:
    """Of each trace; of the next one at those between, for most of them have the same events."""
    before = check_bytes(data)
    assert before is not None
    known = {(finding.code, finding.count) for finding in before.findings}
    chance = random.Random(len(data))
    for place in list(places(data))[[*MADE.values()].index(data) % 2 :: 2]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << chance.randrange(8)
        found = check_bytes(bytes(flipped))  # holds it against plain reading
        if found is not None and found.times.device_events != before.times.device_events:
            assert {(finding.code, finding.count) for finding in found.findings} - known


@pytest.mark.parametrize("data", KINDS)
def test_a_flipped_byte_of_a_packed_file(data: bytes, ledger_of: Callable[..., Ledger]) -> None:
    """Its check sum tells, but for bits that say nothing, such as those of the date."""
    packed = gzip.compress(data, mtime=0)
    whole = letters(ledger_of(packed))
    for place in places(packed):
        flipped = bytearray(packed)
        flipped[place] ^= 1 << place % 8
        found = named_or_read(ledger_of, bytes(flipped))
        assert found is None or letters(found) == whole


# --- dropped fields -----------------------------------------------------------------------------

FEW = [*BODY, launch(1, 200, 210), kernel(1, 220, 260), launch(2, 300, 310), kernel(2, 320, 330)]
REFUSED, SAME = "refused", "same"


@pytest.mark.parametrize(
    ("field", "of_label", "of_launch", "of_kernel"),
    [
        pytest.param("ph", REFUSED, REFUSED, REFUSED),
        pytest.param("cat", *["unknown-category"] * 3),
        pytest.param("name", REFUSED, REFUSED, REFUSED),
        pytest.param("pid", REFUSED, REFUSED, REFUSED),
        pytest.param("tid", REFUSED, REFUSED, SAME),
        pytest.param("ts", REFUSED, REFUSED, REFUSED),
        pytest.param("dur", REFUSED, REFUSED, REFUSED),
        pytest.param("args", SAME, "before-window", "event-without-launch"),
        pytest.param("correlation", SAME, "before-window", "event-without-launch"),
    ],
)
@pytest.mark.parametrize(
    ("position", "kind"), [pytest.param(1, 0, id="label"), (3, 1), (4, 2)], ids=[*"012"]
)
def test_a_dropped_field(
    field: str, of_label: str, of_launch: str, of_kernel: str, position: int, kind: int,
    ledger_of: Callable[..., Ledger],
) -> None:  # fmt: skip
    expected = (of_label, of_launch, of_kernel)[kind]
    damaged = json.loads(FEW[position])
    if field == "correlation":
        damaged["args"].pop(field, None)
    else:
        del damaged[field]
    data = document(*FEW[:position], json.dumps(damaged), *FEW[position + 1 :])
    if expected == REFUSED:
        with pytest.raises(DamagedTraceError, match=f'"{field}"'):
            ledger_of(data)
        return
    found = ledger_of(data)
    if expected == SAME:
        assert letters(found) == letters(ledger_of(document(*FEW)))
    else:
        assert expected in {finding.code for finding in found.findings}
        assert found.times.balances


@pytest.mark.parametrize("key", ["schemaVersion", "baseTimeNanoseconds"])
def test_a_dropped_fact_of_the_file(key: str, ledger_of: Callable[..., Ledger]) -> None:
    data = document(*FEW, base_time_ns=10**18)
    found = letters(ledger_of(re.sub(rb'"%s": \d+,' % key.encode(), b"", data)))
    whole = letters(ledger_of(data))
    for text in (found, whole):
        text["trace"].pop("base_time_ns")
    assert found == whole


# --- doubled ids --------------------------------------------------------------------------------


def with_id(text: str, correlation: int) -> str:
    return re.sub(r'"correlation": \d+', f'"correlation": {correlation}', text)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        pytest.param([with_id(FEW[6], 1)], "share the id", id="a kernel has another's id"),
        pytest.param([FEW[5], FEW[6], FEW[6]], "stand in the file", id="a kernel recorded twice"),
        pytest.param(
            [with_id(FEW[5], 1), FEW[6]], "several launches of the same id",
            id="a launch has another's id",
        ),
        pytest.param(
            [with_id(FEW[5], 1), with_id(FEW[6], 1)], "several launches of the same id",
            id="a launch and its kernel have another's id",
        ),
    ],
)  # fmt: skip
def test_doubled_ids_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], events: list[str], told: str
) -> None:
    trace = write(tmp_path / "t.json", document(*FEW[:5], *events))
    assert export.main([str(trace), "--ledger", str(tmp_path / "ledger.json")]) == 3
    assert told in capsys.readouterr().err
    assert not (tmp_path / "ledger.json").exists()


@pytest.mark.parametrize("name", ["a labelled pass", "stacks", "since 1970", "recorded on an H100"])
def test_no_doubled_id_of_a_kernel_goes_unseen(name: str, ledger_of: Callable[..., Ledger]) -> None:
    document_ = json.loads(MADE[name])
    kernels = [each for each in document_["traceEvents"] if each.get("cat") == "kernel"]
    for one, other in pairwise(kernels):
        own = one["args"]["correlation"]
        one["args"]["correlation"] = other["args"]["correlation"]
        found = ledger_of(json.dumps(document_).encode())
        assert "shared-launch" in {f.code for f in found.findings if f.severity == DAMAGE}
        one["args"]["correlation"] = own


def test_a_call_recorded_twice_counts_once(ledger_of: Callable[..., Ledger]) -> None:
    twice, once = (letters(ledger_of(document(*FEW, *more))) for more in ((FEW[5],), ()))
    (told,) = twice.pop("findings")
    assert told["code"] == "doubled"
    assert not once.pop("findings")
    assert twice == once


# --- another order ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", KINDS)
def test_reversed_and_shuffled_events(data: bytes, ledger_of: Callable[..., Ledger]) -> None:
    whole = letters(ledger_of(data))
    chance = random.Random(7)
    for arrange in (list.reverse, chance.shuffle, chance.shuffle):
        assert letters(ledger_of(arranged(data, arrange))) == whole


def arranged(data: bytes, arrange: Callable[[list[Any]], None]) -> bytes:
    """The same events in another order; numbers are carried through as the text that they are."""
    mark = "~number~"

    def kept(number: str) -> str:
        return f"{mark}{number}{mark}"

    changed = json.loads(data, parse_float=kept, parse_int=kept)
    arrange(changed if isinstance(changed, list) else changed["traceEvents"])
    return json.dumps(changed).replace(f'"{mark}', "").replace(f'{mark}"', "").encode()


# --- traces of others ---------------------------------------------------------------------------

# The ten smallest that have a device.
SMALL = sorted(SHARED.glob("*.json.gz"), key=lambda path: path.stat().st_size)
OTHERS = [
    pytest.param(path, id=path.name.removesuffix(".json.gz"))
    for path in SMALL
    if path.name != "hta_cpu_only.json.gz"
][:10]


@pytest.mark.skipif(not OTHERS, reason="the recorded traces are not here")
class TestOthers:
    @pytest.mark.parametrize("path", OTHERS)
    def test_cut(self, path: Path, ledger_of: Callable[..., Ledger]) -> None:
        packed = path.read_bytes()
        text = gzip.decompress(packed)
        for whole in (packed, text):
            for cut in list(places(whole))[::3]:
                if whole[:cut].strip() != whole.strip():
                    with pytest.raises(ProfileError, match=NAMED):
                        ledger_of(whole[:cut])

    @pytest.mark.parametrize("path", OTHERS)
    def test_flipped(self, path: Path) -> None:
        data = gzip.decompress(path.read_bytes())
        chance = random.Random(len(data))
        for place in list(places(data))[:: max(2, len(data) // 10_000)]:
            flipped = bytearray(data)
            flipped[place] ^= 1 << chance.randrange(8)
            check_bytes(bytes(flipped))

    @pytest.mark.parametrize("path", OTHERS)
    def test_reversed(self, path: Path, ledger_of: Callable[..., Ledger]) -> None:
        data = gzip.decompress(path.read_bytes())
        changed = arranged(data, list.reverse)
        assert letters(ledger_of(changed)) == letters(ledger_of(data))
