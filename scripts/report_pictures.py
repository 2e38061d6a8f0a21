"""Draws the docs' pictures of reports, in English and in Chinese.

    python scripts/report_pictures.py

Of the run on an H200: its first screen, the parts and the time line of a layer. Of the sample of
two ranks: a layer of both on one time line. Needs Chromium and the `test` extra.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from qwen3_profile.records.load import load
from qwen3_profile.views.report.build import build_report

ROOT = Path(__file__).resolve().parents[1]
SAMPLE, RANKS = ROOT / "traces/h200", ROOT / "tests/data/ranks"
FOLDERS = {"en": ROOT / "docs", "zh": ROOT / "docs/zh-CN"}

_WIDTH, _RIM = 1180, 14
_LAYER = "8"
_CONFIG = "decode"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": _WIDTH, "height": 900}, device_scale_factor=1.5, color_scheme="light"
        )
        run, ranks = (_page(path, Path(folder)) for path in (SAMPLE, RANKS))
        for language, into in FOLDERS.items():
            page.goto(f"{run}#lang={language}&layer={_LAYER}")
            page.reload()
            page.wait_for_selector("html[data-ready]")
            shown = page.locator("#config option", has_text=_CONFIG).first.get_attribute("value")
            page.select_option("#config", shown)
            page.select_option("#timeline-layer", _LAYER)
            _shoot(page, "headline", "first-next", into / "first.png")
            _shoot(page, "parts", "parts-chart", into / "report.png")
            _shoot(page, "timeline", "timeline-chart", into / "timeline.png")
            page.goto(f"{ranks}#lang={language}")
            page.wait_for_selector("html[data-ready]")
            _shoot(page, "ranks", "ranks-chart", into / "ranks.png")
        browser.close()


def _page(path: Path, folder: Path) -> str:
    """The address of the report on what lies at `path`."""
    file = folder / f"{path.name}.html"
    file.write_text(build_report(path, load(path)), encoding="utf-8")
    return file.as_uri()


def _shoot(page: Page, first: str, last: str, file: Path) -> None:
    """Everything from the top of one element to the bottom of another."""
    # The bar at the top follows the page, and would lie over what is shown.
    page.evaluate("document.querySelector('.bar').hidden = true")
    begin = page.evaluate(f"document.getElementById('{first}').getBoundingClientRect().top")
    end = page.evaluate(f"document.getElementById('{last}').getBoundingClientRect().bottom")
    top = begin + page.evaluate("scrollY") - _RIM
    clip = {"x": 0, "y": top, "width": _WIDTH, "height": end - begin + 2 * _RIM}
    page.screenshot(path=file, full_page=True, clip=clip)
    Image.open(file).convert("RGB").quantize().save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}  {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
