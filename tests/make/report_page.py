"""Reports in one page of a browser, which is loaded anew only where a test has changed it.

To open a page for each test costs three seconds of a processor, to load another report in a page
that has shown one costs one, and a report that a test only looks at costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from make.chromium import Page, opened

READY = "html[data-ready]"
WIDE = (1280, 900)

# All of a report that a person can see or that the page goes by, but for its pictures' pixels.
_STATE = """() => JSON.stringify([
  location.href, innerWidth, innerHeight, scrollX, scrollY, document.title,
  document.activeElement.id, matchMedia("print").matches,
  matchMedia("(prefers-color-scheme: dark)").matches,
  [...document.documentElement.attributes].map((each) => each.value),
  [...document.querySelectorAll("select, input")].map((each) => each.value),
  [...document.querySelectorAll("body > :not(script)")].map((each) => each.outerHTML),
])"""
# Puts back what the address of a page says; other changes need another load.
_PUT_BACK = """() => {
  document.activeElement.blur();
  scrollTo(0, 0);
  history.replaceState(null, "", location.pathname);
  openLink();
}"""


class Reports:
    """Shows one report at a time; each begins as it is when it has just been loaded."""

    def __init__(self, found: Page) -> None:
        self._found = found
        self._address = ""
        self._loaded = ""

    @contextmanager
    def showing(
        self, address: str, *, size: tuple[int, int] = WIDE, scheme: str = "light"
    ) -> Iterator[Page]:
        """The report at `address`; it asks nobody and complains of nothing until the end."""
        page, found = self._found.page, self._found
        found.complaints.clear()
        if (address, size, scheme) != (self._address, WIDE, "light"):
            self._load(address, size, scheme)
        self._address = ""  # until this one has ended well
        yield found
        assert (found.outside, found.answered, found.complaints) == ([], [], [])
        if page.evaluate(_STATE) != self._loaded and page.url.split("#")[0] == address:
            page.evaluate(_PUT_BACK)
        if page.evaluate(_STATE) == self._loaded:
            self._address = address

    def _load(self, address: str, size: tuple[int, int], scheme: str) -> None:
        page = self._found.page
        page.mouse.move(0, 0)
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(media="screen", color_scheme=scheme)
        page.goto("about:blank")  # an address that differs in its last part alone is not loaded
        page.goto(address)
        page.wait_for_selector(READY)
        self._loaded = page.evaluate(_STATE)


@contextmanager
def reports(browser: Any, folder: Path) -> Iterator[Reports]:
    """Of files; `folder` is one that there is."""
    with opened(browser, folder.as_uri()) as found:
        yield Reports(found)
