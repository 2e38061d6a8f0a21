"""The report in a browser without a network: clicked through, and its numbers held against records.

Pictures of every page are written to `chromium.SCREENSHOTS`, for a person to look at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from make.chromium import Page, opened, started
from make.commands import Done
from make.compiled import compiled_record
from make.page_words import english_in
from make.paths import DATA, DECODE, EXPERTS
from make.report import HOSTILE, SCRIPTS, config_of, one_layer
from make.report_page import READY, WIDE, Reports, reports
from make.roofs import PRODUCT, SHORT, bounded
from make.samples import counted_record, decode_record, record

from qwen3_profile.analysis.layer_times import layer_times
from qwen3_profile.analysis.median_pass import median_record
from qwen3_profile.analysis.part_rows import part_tree
from qwen3_profile.analysis.scaling.sweep import sweeps_of
from qwen3_profile.attribution.parts import Part
from qwen3_profile.records.load import collect_trace, load, load_saved
from qwen3_profile.records.part_memory import pass_memory
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.memory_events import BLOCK, CLOSE, MemoryPass
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.views.report.build import build_report, render_page
from qwen3_profile.views.report.section_data import ShownPass, gather
from qwen3_profile.views.report.shown_pass import read_shown_pass
from qwen3_profile.views.terminal.memory import memory_table
from qwen3_profile.views.terminal.scaling import render_sweep

pytestmark = pytest.mark.slow
SIZES = {"wide": WIDE, "narrow": (390, 844)}


@dataclass(frozen=True)
class Sample:
    """A real trace's page, and what it was made of."""

    address: str
    shown: TimingRecord
    trace: ShownPass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def shown(browser: Any, folder: Path) -> Iterator[Reports]:
    with reports(browser, folder) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


def put(folder: Path, name: str, page: str) -> str:
    path = folder / f"{name}.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def decode(folder: Path) -> Sample:
    records = collect_trace(DECODE)
    shown = median_record(records)
    trace = read_shown_pass(DECODE, shown)
    return Sample(put(folder, "decode", render_page([gather(records, trace)])), shown, trace)


@pytest.fixture(scope="module")
def pages(folder: Path, decode: Sample, finished: Done) -> dict[str, str]:
    """Pages by what they show."""
    run = finished.cwd / "traces/run1"
    return {
        "decode": decode.address,
        "experts": put(folder, "experts", build_report(EXPERTS, load(EXPERTS))),
        "cpu": (run / "report.html").as_uri(),
        "sweep": put(folder, "sweep", render_page([gather(group, None) for group in sweep()])),
    }


def sweep() -> list[list[TimingRecord]]:
    """Prefills of several sizes and a decode, as if measured on a device; their traces are gone."""
    groups = []
    for index, (batch, length) in enumerate([(1, 128), (2, 128), (4, 128), (1, 512), (2, 512)]):
        total_ns = 900_000 + 40 * batch * length * (1 + length // 256)
        runs = [record(6, config=index, index=i, total_ns=total_ns + 4000 * i) for i in range(3)]
        assert runs[0].config
        config = replace(runs[0].config, batch_size=batch, input_len=length)
        groups.append([replace(each, config=config) for each in runs])
    steps = tuple(20_000 + 37 * (at * at % 11) for at in range(64))
    leaves = {0: 1000, 31: 1100, 63: 1300}
    groups.append([
        decode_record(6, index=i, leaves_ns=leaves, step_times_ns=steps) for i in range(2)
    ])  # fmt: skip
    return groups


@pytest.fixture
def page(shown: Reports, decode: Sample) -> Iterator[Page]:
    with shown.showing(decode.address) as found:
        yield found


def values(page: Page, table: str, column: int) -> list[float | None]:
    """The exact values of one column, as the page holds them."""
    found = page.page.eval_on_selector_all(
        f"#{table} tbody tr", f"rows => rows.map(row => row.children[{column}].dataset.value)"
    )
    return [None if value is None else float(value) for value in found]


def texts(page: Page, table: str, column: int) -> list[str]:
    found: list[str] = page.page.eval_on_selector_all(
        f"#{table} tbody tr", f"rows => rows.map(row => row.children[{column}].textContent)"
    )
    return found


def ms(ns: float) -> str:
    return f"{ns / 1e6:.3f}" if ns else "0"


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [
        *((name, "narrow", "dark") for name in ("experts", "cpu", "sweep", "decode")),
        ("decode", "wide", "dark"),
        ("decode", "narrow", "light"),
        # As the tests below have them.
        *((name, "wide", "light") for name in ("experts", "cpu", "sweep", "decode")),
    ],
)
def test_it_asks_nobody_and_complains_of_nothing(
    shown: Reports, pages: dict[str, str], name: str, size: str, scheme: str
) -> None:
    with shown.showing(pages[name], size=SIZES[size], scheme=scheme) as found:
        found.page.wait_for_timeout(200)
        assert found.page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
        assert found.page.evaluate("document.documentElement.dataset.theme") == scheme
        found.shoot(f"report-{name}-{size}-{scheme}", full_page=True)


def test_the_parts_are_the_records(page: Page, decode: Sample) -> None:
    rows = part_tree(decode.shown.times.forward)
    assert values(page, "parts-table", 2) == [row.times.cpu_ns for row in rows]
    assert values(page, "parts-table", 4) == [row.times.device_ns for row in rows]
    assert values(page, "parts-table", 6) == [row.times.device_events for row in rows]
    assert texts(page, "parts-table", 4) == [ms(row.times.device_ns) for row in rows]
    assert [name.strip() for name in texts(page, "parts-table", 0)] == [row.name for row in rows]


def test_the_totals_are_the_records(page: Page) -> None:
    busy = sorted(record.times.busy_ns for record in collect_trace(DECODE))
    (row,) = (at for at, n in enumerate(texts(page, "totals-table", 0)) if n == "cuda_busy")
    assert [values(page, "totals-table", at)[row] for at in (2, 1, 3)] == busy


def test_the_slowest_layer_is_marked(page: Page, decode: Sample) -> None:
    forward = decode.shown.times.forward
    times = layer_times(forward, part_tree(forward))
    slowest = times.layers[int(times.device_ns.sum(axis=1).argmax())]
    assert f"slowest (CUDA: {slowest}," in page.page.inner_text("#layers-legend")
    assert f"slowest layer {slowest} with" in page.page.inner_text("#layers-answer")


def test_every_control_and_picture_has_a_name(page: Page) -> None:
    unnamed = page.page.evaluate(
        """() => [...document.querySelectorAll('select, button, [role=img], [tabindex]')]
        .filter(e => !(e.ariaLabel || e.textContent && e.matches('button')
                       || e.labels && [...e.labels].some(l => l.textContent.trim())))
        .map(e => e.id || e.outerHTML.slice(0, 80))"""
    )
    hidden = {
        "configs-chart", "scaling-chart", "steps-chart", "contexts-chart", "experts-chart",
        "roofline-chart",
        "passes-chart",
        "grid-chart",
        "ranks-chart",
    }  # fmt: skip
    assert set(unnamed) <= hidden
    assert page.page.evaluate("document.documentElement.lang") == "en"


def test_the_first_screen_has_the_verdict_its_numbers_and_what_to_do(page: Page) -> None:
    """The sentence and the shares are those of the section that explains them."""
    word = page.page.inner_text("#first-verdict strong")
    sentence = page.page.locator("#waits-answer p").first.inner_text()
    assert word == page.page.inner_text("#verdict-word") == "launch-bound"
    assert page.page.inner_text("#first-verdict") == f"{word} {sentence}"
    numbers = page.page.locator("#first-numbers dd").all_inner_texts()
    assert len(numbers) == 3
    assert numbers[0].endswith(" ms")
    assert page.page.inner_text("#first-next").startswith("Next: ")
    box = page.page.locator("#first-next").bounding_box()
    assert box["y"] + box["height"] < WIDE[1]
    page.shoot("report-first-screen")


def figure(text: str, pattern: str) -> str:
    """What the one group of a pattern finds."""
    found = re.search(pattern, text)
    assert found, (pattern, text)
    return found[1]


def test_one_figure_is_the_same_wherever_it_stands(page: Page) -> None:
    """Sentences, tiles, tables, and the words of charts take them from one place."""
    get = page.page.inner_text
    answers = {name: get(f"#{name}-answer") for name in ("parts", "waits", "kernels", "layers")}
    parts = dict(zip(texts(page, "parts-table", 0), texts(page, "parts-table", 4), strict=True))
    chart = page.page.get_attribute("#parts-chart", "aria-label")
    busy, span, share = re.findall(r"[\d.]+", get("#first-verdict"))[:3]
    tiles = page.page.locator("#first-numbers dd").all_inner_texts()
    assert tiles[:2] == [f"{span} ms", f"{share}%"]
    assert get("#verdict p:first-child") == f"launch-bound: busy {busy} of {span} ms"
    assert texts(page, "configs-table", 7) == [f"{share}%"]
    idle = figure(answers["waits"], rf"takes {span} ms: GPU busy {busy} ms, idle ([\d.]+) ms")
    assert round(float(busy) + float(idle), 3) == float(span)
    cuda = figure(answers["parts"], r"Of ([\d.]+) ms of CUDA time")
    assert cuda == parts["decode"]
    none = figure(get("#time-answer"), r"([\d.]+) ms of GPU time .* unattributed")
    kernels = figure(answers["kernels"], r"ran for ([\d.]+) ms")
    assert f"{float(cuda) + float(none):.3f}" == kernels
    assert figure(answers["layers"], r"layers take ([\d.]+) ms") == parts["layers"]
    waits = zip(texts(page, "waits-table", 0), texts(page, "waits-table", 1), strict=True)
    busy_of = {part.split(" / ")[-1]: ns for part, ns in waits}
    for name in ("q_proj", "rope", "down_proj"):
        assert figure(chart, rf"/ {name} CUDA ([\d.]+) ms") == parts[name] == busy_of[name]


def test_shares_of_bare_need_a_bare_time(page: Page) -> None:
    assert page.page.locator("#unit option[value=share]").is_disabled()


def test_without_ceilings_there_are_no_roofs(page: Page) -> None:
    assert not page.page.is_visible("#roofline-figure")
    assert not page.page.is_visible("#verdicts-body")


def test_models_without_experts_have_none_and_no_memory_was_recorded(page: Page) -> None:
    assert not page.page.is_visible("#experts")
    assert not page.page.is_visible("#nav a[href='#experts']")
    assert not page.page.is_visible("#nav a[href='#memory-details']")


def test_one_execution_stands_beside_none(page: Page) -> None:
    assert page.page.locator("#ways-body").is_hidden()
    assert "MB" not in page.page.locator("#parts-table thead").inner_text()


def test_one_process_has_no_ranks(page: Page) -> None:
    assert page.page.locator("#ranks").is_hidden()
    assert page.page.locator("#nav a", has_text="Ranks").is_hidden()


def test_the_layers_are_the_records(page: Page, decode: Sample) -> None:
    forward = decode.shown.times.forward
    times = layer_times(forward, part_tree(forward))
    page.page.click("#layers-details summary")
    assert values(page, "layers-table", 0) == list(times.layers)
    assert values(page, "layers-table", 1) == times.device_ns.sum(axis=1).tolist()
    assert values(page, "layers-table", 2) == times.cpu_ns.sum(axis=1).tolist()
    attn = [part.find(f"{part.name}.attn") for part in forward.parts if part.name[:6] == "layer."]
    head = page.page.locator("#layers-table th").all_inner_texts().index("attn CUDA ms")
    assert values(page, "layers-table", head) == [part.total.device_ns for part in attn if part]


def test_the_kernels_are_the_traces(page: Page, decode: Sample) -> None:
    uses = decode.trace.kernels[:10]
    assert values(page, "kernels-table", 3)[:10] == [use.total_ns for use in uses]
    assert values(page, "kernels-table", 2)[:10] == [use.calls for use in uses]
    assert texts(page, "kernels-table", 6)[:10] == [use.op for use in uses]
    page.page.locator("#kernels-table tbody button").first.click()
    assert texts(page, "kernels-table", 0)[0] == uses[0].name


def test_kernels_of_one_part(page: Page, decode: Sample) -> None:
    page.page.select_option("#kernels-part", label="attn / rope")
    mine = [use for use in decode.trace.kernels if use.part[-1:] == ("rope",)]
    assert sum(value or 0 for value in values(page, "kernels-table", 3)) == sum(
        use.total_ns for use in mine
    )
    assert set(texts(page, "kernels-table", 1)) == {"attn / rope"}


def test_a_click_on_a_head_sorts(page: Page, decode: Sample) -> None:
    in_order = [row.times.device_ns for row in part_tree(decode.shown.times.forward)]
    button = page.page.locator("#parts-table th button", has_text="CUDA ms")
    head = page.page.locator("#parts-table th").filter(has_text="CUDA ms")
    expected = (
        ("descending", sorted(in_order, reverse=True)), ("ascending", sorted(in_order)),
        ("none", in_order),
    )  # fmt: skip
    for way, order in expected:
        button.press("Enter")
        assert head.get_attribute("aria-sort") == way
        assert values(page, "parts-table", 4) == order


def test_the_filter_finds_parts_layers_and_kernels(page: Page, decode: Sample) -> None:
    page.page.fill("#filter", "attn rope")
    assert set(texts(page, "parts-table", 0)) == {"rope"}
    assert set(texts(page, "kernels-table", 1)) == {"attn / rope"}
    mine = [use for use in decode.trace.kernels if use.part[-1:] == ("rope",)]
    assert len(texts(page, "kernels-table", 1)) == len(mine)
    assert "attn / rope" in page.page.locator("#parts-chart").get_attribute("aria-label")
    page.page.click("#layers-details summary")
    page.page.fill("#filter", "layer 7")
    assert texts(page, "layers-table", 0) == ["7"]
    name = decode.trace.kernels[0].name
    page.page.fill("#filter", name[:30])
    assert len(texts(page, "kernels-table", 0)) >= 1
    page.page.fill("#filter", "no such part")
    assert page.page.inner_text("#parts-table caption") == "Nothing here matches the filter."
    page.page.fill("#filter", "")
    assert len(texts(page, "parts-table", 0)) == len(part_tree(decode.shown.times.forward))


def test_a_table_is_copied_as_csv(page: Page, decode: Sample) -> None:
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.page.locator("#parts button", has_text="Copy as CSV").first.click()
    page.page.locator("#parts button", has_text="Copied").wait_for()
    head, *rows = page.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert head.startswith('"part, all layers",calls,CPU ms,share,CUDA ms')
    tree = part_tree(decode.shown.times.forward)
    assert [row.split(",")[0] for row in rows] == [row.name for row in tree]
    assert [row.split(",")[4] for row in rows] == [ms(row.times.device_ns) for row in tree]
    page.page.locator("#kernels button", has_text="Copy as CSV").click()
    page.page.wait_for_timeout(100)
    copied = page.page.evaluate("navigator.clipboard.readText()")
    assert decode.trace.kernels[0].name in copied.replace('""', '"')


def test_an_address_keeps_what_is_shown(shown: Reports, pages: dict[str, str]) -> None:
    with shown.showing(pages["decode"]) as found:
        found.page.select_option("#unit", "us")
        found.page.select_option("#theme", "dark")
        found.page.select_option("#layers-part", label="attn / rope")
        found.page.select_option("#timeline-layer", "8")
        found.page.fill("#filter", "rope & q")
        found.page.click("#nav a[href='#layers']")
        # The axis of the time line has the unit of its caption.
        assert found.page.evaluate("axisTime(12e6, 1e6)") == "12000 \u00b5s"
        address, window = found.page.evaluate("location.href"), window_of(found)
        part = found.page.input_value("#layers-part")
    with shown.showing(address) as found:
        values = [found.page.input_value(f"#{id}") for id in ("unit", "layers-part", "filter")]
        assert values == ["us", part, "rope & q"]
        assert found.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert window_of(found) == window
        assert found.page.evaluate("document.activeElement.id") == "layers"
        assert found.page.evaluate("scrollY") > 500
    with shown.showing(f"{pages['sweep']}#config=3") as found:
        assert found.page.input_value("#config") == "3"
        found.page.evaluate("location.hash = '#config=1'")
        found.page.wait_for_function("document.getElementById('config').value === '1'")
    with shown.showing(f"{pages['decode']}#nowhere&config=77&unit=miles&layer=x") as found:
        assert found.page.input_value("#unit") == "ms"


def test_navigation_stays_in_view_and_the_time_line_is_two_keys_away(page: Page) -> None:
    page.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.page.wait_for_timeout(100)
    assert 0 <= page.page.locator("#nav").bounding_box()["y"] < 60
    page.page.evaluate("scrollTo(0, 0)")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.id") == "timeline-chart"
    before = window_of(page)
    page.page.keyboard.press("+")
    assert window_of(page) != before


def test_the_tree_of_a_pass_is_walked_by_keys(page: Page, decode: Sample) -> None:
    """Each level is as long as the records have it, down to the kernels of a part of a layer."""
    chart = page.page.locator("#icicle-chart")
    forward = decode.shown.times.forward
    place = page.page.locator("#icicle-place")
    # What is in no label is a part of the pass, too.
    assert place.inner_text().startswith(f"decode: {ms(decode.shown.times.device_ns)} ms, 100.0%")
    slowest = max((p for p in forward.parts if p.name[:6] == "layer."), key=device_ns)
    chart.press("ArrowDown")
    assert chart.get_attribute("data-root") == f"decode/layer {slowest.name[6:]}"
    assert f"{ms(device_ns(slowest))} ms" in place.inner_text()
    chart.press("ArrowDown")
    block = max(slowest.parts, key=device_ns)
    assert f"{ms(device_ns(block))} ms" in place.inner_text()
    page.shoot("report-icicle")
    chart.press("ArrowDown")
    chart.press("ArrowDown")
    assert chart.get_attribute("data-root").count("/") == 4
    layer, part = int(slowest.name[6:]), max(block.parts, key=device_ns)
    kernels = [
        each for each in decode.trace.by_layer
        if each.layer == layer and each.part[-1:] == (part.name.rpartition(".")[2],)
    ]  # fmt: skip
    assert sum(each.total_ns for each in kernels) == device_ns(part)
    assert f"{ms(max(each.total_ns for each in kernels))} ms" in place.inner_text()
    chart.press("Escape")
    before = chart.get_attribute("data-root")
    chart.press("ArrowRight")
    chart.press("ArrowLeft")
    assert chart.get_attribute("data-root") == before
    page.page.select_option("#icicle-kind", "cpu")
    assert place.inner_text().startswith(f"decode: {ms(forward.total.cpu_ns)} ms, 100.0%")


def test_a_click_zooms_into_the_tree(page: Page) -> None:
    chart = page.page.locator("#icicle-chart")
    chart.evaluate("chart => chart.scrollIntoView({ block: 'center' })")
    box = chart.bounding_box()
    page.page.mouse.click(box["x"] + 20, box["y"] + 45)
    assert chart.get_attribute("data-root") == "decode/layer 0"
    page.page.mouse.click(box["x"] + 20, box["y"] + 15)
    assert chart.get_attribute("data-root") == "decode"


def device_ns(part: Part) -> int:
    return part.total.device_ns


def test_tokens_of_experts_are_a_heat_map(shown: Reports, folder: Path) -> None:
    routing = (LayerRouting(0, (4, 0, 2, 2)), LayerRouting(1, (1, 1, 1, 5)))
    config = gather([replace(record(2), routing=routing)], None)
    with shown.showing(put(folder, "routed", render_page([config]))) as found:
        label = found.page.locator("#experts-chart").get_attribute("aria-label")
        assert label == (
            "Tokens of 4 experts in 2 layers; the busiest is expert 3 of layer 1 with 2.50 times "
            "the mean"
        )
        assert found.page.is_visible("#nav a[href='#experts']")
        found.page.locator("#experts").scroll_into_view_if_needed()
        found.shoot("report-experts")


def test_memory_has_its_place_where_it_was_recorded(shown: Reports, folder: Path) -> None:
    """A layer allocates a block of 3 MB and gives it back: the table of the terminal."""
    events = (0, BLOCK, BLOCK, CLOSE), (0, 3_000_000, -3_000_000, 0), (0, 1, 1, 0)
    given = replace(record(2), memory=pass_memory(MemoryPass(0, ("layer.0",), *events, 0, 50)))
    with shown.showing(put(folder, "memory", render_page([gather([given], None)]))) as found:
        found.page.click("#nav a[href='#memory-details']")
        shown = found.page.inner_text("#memory")
        assert shown == memory_table(given)
        (row,) = (line for line in shown.splitlines() if line.strip().startswith("any layer"))
        assert row.split()[2:] == ["3.000", "3.000", "0", "3.000", "3.000"]
        assert not found.page.is_visible("#nav a[href='#sweeps-details']")


def test_parts_are_points_below_the_roofs(shown: Reports, folder: Path) -> None:
    """80 % of the memory's roof, and 90 % of that of the products, which are 10 and 100 per ns. A
    part that multiplies nothing has its verdict in the table alone.
    """
    works = {"lm_head": (100, 1, 80_000, 800_000), "layer.0.ffn.up_proj": PRODUCT, "norm": SHORT}
    given = bounded(works)
    with shown.showing(put(folder, "roofs", render_page([gather([given], None)]))) as found:
        label = found.page.locator("#roofline-chart").get_attribute("aria-label")
        assert label == (
            "2 parts below roofs of 100 GFLOP/s and 10.0 GB/s; up_proj is nearest to its roof, "
            "with 90 %"
        )
        assert "they meet at 10 FLOP/B" in found.page.inner_text("#roofline-note")
        assert "Not shown: 1 part without matrix products" in found.page.inner_text(
            "#roofline-note"
        )
        assert "prefill is " in found.page.inner_text("#roofline-sentence")
        assert texts(found, "verdicts-table", 4) == [
            "memory-bound",
            "compute-bound",
            "latency-bound",
        ]
        assert texts(found, "verdicts-table", 5)[0] == "8.0 GB/s, 80% of what was measured"
        assert texts(found, "verdicts-table", 5)[2].startswith(
            "50 kernels of 2.0 us each, too short"
        )
        assert "a latency-bound part: fewer and larger" in found.page.inner_text("#verdicts-advice")
        place = found.page.evaluate(
            "drawn.get('roofline-chart').convertToPixel({seriesIndex: 1}, [0.1, 8e8])"
        )
        found.page.locator("#roofline-chart").scroll_into_view_if_needed()
        box = found.page.locator("#roofline-chart").bounding_box()
        found.page.mouse.move(box["x"] + place[0], box["y"] + place[1])
        found.page.wait_for_selector(".tip:has-text('memory-bound')")
        tip = found.page.inner_text(".tip")
        assert "lm_head" in tip
        assert "8.0 GB/s" in tip
        assert "80 %" in tip
        found.shoot("report-roofline")


def test_hover_on_a_layer_tells_the_records_numbers(page: Page, decode: Sample) -> None:
    forward = decode.shown.times.forward
    times = layer_times(forward, part_tree(forward))
    chart = page.page.locator("#layers-chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    width = (box["width"] - 56 - 16) / len(times.layers)
    page.page.mouse.move(box["x"] + 56 + 8.5 * width, box["y"] + 100)
    tip = page.page.locator("#layers-chart .tip")
    tip.wait_for()
    said = tip.inner_text().split("\n")
    assert said[0] == "layer 8"
    at = times.layers.index(8)
    assert said[said.index("all CUDA") + 1] == f"{ms(int(times.device_ns[at].sum()))} ms"
    assert said[said.index("all CPU") + 1] == f"{ms(int(times.cpu_ns[at].sum()))} ms"
    page.shoot("report-hover-layer")


def test_one_part_of_the_layers(page: Page) -> None:
    page.page.select_option("#layers-part", label="attn / k_norm")
    label = page.page.locator("#layers-chart").get_attribute("aria-label")
    # One pass alone marks none.
    assert label.endswith("Marked: CUDA: none; CPU: none")
    assert page.page.locator("#layers-legend").inner_text().startswith("attn / k_norm")


def window_of(page: Page) -> tuple[int, int]:
    chart = page.page.locator("#timeline-chart")
    return int(chart.get_attribute("data-from")), int(chart.get_attribute("data-to"))


def test_the_time_line_zooms(page: Page, decode: Sample) -> None:
    span = decode.trace.timeline.span_ns
    assert window_of(page) == (0, span)
    chart = page.page.locator("#timeline-chart")
    page.page.click("#timeline-in")
    assert window_of(page) == pytest.approx((span / 4, 3 * span / 4), abs=2)
    page.page.click("#timeline-right")
    assert window_of(page) == pytest.approx(
        (span / 4 + 0.2 * span, 3 * span / 4 + 0.2 * span), abs=2
    )
    chart.press("-")
    assert window_of(page) == pytest.approx((0, span), abs=2)
    chart.press("+")
    chart.press("ArrowLeft")
    begin, end = window_of(page)
    assert (begin, end) == pytest.approx((0.15 * span, 0.65 * span), abs=2)
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.page.mouse.move(box["x"] + 600, box["y"] + 60)
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -200)
    page.page.keyboard.up("Control")
    page.page.wait_for_timeout(200)
    closer = window_of(page)
    assert begin < closer[0] < closer[1] < end
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 500, box["y"] + 60, steps=4)
    page.page.mouse.up()
    page.page.wait_for_timeout(200)
    moved = window_of(page)
    assert moved[0] > closer[0]
    assert moved[1] - moved[0] == pytest.approx(closer[1] - closer[0], abs=3)
    page.page.click("#timeline-all")
    assert window_of(page) == (0, span)


def test_a_layer_of_the_time_line(page: Page, decode: Sample) -> None:
    page.page.select_option("#timeline-layer", "8")
    lanes = decode.trace.timeline.lanes
    mine = [(lane.bars, lane.bars.layer == 8) for lane in lanes]
    begin = min(int(bars.start_ns[at].min()) for bars, at in mine if at.any())
    end = max(int((bars.start_ns + bars.dur_ns)[at].max()) for bars, at in mine if at.any())
    assert window_of(page) == (begin, end)
    # The first kernel of the layer is told with its own figures.
    stream = lanes[-1].bars
    first = int((stream.layer == 8).argmax())
    chart = page.page.locator("#timeline-chart")
    chart.scroll_into_view_if_needed()
    for _ in range(4):
        zoom_round(page, int(stream.start_ns[first] + stream.dur_ns[first] // 2))
    box = chart.bounding_box()
    begin, end = window_of(page)
    middle = (stream.start_ns[first] + stream.dur_ns[first] / 2 - begin) / (end - begin)
    x = box["x"] + 150 + middle * (box["width"] - 166)
    page.page.mouse.move(x, box["y"] + 22 + 26 * (len(lanes) - 0.5))
    tip = page.page.locator("#timeline-chart .tip")
    tip.wait_for()
    said = tip.inner_text().split("\n")
    assert said[said.index("takes") + 1] == f"{stream.dur_ns[first] / 1e3:.3f} µs"
    lead = stream.start_ns[first] - stream.launch_ns[first]
    assert said[said.index("after its launch") + 1] == f"{lead / 1e3:.3f} µs"
    assert said[said.index("part") + 1] == "layer 8, input_layernorm"
    page.shoot("report-timeline-kernel")


def zoom_round(page: Page, at: int) -> None:
    """Zooms in by the wheel where time `at` is."""
    chart = page.page.locator("#timeline-chart")
    box = chart.bounding_box()
    begin, end = window_of(page)
    x = box["x"] + 150 + (at - begin) / (end - begin) * (box["width"] - 166)
    page.page.mouse.move(x, box["y"] + 60)
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -400)
    page.page.keyboard.up("Control")
    page.page.wait_for_timeout(120)


def test_times_are_shown_in_the_unit_that_is_chosen(shown: Reports, pages: dict[str, str]) -> None:
    with shown.showing(pages["sweep"]) as found:
        ns = values(found, "parts-table", 2)[0] or 0
        bare = values(found, "configs-table", 1)[0] or 0
        for unit, text, head in (
            ("ms", f"{ns / 1e6:.3f}", "CPU ms"), ("us", f"{ns / 1e3:.1f}", "CPU µs"),
            ("share", f"{100 * ns / bare:.2f}", "CPU % of bare"),
        ):  # fmt: skip
            found.page.select_option("#unit", unit)
            assert texts(found, "parts-table", 2)[0] == text
            assert head in found.page.locator("#parts-table th").all_inner_texts()
            assert found.page.locator("#first-numbers dd").first.inner_text().endswith(" ms")


def test_a_record_without_its_trace_shows_no_empty_pictures(
    shown: Reports, pages: dict[str, str]
) -> None:
    with shown.showing(pages["sweep"]) as found:
        assert not found.page.is_visible("#kernels-body")
        assert not found.page.is_visible("#timeline-body")
        assert found.page.is_visible("#waits-chart")


def test_choosing_a_config_shows_its_numbers(shown: Reports, pages: dict[str, str]) -> None:
    groups = sweep()
    with shown.showing(pages["sweep"]) as found:
        bare = [sorted(each.total_ns or 0 for each in group)[1] for group in groups[:-1]]
        assert values(found, "configs-table", 1)[:-1] == bare
        (told,) = sweeps_of(groups[:-1])
        assert found.page.inner_text("#sweeps-details summary").startswith("How each part grows")
        assert found.page.text_content("#sweeps") == render_sweep(told)
        for at, group in enumerate(groups[:-1]):
            found.page.select_option("#config", str(at))
            assert f"takes {bare[at] / 1e6:.3f} ms" in found.page.inner_text("#time-answer")
            said = found.page.get_attribute("#passes-chart", "aria-label")
            assert said.startswith(f"3 bare passes: p50 {bare[at] / 1e6:.3f}")
            rows = part_tree(median_record(group).times.forward)
            assert values(found, "parts-table", 2) == [row.times.cpu_ns for row in rows]
            # Of a part that was chosen every pass is shown; with another config, too.
            place = next(at for at, row in enumerate(rows) if row.name == "q_proj")
            found.page.select_option("#passes-part", f"cpu:{place}")
            times = sorted(part_tree(each.times.forward)[place].times.cpu_ns for each in group)
            note = found.page.inner_text("#passes-note")
            assert note.startswith(
                f"3 traced passes: min {ms(times[0])} ms, p50 {ms(times[1])} ms, "
            )
            assert f"max {ms(times[2])} ms." in note
            found.page.select_option("#passes-part", "all")
        grid = found.page.locator("#grid-chart")
        cells = [f"{size.batch} x {size.length}: {ms(size.bare_ns)} ms" for size in told.sizes]
        assert grid.get_attribute("aria-label").endswith(", ".join(cells))
        found.page.select_option("#config", "0")
        row = next(at for at, each in enumerate(told.rows) if each.path[-1] == "q_proj")
        found.page.select_option("#grid-row", str(row))
        said = grid.get_attribute("aria-label")
        assert f": {ms(told.rows[row].times_ns[0])} ms, " in said
        found.shoot("report-grid")
        found.page.select_option("#config", str(len(groups) - 1))
        assert "One decode step takes" in found.page.inner_text("#time-answer")
        assert found.page.is_visible("#steps-chart")
        assert found.page.is_visible("#contexts-chart")
        found.shoot("report-decode-chosen")


def test_time_lines_of_several_configs(shown: Reports, folder: Path, decode: Sample) -> None:
    experts = gather(collect_trace(EXPERTS), read_shown_pass(EXPERTS, collect_trace(EXPERTS)[0]))
    both = render_page([experts, gather([decode.shown], decode.trace)])
    with shown.showing(put(folder, "both", both)) as found:
        # Faster than it can be drawn.
        found.page.evaluate("choose(1); choose(0); choose(1)")
        found.page.wait_for_timeout(200)
        assert window_of(found) == (0, decode.trace.timeline.span_ns)
        found.page.select_option("#config", "0")
        assert experts.trace
        assert window_of(found) == (0, experts.trace.timeline.span_ns)


def test_a_click_on_a_bar_chooses_its_config(shown: Reports, pages: dict[str, str]) -> None:
    with shown.showing(pages["sweep"]) as found:
        chart = found.page.locator("#configs-chart")
        chart.evaluate("chart => chart.scrollIntoView({ block: 'center' })")
        box = chart.bounding_box()
        found.page.mouse.click(box["x"] + 270, box["y"] + 4 + (box["height"] - 32) * 3.5 / 6)
        assert found.page.input_value("#config") == "3"
        assert "1 x 512" in found.page.inner_text("#shown")


def test_the_time_is_plotted_against_what_differs(shown: Reports, pages: dict[str, str]) -> None:
    with shown.showing(pages["sweep"]) as found:
        chart = found.page.locator("#scaling-chart")
        times = [ms(sorted(each.total_ns or 0 for each in group)[1]) for group in sweep()]
        by_batch = "1: {} ms, 2: {} ms, 4: {} ms; ".format(*times)
        assert f"with input length 128: {by_batch}" in chart.get_attribute("aria-label")
        found.page.select_option("#scaling-axis", "input_len")
        by_length = f"with batch size 1: 128: {times[0]} ms, 512: {times[3]} ms"
        assert by_length in chart.get_attribute("aria-label")
    with shown.showing(pages["experts"]) as found:
        assert not found.page.is_visible("#scaling-figure")
        assert not found.page.is_visible("#config")


def test_a_run_without_a_device_shows_the_cpu_alone(
    shown: Reports, pages: dict[str, str], finished: Done
) -> None:
    with shown.showing(pages["cpu"]) as found:
        assert not found.page.is_visible("#waits-chart")
        assert "CPU-only run" in found.page.inner_text("#waits-answer")
        assert "operators" in found.page.inner_text("#kernels-title")
        heads = found.page.locator("#parts-table th").all_inner_texts()
        assert not any("CUDA" in head for head in heads)
        (group, _) = load_saved(finished.cwd / "traces/run1").groups
        rows = part_tree(median_record(group).times.forward)
        assert values(found, "parts-table", 2) == [row.times.cpu_ns for row in rows]


def test_light_and_dark_can_be_chosen(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.page.evaluate(ground)
    page.page.select_option("#theme", "dark")
    assert page.page.evaluate(ground) != light
    page.page.click("#timeline-in")
    shown = window_of(page)
    page.page.select_option("#theme", "light")
    assert page.page.evaluate(ground) == light
    assert window_of(page) == shown


def test_the_page_switches_to_chinese_and_its_address_keeps_that(
    shown: Reports, decode: Sample
) -> None:
    with shown.showing(decode.address) as found:
        found.page.select_option("#icicle-kind", "cpu")
        found.page.select_option("#language", "zh")
        address = found.page.evaluate("location.href")
        assert found.page.evaluate("document.documentElement.lang") == "zh-CN"
        assert found.page.inner_text("#parts-title") == "2\n时间花在哪里？"
        assert found.page.locator("#parts .copy button").first.inner_text() == "复制为 CSV"
        assert found.page.input_value("#icicle-kind") == "cpu"
        found.page.click("#layers-details summary")
        assert english_in(found.page.inner_text("body")) == []
        labels = found.page.locator("[aria-label]")
        told = labels.evaluate_all("each => each.map(e => e.ariaLabel).join('\\n')")
        assert english_in(told) == []
        assert found.page.get_attribute("#filter", "placeholder") == "q_proj、层 3、gemm"
        found.page.fill("#filter", "层 7")
        assert texts(found, "layers-table", 0) == ["7"]
        found.page.select_option("#language", "en")
        assert found.page.inner_text("#parts-title") == "2\nWhere did the time go?"
    with shown.showing(address) as found:
        assert found.page.inner_text("#nav a[href='#parts']") == "部件"


def test_the_page_begins_in_the_language_of_the_browser(browser: Any, decode: Sample) -> None:
    with opened(browser, decode.address, locale="zh-CN") as found:
        found.page.wait_for_selector(READY)
        assert found.page.input_value("#language") == "zh"
        assert found.page.inner_text("#time-title") == "1\n用了多久，可信吗？"


_BLUE_ON_PAPER = """() => {
  dispatchEvent(new Event("beforeprint"));
  const canvas = document.querySelector("#timeline-chart canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  dispatchEvent(new Event("afterprint"));
  return data.filter((blue, at) => at % 4 === 2 && blue - data[at - 2] > 60).length;
}"""


def test_it_prints_on_white_with_all_it_has(shown: Reports, decode: Sample, tmp_path: Path) -> None:
    with shown.showing(decode.address, scheme="dark") as found:
        # What is not painted when the browser asks for paper is not on it: blue bars, say.
        assert found.page.evaluate(_BLUE_ON_PAPER) > 1000
        pdf = found.page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
        assert found.page.evaluate("document.documentElement.dataset.theme") == "dark"
        for name in ("environment", "memory", "sweeps"):
            assert found.page.evaluate(f"document.getElementById('{name}-details').open")
        found.page.emulate_media(media="print")
        assert found.page.is_visible("#timeline-chart")
        assert not found.page.is_visible("#nav")
        assert not found.page.locator(".copy").first.is_visible()
    assert 3 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 12
    assert len(pdf) > 100_000


def test_hostile_names_do_nothing(shown: Reports, folder: Path) -> None:
    """A config for each of them."""
    configs = [config_of(*one_layer(name, op=name)) for name in HOSTILE]
    with shown.showing(put(folder, "hostile", render_page(configs))) as found:
        dialogs: list[str] = []
        found.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        for at, name in enumerate(HOSTILE):
            found.page.select_option("#config", str(at))
            assert found.page.title() == "trace.json - qwen3_profile"
            expanding = found.page.locator("#kernels-table tbody button")
            if expanding.count():
                expanding.first.click()
            said = texts(found, "kernels-table", 0)[0]
            assert said == name or said.startswith(name[:400])
            found.page.locator("#kernels-chart").scroll_into_view_if_needed()
            box = found.page.locator("#kernels-chart").bounding_box()
            found.page.mouse.move(box["x"] + 350, box["y"] + 15)
            found.page.locator("#kernels-chart .tip").wait_for()
            assert found.page.locator("#kernels-chart .tip").inner_text().startswith(name[:10])
            assert found.page.locator("img, iframe, object, embed").count() == 0
            assert found.page.evaluate("document.scripts.length") == SCRIPTS
            assert found.page.evaluate("document.documentElement.scrollWidth") == 1280
            found.page.mouse.move(0, 0)
        assert dialogs == []


def test_executions_stand_side_by_side(shown: Reports, folder: Path) -> None:
    three = render_page([gather([each], None) for each in (counted_record(), compiled_record())])
    with shown.showing(put(folder, "executions", three)) as found:
        rows = list(zip(*(texts(found, "ways-table", at) for at in range(7)), strict=True))
        at = [row[:2] for row in rows].index(("q_proj", "eager"))
        # 400,000 bytes in 200 ns, and 120,000 in 60 ns.
        assert rows[at][4:] == ("2", "0.400", "2000.0")
        assert rows[at + 1][1] == "compiled"
        assert rows[at + 1][4:] == ("2", "0.120", "2000.0")
        assert ("rope", "compiled", "fused", "", "", "", "") in rows
        assert rows[-1][5] == "0.362"
        # What was not counted has no columns.
        heads = "#parts-table thead th"
        assert found.page.locator(heads).all_text_contents()[-2:] == ["traffic MB", "GB/s"]
        assert max(values(found, "parts-table", 7)) == 1_540_000
        assert found.page.evaluate("document.documentElement.scrollWidth") == 1280


def test_it_works_in_a_frame_that_may_do_nothing_but_run_it(
    browser: Any, folder: Path, pages: dict[str, str]
) -> None:
    inside = f'<!doctype html><iframe sandbox="allow-scripts" src="{pages["sweep"]}"></iframe>'
    with opened(browser, put(folder, "framed", inside)) as found:
        frame = found.page.frame_locator("iframe")
        frame.locator(READY).wait_for(state="attached")
        assert frame.locator("#parts-table tbody tr").count() == len(
            part_tree(sweep()[0][0].times.forward)
        )
    assert (found.outside, found.complaints) == ([], [])


@pytest.fixture(scope="module")
def of_ranks() -> str:
    path = DATA / "ranks"
    return build_report(path, load(path))


def test_hostile_names_of_ranks_do_nothing(shown: Reports, folder: Path, of_ranks: str) -> None:
    """Names that only the view of ranks shows: of parts, collectives and labels."""
    page, name = of_ranks, HOSTILE[1]
    for said in ("attn / o_proj / nccl", "all_reduce", "layer.4.residual_attn"):
        assert json.dumps(said) in page
        hostile = json.dumps(name).replace("<", "\\u003c").replace(">", "\\u003e")
        page = page.replace(json.dumps(said), hostile)
    with shown.showing(put(folder, "hostile-ranks", page)) as found:
        assert name in found.page.inner_text("#ranks-answer")
        assert name in texts(found, "ranks-table", 0)
        found.page.locator("#ranks-chart").scroll_into_view_if_needed()
        box = found.page.locator("#ranks-chart").bounding_box()
        # The second rank waits in the middle of the layer.
        found.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 24 + 51)
        tip = found.page.locator("#ranks-chart .tip")
        tip.wait_for()
        assert name in tip.inner_text()
        assert found.page.locator("img, iframe, object, embed").count() == 0
        assert found.page.evaluate("document.scripts.length") == SCRIPTS
        assert "owned" not in found.page.title()


def test_ranks_are_found_and_each_says_what_it_waits(
    shown: Reports, folder: Path, of_ranks: str
) -> None:
    with shown.showing(put(folder, "ranks", of_ranks)) as found:
        page = found.page
        page.locator("#nav a", has_text="Ranks").click()
        said = page.locator("#ranks-answer").inner_text()
        assert "The others wait for rank 0: in 1 pass it comes last to 23 of 25 collectives" in said
        assert "residual -0.6 \u00b5s to 0.6 \u00b5s" in said
        assert page.locator("#ranks-layer").input_value() == "4"
        last = page.locator("#ranks-table tbody tr").last
        assert last.locator(".waits").all_inner_texts() == ["+ 0.275 waiting", "+ 22.626 waiting"]
        # The layer with which it begins need not stand in the address.
        assert "ranks=" not in page.url
        page.select_option("#ranks-layer", "all")
        assert page.url.endswith("ranks=all")
        page.reload()
        page.wait_for_selector(READY)
        assert page.input_value("#ranks-layer") == "all"
        drawn = page.locator("#ranks-chart").get_attribute("aria-label")
        assert drawn.endswith("rank 0 waits 0.275 ms, rank 1 waits 22.626 ms")
        for name, size in SIZES.items():
            page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
            page.locator("#ranks").scroll_into_view_if_needed()
            found.shoot(f"ranks-{name}")
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
