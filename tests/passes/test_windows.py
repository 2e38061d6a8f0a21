"""Records of long traces, made window by window, against those made in one piece."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
from long_trace import write_trace
from make.kineto import document, driver, host, kernel, label, launch, step, write

from qwen3_profile.attribution.collective_times import Collectives
from qwen3_profile.attribution.parts import Times, make_part
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.passes import windows
from qwen3_profile.passes.read import read
from qwen3_profile.records import from_trace
from qwen3_profile.records.load import collect_trace
from qwen3_profile.records.ranks import collect_ranks
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.system import processes


def passes(count: int, *, device: int = 0) -> list[str]:
    """Labelled decode steps that have nothing to do with each other."""
    found = []
    for number in range(count):
        at = 1000 * number
        found += [
            step(number, at, at + 900),
            label("decode", at + 10, at + 800),
            label("layer.0", at + 20, at + 300),
            label("layer.0.attn", at + 30, at + 300),
            launch(2 * number + 1, at + 30, at + 40),
            kernel(2 * number + 1, at + 50, at + 90, device=device),
            launch(2 * number + 2, at + 400, at + 410),
            kernel(2 * number + 2, at + 500, at + 560 + number, stream=9, device=device),
        ]
    return found


ON_TWO_DEVICES = [*passes(8), launch(99, 7600, 7610), kernel(99, 7650, 7660, device=1)]
SOUND = {
    "steps": passes(8),
    "a stray in one window": [*passes(8), launch(99, 7950, 7960), kernel(99, 7970, 7980)],
    "two devices": ON_TWO_DEVICES,
    "no device": [event for event in passes(8) if "correlation" not in event],
}
# What must be seen as a whole.
ODD = {
    "a kernel over a border": [*passes(8), launch(99, 3500, 3510), kernel(99, 3600, 4100)],
    "the same id twice": [*passes(8), launch(3, 6600, 6610), driver(3, 6620, 6630)],
    "a launch without an event": [*passes(8), launch(99, 7600, 7610)],
    "modules beside labels": [
        *passes(8),
        host("python_function", "nn.Module: Linear_0", 7020, 7030),
    ],
}


def records_of(path: Path) -> tuple[tuple[TimingRecord, ...], bool]:
    """The records, and whether the trace was looked at as a whole for them."""
    reading = read(path, accept_damaged=True)
    return from_trace.records_of(reading), reading.attribution is not None


@pytest.mark.parametrize(
    ("events", "cut"),
    [
        *(pytest.param(events, True, id=name) for name, events in SOUND.items()),
        *(pytest.param(events, False, id=name) for name, events in ODD.items()),
    ],
)
def test_window_by_window_is_as_in_one_piece(
    events: list[str], cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.json", document(*events))
    expected, whole = records_of(path)
    assert whole
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 9)
    found, whole = records_of(path)
    assert found == expected
    assert [each.to_json() for each in found] == [each.to_json() for each in expected]
    assert whole is not cut


def test_a_record_names_the_devices_of_the_whole_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = b'{"deviceProperties": [{"name": "H100"}, {"name": "L4"}],'
    path = write(tmp_path / "t.json", document(*ON_TWO_DEVICES).replace(b"{", devices, 1))
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 9)
    found, whole = records_of(path)
    assert whole
    assert {record.facts.device for record in found} == {"H100, L4"}


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("gpu", [pytest.param(True, id="GPU"), pytest.param(False, id="CPU")])
def test_a_long_decode_window_by_window(
    gpu: bool, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    write_trace(out, 6, layers=2, gpu=gpu)
    path = write(tmp_path / "t.json", out.getvalue().encode())
    expected, _ = records_of(path)
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 60)
    monkeypatch.setattr(processes, "can_fork", lambda: cores > 1)
    found, whole = records_of(path)
    assert (len(found), whole) == (6, False)
    assert found == expected


def test_a_long_trace_that_is_cut_off_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = document(*passes(8))
    path = write(tmp_path / "t.json", text[: text.rindex(b'"ph"')])
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 9)
    with pytest.raises(DamagedTraceError):
        collect_trace(path)
    assert collect_trace(path, accept_damaged=True)[0].findings[0].code == "cut-off"


def test_parts_of_another_tree_are_equal_if_their_times_are(tmp_path: Path) -> None:
    (only,), _ = records_of(write(tmp_path / "t.json", document(*passes(1))))
    forward = only.times.forward
    # Idle from the step's begin at 0 to the kernel at 50, which was launched from 30 to 40.
    idle = {"gap_ns": 50, "starved_ns": 30, "launching_ns": 10, "queued_ns": 10}
    of_attn = Times(1, 270, 40, 1, launch_ns=10, queue_ns=10, **idle)
    attn = make_part("layer.0.attn", of_attn, of_attn)
    layer = make_part("layer.0", of_attn._replace(cpu_ns=280), Times(1, 10), (attn,))
    assert forward.parts == (layer,)
    assert forward.parts != (attn,)
    assert hash(forward) == hash(make_part(forward.name, forward.total, forward.own, (layer,)))
    assert pickle.loads(pickle.dumps(forward)) == forward
    assert forward.find("layer.0") == layer


def plain(found: Collectives) -> list[object]:
    """The collectives and what was before each, by their names."""
    columns = (found.step, found.start_ns, found.dur_ns, found.overlapped_ns)
    return [
        *([found.labels[n] for n in found.label], [found.messages[n] for n in found.message]),
        *(column.tolist() for column in columns),
        *([(at, found.labels[n], *ns) for at, n, *ns in found.before.T.tolist()],),
    ]


def test_a_long_trace_of_a_rank_is_summed_window_by_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduced = kernel(99, 7650, 7690, name="ncclDevKernel_AllReduce_Sum_bf16_RING_LL(int)")
    path = write(tmp_path / "rank5.json", document(*passes(8), launch(99, 7600, 7610), reduced))
    sound = write(tmp_path / "rank6.json", document(*passes(8)))
    whole = collect_ranks([path, sound])
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 20)
    cut = collect_ranks([path, sound])
    assert cut == whole
    assert [plain(each.collectives) for each in cut] == [plain(each.collectives) for each in whole]
    assert len(cut[0].collectives) == 1
    records, in_one_piece = records_of(sound)
    assert not in_one_piece
    assert [record.times for record in whole[1].records] == [record.times for record in records]
    assert {record.facts.rank for record in whole[1].records} == {6}
