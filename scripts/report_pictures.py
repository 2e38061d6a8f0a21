"""Draws docs/report.png and docs/timeline.png, the README's pictures of the report on an H200.

    python scripts/report_pictures.py

Needs Chromium and the `test` extra.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from qwen3_profile.records.load import load
from qwen3_profile.views.report.build import build_report

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "traces/h200"
FOLDER = ROOT / "docs"

_WIDTH, _RIM = 1180, 12
_LAYER = "8"
_CONFIG = "decode"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        file = Path(folder, "report.html")
        file.write_text(build_report(SAMPLE, load(SAMPLE)), encoding="utf-8")
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": _WIDTH, "height": 900}, device_scale_factor=1.5, color_scheme="light"
        )
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        shown = page.locator("#config option", has_text=_CONFIG).first.get_attribute("value")
        page.select_option("#config", shown)
        page.select_option("#timeline-layer", _LAYER)
        # The bar at the top follows the page, and would lie over what is shown.
        page.evaluate("document.querySelector('header').hidden = true")
        _shoot(page, "parts", "parts-chart", "report.png")
        _shoot(page, "timeline", "timeline-chart", "timeline.png")
        browser.close()


def _shoot(page: Page, first: str, last: str, name: str) -> None:
    """Everything from the top of one element to the bottom of another."""
    begin = page.evaluate(f"document.getElementById('{first}').getBoundingClientRect().top")
    end = page.evaluate(f"document.getElementById('{last}').getBoundingClientRect().bottom")
    clip = {"x": 0, "y": begin + 1, "width": _WIDTH, "height": end - begin + _RIM}
    page.screenshot(path=FOLDER / name, full_page=True, clip=clip)
    print((FOLDER / name).relative_to(ROOT))


if __name__ == "__main__":
    main()
