"""The runs below TensorBoard's log directory: which are found, and by which names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from make.samples import make_run

from qwen3_profile.views.tensorboard.tab_runs import LogDir


def names(logdir: str | Path, spec: str = "") -> list[str]:
    return [found.name for found in LogDir(str(logdir), spec).runs()]


def test_runs_lie_at_any_depth_the_latest_first(tmp_path: Path) -> None:
    make_run(tmp_path / "run1", time_s=1_700_000_001)
    make_run(tmp_path / "a" / "b c" / "run1", time_s=1_700_000_003)
    make_run(tmp_path / "run2", time_s=1_700_000_002)
    make_run(tmp_path / "run2" / "inner")
    make_run(tmp_path / ".run3.replaced.17")
    (tmp_path / "other").mkdir()
    assert names(tmp_path) == ["a/b c/run1", "run2", "run1"]


def test_the_log_directory_may_be_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run1", "report")
    (found,) = LogDir(str(tmp_path / "run1")).runs()
    assert (found.name, found.read_report()) == (".", b"report")


@pytest.mark.parametrize(
    ("logdir", "spec", "wanted"),
    [
        pytest.param("{at}/a", "", ["run1"], id="one folder"),
        pytest.param("{at}/a/", "", ["run1"], id="with a slash"),
        pytest.param("{at}/a/../a/./", "", ["run1"], id="on a detour"),
        pytest.param("a", "", ["run1"], id="relative"),
        pytest.param("~/a", "", ["run1"], id="at home"),
        pytest.param("", "{at}/a", ["run1"], id="a spec of one"),
        pytest.param("", "x:{at}/a,y:b", ["x/run1", "y/run2"], id="a spec of two with names"),
        pytest.param("", "{at}/a,~/b", ["run1", "run2"], id="a spec of two without"),
        pytest.param("", "gs://bucket/a,x:{at}/a", ["x/run1"], id="a remote one is left out"),
        pytest.param("gs://bucket/a", "", [], id="a remote one"),
        pytest.param("{at}/missing", "", [], id="not there"),
        pytest.param("", "", [], id="none"),
    ],
)
def test_forms_of_the_log_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logdir: str, spec: str, wanted: list[str]
) -> None:
    make_run(tmp_path / "a" / "run1", time_s=1_700_000_002)
    make_run(tmp_path / "b" / "run2", time_s=1_700_000_001)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names(logdir.format(at=tmp_path), spec.format(at=tmp_path)) == wanted


def test_what_is_known_of_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run1", "<p>report")
    make_run(tmp_path / "run2")
    folder = make_run(tmp_path / "run3")
    (folder / "run.json").write_text("{}")
    found = {each.name: each for each in LogDir(str(tmp_path)).runs()}
    assert found["run1"].facts == "Qwen/Qwen3-0.6B, 2026-01-02 03:04"
    assert found["run1"].read_report() == b"<p>report"
    assert found["run1"].hint == ""
    assert (found["run2"].version, found["run2"].read_report()) == ("", None)
    assert found["run2"].hint == (
        f"run2 has no report: python -m qwen3_profile.export {tmp_path / 'run2'} --report"
    )
    assert found["run3"].facts == ""


def test_no_name_of_a_folder_is_a_command(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a b; rm -rf ~")
    (found,) = LogDir(str(tmp_path)).runs()
    assert found.hint.endswith(f": python -m qwen3_profile.export '{folder}' --report")


def test_a_report_that_is_written_again_has_another_version(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run1", "a")
    before = LogDir(str(tmp_path)).runs()[0]
    assert LogDir(str(tmp_path)).runs()[0] == before
    os.replace(_beside(folder, "b"), folder / "report.html")
    after = LogDir(str(tmp_path)).runs()[0]
    assert after.version != before.version
    assert after.read_report() == b"b"


def _beside(folder: Path, text: str) -> Path:
    path = folder / ".report"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "asked",
    [
        "../outside",
        "run1/../../outside",
        "run1/",
        "./run1",
        "/run1",
        "{at}/logs/run1",
        "{at}/outside",
        "..",
        "",
        "RUN1",
        "run1\0",
        "%2e%2e/outside",
        "..%2foutside",
        "linked",
        "linked/inside",
        "run*",
    ],
)
def test_only_names_that_were_found_lead_anywhere(tmp_path: Path, asked: str) -> None:
    make_run(tmp_path / "outside", "secret")
    make_run(tmp_path / "outside" / "inside", "secret")
    make_run(tmp_path / "logs" / "run1", "report")
    (tmp_path / "logs" / "linked").symlink_to(tmp_path / "outside")
    logdir = LogDir(str(tmp_path / "logs"))
    assert logdir.find(asked.format(at=tmp_path)) is None
    assert [found.name for found in logdir.runs()] == ["run1"]


@pytest.mark.parametrize("name", ["run.json", "report.html"])
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    secret = make_run(tmp_path / "outside", "secret")
    folder = make_run(tmp_path / "logs" / "run1", "report")
    (folder / name).unlink()
    (folder / name).symlink_to(secret / name)
    found = LogDir(str(tmp_path / "logs")).runs()
    assert [each.read_report() for each in found] == ([None] if name == "report.html" else [])


def test_a_report_that_became_a_link_is_not_read(tmp_path: Path) -> None:
    """Between the moment at which the run was found and that at which it was asked for."""
    folder = make_run(tmp_path / "logs" / "run1", "report")
    (found,) = LogDir(str(tmp_path / "logs")).runs()
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to("/etc/passwd")
    assert found.read_report() is None


def test_a_report_that_fills_the_memory_is_not_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "logs" / "run1", "report")
    with open(folder / "report.html", "wb") as file:
        file.truncate(1 << 40)
    (found,) = LogDir(str(tmp_path / "logs")).runs()
    assert found.read_report() is None


def test_a_folder_of_any_bytes_has_a_name_that_can_be_told(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/run\xff"))
    make_run(folder, "report")
    found = LogDir(str(tmp_path)).find("run\\udcff")
    assert found is not None
    assert found.read_report() == b"report"


def test_a_log_directory_that_is_itself_a_link_is_the_users_own_choice(tmp_path: Path) -> None:
    make_run(tmp_path / "real" / "run1", "report")
    (tmp_path / "logs").symlink_to(tmp_path / "real")
    assert names(tmp_path / "logs") == ["run1"]
