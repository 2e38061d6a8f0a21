"""Draws docs/tab.png, the README's picture of the tab: TensorBoard as it shows a run.

    python scripts/tab_picture.py [traces/run1]

Without a run it makes one: a few layers of Qwen3-0.6B on whatever device this machine has. Needs
what the tests of pages need, a Chromium of the system and the package playwright.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/tab.png"
sys.path.insert(0, str(ROOT / "tests"))

from make.chromium import opened, started  # noqa: E402
from make.dashboard import running  # noqa: E402

_MADE = (
    "--num-layers", "4", "--weights", "random", "--batch-size", "2", "--input-len", "64",
    "--dtype", "float32", "--num-runs", "5",
)  # fmt: skip
_SIZE = {"width": 1280, "height": 1000}
# So many colours are enough for a page of text and bars, and keep the file small.
_COLOURS = 64


def draw(run: Path | None, folder: Path) -> bytes:
    """The picture as PNG, of `run` or of one that is made now; `folder` is for what it takes."""
    logdir = folder / "traces"
    if run is None:
        command = [sys.executable, "-m", "qwen3_profile", *_MADE, "--trace-dir", str(logdir)]
        subprocess.run([*command, "--output-dir", str(folder / "results")], check=True)
    else:
        shutil.copytree(run, logdir / run.name)
    with (
        running(logdir, folder / "log") as dashboard,
        started() as browser,
        opened(browser, f"{dashboard.url}#qwen3_profile", viewport=_SIZE) as page,
    ):
        tab = page.page.frame_locator("iframe[src*='qwen3_profile']")
        tab.frame_locator("iframe").get_by_role("heading").first.wait_for()
        page.page.wait_for_timeout(2000)  # charts move into place
        page.page.screenshot(path=folder / "tab.png")
    small = folder / "small.png"
    Image.open(folder / "tab.png").convert("RGB").quantize(_COLOURS).save(small, optimize=True)
    return small.read_bytes()


def main() -> None:
    """Writes the picture."""
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as folder:
        PICTURE.write_bytes(draw(run, Path(folder)))
    print(f"{PICTURE.relative_to(ROOT)}  {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
