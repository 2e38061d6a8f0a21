"""The system's Chromium, in which every outside host is blocked, and what its pages complain of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from make.paths import ROOT

# A person looks at these; the folder can be chosen. Where a change is judged nobody does.
SCREENSHOTS = Path(os.environ.get("QWEN3_PROFILE_SCREENSHOTS") or ROOT / "tests" / "screenshots")
ARE_LOOKED_AT = "CI" not in os.environ or "QWEN3_PROFILE_SCREENSHOTS" in os.environ
_PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_ARGUMENTS = [
    "--no-sandbox",  # containers lack what the sandbox needs
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@dataclass
class Page:
    """A page of Playwright, with what it asked of other hosts and what it complained of.

    answered: of what it asked, what was let through and answered.
    """

    page: Any
    outside: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def shoot(self, name: str, *, full_page: bool = False) -> None:
        if ARE_LOOKED_AT:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=full_page)


@contextmanager
def started() -> Iterator[Any]:
    """Chromium without a window; skips the test where something is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if _PROGRAM is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_PROGRAM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Page]:
    """A page at `address`, of which every request to another host and every error is noted."""
    host = "/".join(address.split("/")[:3]) + "/"
    options.setdefault("viewport", {"width": 1280, "height": 800})
    context = browser.new_context(**options)
    found = Page(context.new_page())

    def is_outside(url: str) -> bool:
        return not url.startswith((host, "data:", "blob:"))

    context.on("request", lambda r: is_outside(r.url) and found.outside.append(r.url))
    context.on("response", lambda r: is_outside(r.url) and found.answered.append(r.url))
    context.on("console", lambda m: m.type == "error" and found.complaints.append(m.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.set_default_timeout(60_000)
    try:
        found.page.goto(address)
        yield found
    finally:
        context.close()
