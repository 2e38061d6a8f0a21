"""The page of a comparison: the numbers of its rows, in a browser that may ask nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make.chromium import opened, started
from make.page_words import english_in
from make.paths import ROOT
from make.sides import side

from qwen3_profile.analysis.comparison.compare import Comparison, compare
from qwen3_profile.analysis.comparison.rows import Rules
from qwen3_profile.records.sides import kernels_of, load_side
from qwen3_profile.views.comparison.page import render_page
from qwen3_profile.views.comparison.pictures import ratio_picture

QUIET = [[1.00, 1.01, 0.99], [1.01, 1.02, 1.00], [0.99, 1.00, 0.98]]


def compared(factor: float) -> Comparison:
    new = [[factor * each for each in passes] for passes in QUIET]
    return compare(side("a", QUIET), side("b", new, first=1), Rules(), kernels_of)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


def test_the_page_shows_what_was_compared(browser: Any, tmp_path: Path) -> None:
    found = compared(1.2)
    file = tmp_path / "comparison.html"
    file.write_text(render_page(found), encoding="utf-8")
    (config,) = found.configs
    with opened(browser, file.as_uri()) as seen:
        page = seen.page
        cells = page.locator("#en tr td:nth-child(5)").all_inner_texts()
        assert cells == [f"{row.ratio:.3f}" for row in config.every_row]
        assert "1.200 times as long" in page.inner_text("#en")
        # Three processes a side of three passes each, and a dot for each row.
        assert page.locator("#en circle.pass").count() == 18
        assert page.locator("#en g.slower circle").count() == len(config.every_row)
        columns = page.locator("#en svg >> nth=0").locator("text.quiet").all_text_contents()
        assert [each for each in columns if each in ("BASE", "NEW")] == ["BASE", "NEW"] * 3
        seen.shoot("comparison")
        page.click("#en >> text=中文")
        assert not page.is_visible("#en")
        assert page.inner_text("#zh h1") == "BASE 对比 NEW"
        assert page.locator("#zh tr td:nth-child(5)").all_inner_texts() == cells
        assert english_in(page.inner_text("#zh")) == []
        seen.shoot("comparison-zh")
        page.click("#zh >> text=English")
        assert page.is_visible("#en")
        assert not page.is_visible("#zh")
        assert (seen.outside, seen.complaints) == ([], [])


def test_what_differs_is_said_in_the_language_of_the_page() -> None:
    """An H100's run without clock passes, and an H200's with them."""
    runs = ROOT / "tests" / "data" / "runs"
    sides = (load_side(runs / name) for name in ("h100-2layers", "h200-2layers"))
    english, chinese = render_page(compare(*sides, Rules(), kernels_of)).split('<main id="zh"')
    assert '<td class="words">of the clock pass</td>' in english
    assert '<td class="words">取自时钟前向</td>' in chinese


def test_runs_are_named_and_lead_to_their_reports(tmp_path: Path) -> None:
    run = tmp_path / "run 1"
    run.mkdir()
    (run / "report.html").write_text("")
    base = [replace(each, source=run) for each in side("a", QUIET[:1])]
    found = compare(base, side("b", QUIET[:1], first=1), Rules(), lambda *_: ())
    page = render_page(found, tmp_path / "comparisons")
    assert 'BASE: 1 process (<a href="../run%201/report.html">a0</a>)' in page
    assert "NEW: 1 process (b0)" in page
    (run / "report.html").unlink()
    assert "BASE: 1 process (a0)" in render_page(found, tmp_path)


def test_names_of_kernels_and_files_are_text() -> None:
    found = compared(1.0)
    (config,) = found.configs
    picture = ratio_picture(config.every_row, found.rules)
    assert "<script" not in render_page(found)
    assert picture.count("<circle") == len(config.every_row)
    # What is the same lies in the band, near the middle of the axis.
    assert 'class="undecided"' not in picture
