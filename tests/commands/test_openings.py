"""How often an export opens each raw trace of a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from make.paths import DATA

from qwen3_profile.export import main
from qwen3_profile.system import processes
from qwen3_profile.trace.text import Text

RUNS = DATA / "runs"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The names of the traces, each as often as it was opened; all of them in this process."""
    found: Counter[str] = Counter()

    begin = Text.__init__

    def counted(self: Text, path: Path) -> None:
        found[path.name.removesuffix(".kineto.json.gz")] += 1
        begin(self, path)

    monkeypatch.setattr(Text, "__init__", counted)
    monkeypatch.setattr(processes, "may_fork", lambda: False)
    return found


def test_of_an_eager_config_the_shown_pass_alone_is_opened_again(
    opened: Counter[str], tmp_path: Path
) -> None:
    report = f"--report={tmp_path / 'report.html'}"
    folder = RUNS / "h100-2layers"
    assert main([str(folder), report, "--output-dir", str(tmp_path)]) == 0
    assert len(opened) == len(list((folder / "raw").iterdir()))
    shown = {"bs1_len128_bfloat16_prefill.run0", "bs1_len128_bfloat16_decode.run0.step0"}
    assert {name for name, times in opened.items() if times == 2} == shown
    assert max(opened.values()) == 2


def test_of_replays_the_shown_one_and_its_eager_pass_are_opened_again(
    opened: Counter[str], tmp_path: Path
) -> None:
    report = f"--report={tmp_path / 'report.html'}"
    folder = RUNS / "ways-2layers"
    assert main([str(folder), report, "--config", "2", "--output-dir", str(tmp_path)]) == 0
    prefill, decode = (f"bs1_len64_bfloat16_static_cuda_graph_{p}" for p in ("prefill", "decode"))
    shown = [f"{prefill}.run0", f"{prefill}.run0.eager", f"{prefill}.run0.captured"]
    shown += [f"{decode}.run0.step2", f"{decode}.run0.step2.eager"]
    assert {name for name, times in opened.items() if times == 2} == set(shown)
    assert max(opened.values()) == 2


def test_without_a_report_each_is_opened_once(opened: Counter[str], tmp_path: Path) -> None:
    for name in ("h100-2layers", "ways-2layers"):
        assert main([str(RUNS / name), "--output-dir", str(tmp_path)]) == 0
    assert set(opened.values()) == {1}
