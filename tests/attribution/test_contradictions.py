"""What a file says twice must agree: files that are whole but for one fact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make.paths import DATA

from qwen3_profile import export

FOLDER = DATA / "cases" / "contradictions"

# The codes of the findings of each, and words of one of them.
EXPECTED = {
    "0_good": (set(), ""),
    "10_thread": ({"arrow-disagrees"}, "tid 9, its arrow at 340.000 on pid 1 tid 1"),
    "12_zero_dur": ({"no-duration"}, "6 of 6 kernels"),
    "13_graph_good": (set(), ""),
    "1_kernel_moved": (
        {"arrow-disagrees", "outside-window", "stream-order", "ends-after-wait"},
        "k5 of id 6 is at 9000540.000 on pid 0 tid 7, its arrow at 540.000",
    ),
    "2_stream_clock": (
        {"arrow-disagrees", "outside-window", "ends-after-wait"},
        "k0 of id 1 is at 440.000 on pid 0 tid 7, its arrow at 40.000",
    ),
    "3_label_twice": ({"doubled"}, "attn begins at 10.000 and lasts 200.000 us both times"),
    "4_device_pid": ({"arrow-disagrees", "other-device"}, "k5 has the pid 4, and device 0"),
    "5_memcpy_lost": (
        {"arrow-without-event", "launch-without-event"},
        "id 7 at 700.000 on pid 0 tid 7, launched by cudaMemcpyAsync",
    ),
    "7_label_moved": ({"outside-window"}, "ffn is at 9000000.000"),
    "8_call_longer": ({"outside-window", "call-outlasts", "calls-overlap"}, "attn at 210.000"),
}


def findings_of(name: str, folder: Path, *flags: str) -> tuple[int, dict[str, str]]:
    ledger = folder / "ledger.json"
    code = export.main([str(FOLDER / f"{name}.json"), "--ledger", str(ledger), *flags])
    found = json.loads(ledger.read_bytes())["findings"] if code == 0 else []
    return code, {each["code"]: each["message"] for each in found}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_event_and_both_facts_are_named(name: str, tmp_path: Path) -> None:
    codes, words = EXPECTED[name]
    code, found = findings_of(name, tmp_path)
    assert code == 0
    assert set(found) == codes
    assert words in " ".join(found.values())


def test_a_kernel_of_a_graph_that_stands_twice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "13_graph_kernel_twice"
    assert findings_of(name, tmp_path)[0] == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "k1 begins at 140.000 and lasts 50.000 us both times" in line
    code, found = findings_of(name, tmp_path, "--accept-damaged")
    assert code == 0
    assert "counted once" in found["doubled"]
    ledger = json.loads((tmp_path / "ledger.json").read_bytes())
    assert findings_of("13_graph_good", tmp_path)[0] == 0
    good = json.loads((tmp_path / "ledger.json").read_bytes())
    assert {key: ledger[key] for key in ledger if key not in ("findings", "trace")} == {
        key: good[key] for key in good if key not in ("findings", "trace")
    }


def test_a_label_that_outlasts_the_window_is_told(tmp_path: Path) -> None:
    text = json.loads((FOLDER / "0_good.json").read_bytes())
    events = text["traceEvents"]
    (window,) = (event for event in events if event.get("cat") == "Trace")
    for beyond, codes in ((0, set()), (1.5, {"outside-window"})):
        (step,) = (event for event in events if event["name"] == "step")
        step["dur"] = window["ts"] + window["dur"] + beyond - step["ts"]
        path = tmp_path / f"{beyond}.json"
        path.write_text(json.dumps(text))
        code, found = findings_of(str(path.with_suffix("")), tmp_path)
        assert (code, set(found)) == (0, codes)
    assert "1 label lies outside" in found["outside-window"]


def test_every_file_is_looked_at() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*EXPECTED, "13_graph_kernel_twice"}
