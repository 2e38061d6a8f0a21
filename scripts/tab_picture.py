"""Draws docs/tab.png and its Chinese twin: TensorBoard's tab as it shows the run on an H200.

    python scripts/tab_picture.py

Needs what the tests of pages need, a Chromium of the system and the package playwright.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from qwen3_profile.records.load import load
from qwen3_profile.views.report.build import build_report

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "traces/h200"
PICTURES = {"en-US": ROOT / "docs/tab.png", "zh-CN": ROOT / "docs/zh-CN/tab.png"}
sys.path.insert(0, str(ROOT / "tests"))

from make.chromium import opened, started  # noqa: E402
from make.dashboard import running  # noqa: E402

_SIZE = {"width": 1280, "height": 1000}
# So many colours are enough for a page of text and bars, and keep the file small.
_COLOURS = 64


def draw(folder: Path) -> None:
    """Writes the pictures; `folder` is for what it takes."""
    run = shutil.copytree(SAMPLE, folder / "traces" / SAMPLE.name)
    (run / "report.html").write_text(build_report(run, load(run)), encoding="utf-8")
    with running(run.parent, folder / "log") as dashboard, started() as browser:
        for locale, picture in PICTURES.items():
            address = f"{dashboard.url}#qwen3_profile"
            with opened(browser, address, viewport=_SIZE, locale=locale) as page:
                tab = page.page.frame_locator("iframe[src*='qwen3_profile']")
                tab.frame_locator("iframe").get_by_role("heading").first.wait_for()
                page.page.wait_for_timeout(2000)  # charts move into place
                page.page.screenshot(path=picture)
            Image.open(picture).convert("RGB").quantize(_COLOURS).save(picture, optimize=True)
            print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size // 1000} kB")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))


if __name__ == "__main__":
    main()
