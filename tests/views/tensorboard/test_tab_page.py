"""The tab in a browser: runs are chosen, written again and added, and a hostile report stays in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from make.chromium import ARE_LOOKED_AT, Page, opened, started
from make.commands import Done
from make.dashboard import Dashboard, running
from make.samples import make_run

pytestmark = pytest.mark.slow
TAB = "#qwen3_profile"
REPORT = """<!doctype html><html lang="en"><meta name="color-scheme" content="light dark">
<title>Report</title><style>body {{ font: 16px sans-serif }}</style><h1></h1>
<script>document.querySelector("h1").textContent = "Report of " + {name!r};</script></html>"""


POLL_MS = 200
HURRY = f"""const real = window.setTimeout;
window.setTimeout = (what, ms, ...rest) => real(what, ms === 2000 ? {POLL_MS} : ms, ...rest);"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logdir")


@pytest.fixture(scope="module")
def dashboard(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    log = tmp_path_factory.mktemp("log") / "log"
    with running(place, log) as dashboard:
        yield dashboard
    assert "Traceback" not in log.read_text()
    assert "Content-Security-Policy" not in log.read_text()


@pytest.fixture
def logdir(place: Path) -> Path:
    """Two runs, of which run2 is the later one."""
    for path in place.iterdir():
        shutil.rmtree(path)
    make_run(place / "run1", REPORT.format(name="run1"), time_s=1_700_000_001)
    make_run(place / "run2", REPORT.format(name="run2"), time_s=1_700_000_002)
    return place


@contextmanager
def opened_window(browser: Any, dashboard: Dashboard) -> Iterator[Page]:
    with opened(browser, f"{dashboard.url}data/plugin/qwen3_profile/style.css") as found:
        found.page.add_init_script(HURRY)
        found.page.wait_for_load_state("networkidle")
        yield found


@pytest.fixture(scope="module")
def window(browser: Any, dashboard: Dashboard) -> Iterator[Page]:
    """One for all tests, so that TensorBoard's own page is fetched and compiled once."""
    with opened_window(browser, dashboard) as found:
        yield found


@contextmanager
def opened_tab(
    window: Page, dashboard: Dashboard, size: tuple[int, int] = (1280, 800), scheme: str = "light"
) -> Iterator[Page]:
    """The tab, with run2 in it, which looks for news ten times as often."""
    for told in (window.outside, window.answered, window.complaints):
        told.clear()  # TensorBoard has an icon for its own page alone, too
    page = window.page
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    page.goto(dashboard.url + TAB)
    heading(window, "run2")
    yield window
    page.goto("about:blank")


@pytest.fixture
def page(window: Page, dashboard: Dashboard, logdir: Path) -> Iterator[Page]:
    """The tab; a test ends without a request to others or an error."""
    with opened_tab(window, dashboard) as page:
        yield page
        assert page.outside == []
        assert page.complaints == []


def tab(page: Page) -> Any:
    return page.page.frame_locator("iframe[src*='qwen3_profile']")


def heading(page: Page, run: str) -> None:
    """Waits until the report of `run` is shown, whose own script wrote its heading."""
    tab(page).frame_locator("iframe").get_by_role("heading", name=f"Report of {run}").wait_for()


def report_frame(page: Page) -> Any:
    return next(frame for frame in page.page.frames if "/report?" in frame.url)


def told(page: Page, text: str) -> None:
    tab(page).get_by_role("status").get_by_text(text).wait_for()


def write_report(folder: Path, text: str) -> None:
    beside = folder / ".report.html"
    beside.write_text(text)
    os.replace(beside, folder / "report.html")


def test_runs_are_chosen_by_mouse_and_keyboard(page: Page) -> None:
    choice = tab(page).get_by_label("Run")
    assert choice.locator("option").all_inner_texts() == [
        "run2 (Qwen/Qwen3-0.6B, 2026-01-02 03:04)",
        "run1 (Qwen/Qwen3-0.6B, 2026-01-02 03:04)",
    ]
    page.shoot("tab")
    choice.select_option("run1")
    heading(page, "run1")
    choice.focus()
    page.page.keyboard.press("ArrowUp")
    heading(page, "run2")
    assert tab(page).locator("iframe").get_attribute("title") == "Report of run2"


def test_a_report_that_takes_its_time_has_a_spinner(page: Page) -> None:
    held: list[Any] = []
    page.page.route("**/report?run=run1*", lambda route: held.append(route))
    tab(page).get_by_label("Run").select_option("run1")
    spinner = tab(page).locator(".loading")
    spinner.wait_for()
    page.shoot("tab-loading")
    held[0].continue_()
    heading(page, "run1")
    spinner.wait_for(state="detached")


def test_the_profilers_own_tab_is_beside_it(page: Page, dashboard: Dashboard) -> None:
    listed = page.page.evaluate("() => fetch('data/plugins_listing').then((r) => r.json())")
    assert listed["qwen3_profile"]["tab_name"] == "Qwen3 profile"
    assert listed["qwen3_profile"]["enabled"]
    assert "pytorch_profiler" in listed


def test_a_report_is_loaded_again_only_when_it_was_written_again(page: Page, logdir: Path) -> None:
    report_frame(page).evaluate("() => { window.mark = 1; }")
    page.page.wait_for_timeout(3 * POLL_MS)
    assert report_frame(page).evaluate("() => window.mark") == 1
    write_report(logdir / "run1", REPORT.format(name="run1 again"))
    page.page.wait_for_timeout(3 * POLL_MS)
    assert report_frame(page).evaluate("() => window.mark") == 1, "another run was written"
    write_report(logdir / "run2", REPORT.format(name="run2 again"))
    heading(page, "run2 again")
    told(page, "run2 was written again")
    page.shoot("tab_written_again")


def test_a_new_run_is_listed_and_the_shown_one_stays(page: Page, logdir: Path) -> None:
    make_run(logdir / "deeper" / "run3", REPORT.format(name="run3"), time_s=1_700_000_003)
    told(page, "New: deeper/run3.")
    heading(page, "run2")
    tab(page).get_by_label("Run").select_option("deeper/run3")
    heading(page, "run3")
    page.shoot("tab_new_run")


def test_a_run_without_a_report_says_how_to_get_one(page: Page, logdir: Path) -> None:
    make_run(logdir / "run3", time_s=1_700_000_003)
    tab(page).get_by_label("Run").select_option("run3")
    command = f"python -m qwen3_profile.export {logdir / 'run3'} --report"
    tab(page).get_by_text(command).wait_for()
    page.shoot("tab_no_report")
    write_report(logdir / "run3", REPORT.format(name="run3"))
    heading(page, "run3")


def test_a_folder_without_runs_says_so(page: Page, logdir: Path) -> None:
    for path in logdir.iterdir():
        shutil.rmtree(path)
    tab(page).get_by_text("There is no run below the log directory").wait_for()
    assert tab(page).get_by_label("Run").is_disabled()
    page.shoot("tab_empty")
    make_run(logdir / "run4", REPORT.format(name="run4"))
    heading(page, "run4")


def test_dark_and_narrow(window: Page, dashboard: Dashboard, logdir: Path) -> None:
    with opened_tab(window, dashboard, (390, 800), "dark") as page:
        page.page.evaluate("() => document.body.classList.add('dark-mode')")
        page.page.wait_for_timeout(3 * POLL_MS)
        page.shoot("tab_narrow_dark")
        choice = tab(page).get_by_label("Run").bounding_box()
        assert choice["x"] >= 0
        assert choice["x"] + choice["width"] <= 390
        dark = "() => getComputedStyle(document.documentElement).colorScheme"
        assert report_frame(page).parent_frame.evaluate(dark) == "dark"


def test_tensorboard_may_go_and_come_back(window: Page, dashboard: Dashboard, logdir: Path) -> None:
    with opened_tab(window, dashboard) as page:
        page.page.route("**/qwen3_profile/runs", lambda route: route.abort())
        told(page, "TensorBoard does not answer")
        page.page.unroute("**/qwen3_profile/runs")
        write_report(logdir / "run2", REPORT.format(name="run2 again"))
        heading(page, "run2 again")


HOSTILE = """<!doctype html><h1>Report of hostile</h1><p id="got"></p>
<img src="https://outside.example/a.png" onerror="document.title = 'handler ran'">
<link rel="stylesheet" href="https://outside.example/a.css">
<script src="https://outside.example/a.js"></script>
<form id="form" action="https://outside.example/"><input name="a"></form>
<script>
const got = [];
const tried = async (name, what) => {
  try { await what(); got.push(name); } catch (error) { /* as it should be */ }
};
(async () => {
  await tried("origin", () => { if (self.origin === "null") throw 0; });
  await tried("parent", () => parent.document.title);
  await tried("storage", () => localStorage.length);
  await tried("runs", () => fetch("./runs"));
  await tried("outside", () => fetch("https://outside.example/"));
  await tried("eval", () => eval("1"));
  await tried("window", () => { if (!open("https://outside.example/")) throw 0; });
  await tried("top", () => { top.location = "https://outside.example/"; });
  document.getElementById("form").submit();
  document.getElementById("got").textContent = "got: " + got.join(" ") + ".";
})();
</script>"""


def test_a_hostile_report_stays_in_its_frame(
    browser: Any, dashboard: Dashboard, logdir: Path
) -> None:
    """In a window of its own: what is refused it the browser may tell late."""
    name = "<img src=x onerror=document.title=1>"
    with (
        opened_window(browser, dashboard) as window,
        opened_tab(window, dashboard) as page,
    ):
        make_run(logdir / name, HOSTILE, time_s=1_700_000_009)
        tab(page).get_by_label("Run").select_option(name)
        heading(page, "hostile")
        frame = tab(page).frame_locator("iframe")
        assert frame.locator("#got").inner_text() == "got: ."
        assert page.page.url.startswith(dashboard.url)
        assert len(page.page.context.pages) == 1
        assert report_frame(page).evaluate("() => document.title") == ""
        chosen = tab(page).get_by_label("Run").locator("option").first.inner_text()
        assert chosen.startswith(name)
        assert tab(page).locator("img").count() == 0
        assert page.answered == [], "a request came through"


def test_a_runs_own_report_works_in_the_frame(page: Page, logdir: Path, finished: Done) -> None:
    """The frame takes its origin from the report, and the policy all but its own scripts."""
    (logdir / "own").mkdir()
    for name in ("run.json", "report.html"):
        shutil.copy(finished.cwd / "traces/run1" / name, logdir / "own")
    tab(page).get_by_label("Run").select_option("own")
    report = tab(page).frame_locator("iframe")
    report.get_by_role("heading", name="How long did it take").wait_for()
    first = report.locator("h1 + p").inner_text()
    report.locator("#config").select_option(index=1)
    assert report.locator("h1 + p").inner_text() != first
    if ARE_LOOKED_AT:
        page.page.wait_for_timeout(1000)  # charts move into place
    page.shoot("tab_real_report")


def test_the_tab_speaks_the_language_of_the_browser(
    browser: Any, dashboard: Dashboard, logdir: Path
) -> None:
    (logdir / "run1/report.html").unlink()
    address = f"{dashboard.url}data/plugin_entry.html?name=qwen3_profile"
    with opened(browser, address, locale="zh-CN") as found:
        found.page.get_by_label("运行").select_option("run1")
        found.page.get_by_text("run1 没有报告").wait_for()
        assert found.outside == []
        assert all("404" in text for text in found.complaints)  # it has no icon by itself
