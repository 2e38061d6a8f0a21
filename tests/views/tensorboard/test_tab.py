"""The tab's routes, asked as TensorBoard asks them, behind its own check of what they send."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from make.samples import make_run
from tensorboard.backend.security_validator import SecurityValidatorMiddleware
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client, TestResponse

from qwen3_profile.views.tensorboard.tab import Qwen3ProfileTab

REPORT = "<!doctype html><script>go()</script>"


def tab(logdir: Path, spec: str = "") -> Qwen3ProfileTab:
    flags = SimpleNamespace(logdir="" if spec else str(logdir), logdir_spec=spec)
    return Qwen3ProfileTab(TBContext(logdir=str(logdir), flags=flags))


def ask(
    logdir: Path, route: str, headers: dict[str, str] | None = None, **query: str
) -> TestResponse:
    application = SecurityValidatorMiddleware(tab(logdir).get_plugin_apps()[route])
    return Client(application).get(route, query_string=query, headers=headers or {})


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    make_run(tmp_path / "outside", "secret")
    make_run(tmp_path / "logs" / "run1", REPORT)
    return tmp_path / "logs"


def test_it_is_registered_under_its_name() -> None:
    (found,) = entry_points(group="tensorboard_plugins", name="qwen3_profile")
    assert found.load() is Qwen3ProfileTab
    assert Qwen3ProfileTab.plugin_name == "qwen3_profile"


def test_it_has_a_page_and_a_name(logdir: Path) -> None:
    metadata = tab(logdir).frontend_metadata()
    assert metadata.tab_name == "Qwen3 profile"
    assert metadata.es_module_path in tab(logdir).get_plugin_apps()


def test_there_is_a_tab_only_where_there_is_a_run(tmp_path: Path, logdir: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert tab(logdir).is_active()
    assert tab(logdir, spec=f"x:{logdir}").is_active()
    assert not tab(tmp_path / "empty").is_active()


def test_runs(logdir: Path) -> None:
    make_run(logdir / "run2")
    answer = ask(logdir, "/runs")
    assert answer.content_type == "application/json"
    rows: dict[str, Any] = {row["name"]: row for row in json.loads(answer.data)}
    assert rows["run1"]["facts"] == "Qwen/Qwen3-0.6B, 2026-01-02 03:04"
    assert rows["run1"]["version"]
    assert rows["run2"]["version"] == ""
    assert rows["run2"]["hint"]["en"].endswith("--report")


def test_report_may_run_what_it_holds_and_reach_nobody(
    logdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = ask(logdir, "/report", {"Sec-Fetch-Dest": "iframe"}, run="run1")
    assert (answer.status_code, answer.data) == (200, REPORT.encode())
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert not caplog.records, "TensorBoard finds fault with it"


@pytest.mark.parametrize("route", ["/index.js", "/style.css", "/runs"])
def test_tensorboard_finds_no_fault(
    logdir: Path, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = ask(logdir, route)
    assert answer.status_code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not caplog.records


def test_answers_are_packed_for_who_can_unpack_them(logdir: Path) -> None:
    answer = ask(logdir, "/report", {"Accept-Encoding": "gzip, br"}, run="run1")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.data) == REPORT.encode()


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "run1/../../outside",
        "..%2foutside",
        "%2e%2e%2foutside",
        "..\\outside",
        "/etc/passwd",
        "{at}/outside",
        "file://{at}/outside",
        "run1/report.html",
        "run1\0",
        "",
        ".",
        "..",
    ],
)
@pytest.mark.parametrize("encoded", [False, True], ids=["as it is", "encoded by hand"])
def test_no_name_leads_out(tmp_path: Path, logdir: Path, name: str, encoded: bool) -> None:
    name = name.format(at=tmp_path)
    if encoded:
        name = "".join(f"%{byte:02x}" for byte in name.encode())
        application = tab(logdir).get_plugin_apps()["/report"]
        answer = Client(application).get(f"/report?run={name}")
    else:
        answer = ask(logdir, "/report", run=name)
    assert answer.status_code == 404
    assert answer.data == b"there is no such report"
    assert answer.content_type.startswith("text/plain")


def test_a_report_has_no_origin_where_a_browser_does_not_say_what_it_asks_for(logdir: Path) -> None:
    """Over http to another host than this one browsers send no Sec-Fetch-Dest."""
    policy = ask(logdir, "/report", run="run1").headers["Content-Security-Policy"]
    assert policy.endswith("; sandbox allow-scripts allow-downloads allow-modals")


def test_a_report_swapped_for_a_link_after_it_was_found(
    tmp_path: Path, logdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    report = logdir / "run1/report.html"
    monkeypatch.setattr("qwen3_profile.views.tensorboard.tab_runs._version", lambda _: "1-there")
    report.unlink()
    report.symlink_to(tmp_path / "secret")
    assert ask(logdir, "/report", run="run1").status_code == 404


def test_report_is_no_page_of_its_own(logdir: Path) -> None:
    """Outside of its frame it would have TensorBoard's origin."""
    for place, status in (("document", 403), ("iframe", 200)):
        answer = ask(logdir, "/report", {"Sec-Fetch-Dest": place}, run="run1")
        assert answer.status_code == status


def test_tensorboard_starts_without_torch_for_it() -> None:
    code = "import sys, qwen3_profile.views.tensorboard.tab; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "qwen3_profile" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "pandas"}
