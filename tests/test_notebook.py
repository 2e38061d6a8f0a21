"""The notebook of the examples runs from its first cell to its last, and what it shows is HTML."""

from __future__ import annotations

import ast
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from make.chromium import opened, started
from make.paths import ROOT
from make.report import data_of
from make.samples import record

from qwen3_profile.api import Profile, Report
from qwen3_profile.errors import ConfigError
from qwen3_profile.views.notebook import framed, html_table, plot_passes
from qwen3_profile.views.passes_picture import Picture
from qwen3_profile.words import language_kept, use_language

NOTEBOOK = ROOT / "examples/forward_pass.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> object:
    """Runs a cell as a notebook does; the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    *_, last = tree.body
    if not isinstance(last, ast.Expr):
        exec(compile(tree, str(NOTEBOOK), "exec"), names)
        return None
    tree.body.pop()
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    value: object = eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
    return value


@pytest.fixture(scope="module")
def shown() -> list[object]:
    """What each cell of the notebook that shows anything shows."""
    names: dict[str, Any] = {}
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [value for value in (run_cell(code, names) for code in codes) if value is not None]


class Cells(HTMLParser):
    """The rows of the tables of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_the_notebook_shows_a_table_pictures_and_numbers(shown: list[object]) -> None:
    profile, passes, tree, timeline, numbers = shown
    assert isinstance(profile, Profile)
    rows = Cells(profile._repr_html_()).rows
    assert rows[0] == ["part, all layers, ms", "calls", "cpu", "share"]
    assert [row[0].strip() for row in rows if row[0].strip() == "q_proj"] == ["q_proj"]
    for plot, start in ((tree, "icicle"), (timeline, "timeline")):
        assert isinstance(plot, Report)
        assert f'data-start="{start}"' in plot.page
        assert len(data_of(plot.page)["configs"]) == 1
    assert isinstance(passes, Picture)
    assert isinstance(numbers, list)
    assert len(numbers) == 4


def test_the_table_is_the_records() -> None:
    """One layer with 9 parts of attention of 1 us each, on a device that takes a tenth."""
    rows = {row[0].strip(): row[1:] for row in Cells(html_table([record(1)])).rows}
    assert rows["attn"] == ["1", "0.009", "0.001", "9", "0.008", "47.4%"]


def test_tables_and_pictures_speak_the_language_that_was_chosen() -> None:
    records = [record(1)]
    with language_kept():
        use_language("zh")
        table, picture = html_table(records), plot_passes(records).svg
        part = plot_passes(records, "attn").svg
    assert "<th>占比</th>" in table
    assert "前 5 项合计" in table
    assert "第 1 遍：" in picture
    assert "1 遍前向：p50 " in picture
    assert "attn" in part
    assert "time in" not in part


def test_a_name_is_no_markup() -> None:
    assert "<script>" not in framed("<script>alert(1)</script>", 100)


def test_there_is_no_such_section(shown: list[object]) -> None:
    profile = shown[0]
    assert isinstance(profile, Profile)
    with pytest.raises(ConfigError, match="did you mean kernels"):
        profile.report("kernel")


def test_the_frame_shows_the_report(shown: list[object], tmp_path: Path) -> None:
    plot = shown[2]
    assert isinstance(plot, Report)
    file = tmp_path / "cell.html"
    file.write_text(f"<!doctype html><meta charset=utf-8>{plot._repr_html_()}")
    with started() as browser, opened(browser, file.as_uri()) as found:
        frame = found.page.frame_locator("iframe")
        frame.locator("html[data-ready]").wait_for(state="attached")
        assert frame.locator("#icicle-chart").bounding_box()["width"] > 500
        assert frame.locator("#first-numbers dd").count() >= 1
        found.shoot("notebook-cell")
    assert (found.outside, found.complaints) == ([], [])
