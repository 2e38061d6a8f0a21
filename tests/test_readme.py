"""The pages say what the program does: its flags, fields, names, figures and picture."""

from __future__ import annotations

import argparse
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from make.compiled import compiled_record
from make.samples import CEILINGS, decode_record, graph_record, record, training_record

from qwen3_profile import errors, label_parts
from qwen3_profile.analysis.explain import explain
from qwen3_profile.attribution.attribute import Reason
from qwen3_profile.cli import compare_options, export_options
from qwen3_profile.cli.run_flags import build_parser
from qwen3_profile.records.collective_sums import CollectiveTimes
from qwen3_profile.records.load import load
from qwen3_profile.records.part_memory import pass_memory
from qwen3_profile.records.pass_energy import pass_energy
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.energy import Energy
from qwen3_profile.run_folder.gpu_state import GpuState
from qwen3_profile.run_folder.memory_events import MemoryPass
from qwen3_profile.run_folder.sm_clock import SmClock
from qwen3_profile.views.terminal.explain import render_explanation
from qwen3_profile.views.terminal.tables import render

ROOT = Path(__file__).resolve().parents[1]
# The README of each language and the pages that it leads to, read as one.
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
DOCS = {ENGLISH: "docs", CHINESE: "docs/zh-CN"}
PAGES = [pytest.param(ENGLISH, id="english"), pytest.param(CHINESE, id="chinese")]
SAMPLE = ROOT / "traces/h200"

# Of every command, without a default.
EVERYWHERE = dict.fromkeys(("--quiet", "--verbose", "--lang"))
# The threshold of the noise warning is a figure of the program, not of the sample.
PROGRAM_FIGURES = {"10%"}

# What was measured elsewhere, as the reason that the code itself gives.
# Where a figure may come from, beside the sample.
SOURCES = (ROOT / "qwen3_profile/measure/profiler.py", *(ROOT / "benchmarks/results").glob("*.txt"))

_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?%?")
_FIGURE = re.compile(r"\d+(?:\.\d+)?(?= ms\b)|\d+(?:\.\d+)?%")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Table = list[list[str]]


@pytest.fixture(scope="module")
def sample() -> tuple[TimingRecord, ...]:
    """The decode of the run that the pages show."""
    return load(SAMPLE).groups[-1]


def files_of(page: str) -> list[Path]:
    return [ROOT / page, *sorted((ROOT / DOCS[page]).glob("*.md"))]


def text_of(page: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in files_of(page))


def prose_of(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def tables_of(page: str) -> list[Table]:
    """The page's tables as rows of cells, without their heads."""
    blocks = re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", text_of(page), re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in blocks
    ]


def table_with(page: str, cell: str) -> Table:
    """The only table with `cell` among the codes of its first column."""
    (found,) = (t for t in tables_of(page) if any(cell in _CODE.findall(row[0]) for row in t))
    return found


def flags_said(page: str) -> list[dict[str, str | None]]:
    """Each table of flags as flag -> default; None where words stand for the default."""
    return [
        {row[0].strip("`"): code[0] if (code := _CODE.findall(row[1])) else None for row in table}
        for table in tables_of(page)
        if all(row[0].startswith("`--") for row in table)
    ]


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str | None]:
    found = {}
    for action in parser._actions:
        flag = action.option_strings[-1] if action.option_strings else ""
        if flag not in ("", "--help", "--version", *EVERYWHERE):
            has_value = action.default is not None and action.default is not False
            found[flag] = str(action.default) if has_value else None
    return found


@pytest.mark.parametrize("page", PAGES)
def test_flags_and_defaults_are_the_parsers(page: str) -> None:
    comparing = flags_of(compare_options.build_parser())
    parsers = [build_parser(), export_options.build_parser()]
    assert flags_said(page) == [comparing, EVERYWHERE, *map(flags_of, parsers)]


def anchors_of(path: Path) -> set[str]:
    """What GitHub makes of the headings: small letters, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    reached = {ROOT / page}
    for path in files_of(page):
        for target in _LINK.findall(path.read_text(encoding="utf-8")):
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.is_file(), target
            assert not anchor or anchor in anchors_of(there), target
            reached.add(there)
    # The terminal's picture is the same in both languages; each has its own of the pages.
    own = ROOT / "docs" / ("zh-CN" if "zh-CN" in page else "")
    pictures = {ROOT / "docs/terminal.svg", *own.glob("*.png")}
    assert {*files_of(page), ROOT / "LICENSE", *pictures} <= reached
    assert len(pictures) == 6


@pytest.mark.parametrize("page", PAGES)
def test_every_place_of_the_layout_exists(page: str) -> None:
    places = [code for row in table_with(page, "tests") for code in _CODE.findall(row[0])]
    assert [place for place in places if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_module_has_its_place(page: str) -> None:
    places = {code for row in table_with(page, "tests") for code in _CODE.findall(row[0])}
    package = ROOT / "qwen3_profile"
    found = {f"qwen3_profile/{p.name}" for p in package.glob("*.py") if p.name != "__init__.py"}
    found |= {f"qwen3_profile/{p.parent.name}" for p in package.glob("*/__init__.py")}
    assert found - places == set()


@pytest.mark.parametrize("page", PAGES)
def test_figures_are_those_of_the_sample(page: str, sample: tuple[TimingRecord, ...]) -> None:
    printed = set(_NUMBER.findall(render(sample)))
    figures = set(_FIGURE.findall(prose_of(page)))
    assert len(figures) > 3
    measured = {
        figure for path in SOURCES for figure in _NUMBER.findall(path.read_text(encoding="utf-8"))
    }
    assert figures - printed - PROGRAM_FIGURES - measured == set()


@pytest.mark.parametrize("page", PAGES)
def test_number_of_device_events_is_the_samples(
    page: str, sample: tuple[TimingRecord, ...]
) -> None:
    (events,) = re.findall(r"(\d+) device events", render(sample))
    assert re.search(rf"\b{events}\b", prose_of(page))


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_what_is_explained_is_what_the_program_says_now(page: str) -> None:
    found = [explain(records) for records in load(SAMPLE).groups]
    decode = render_explanation(next(each for each in found if each.phase == "decode"))
    said = re.findall(r"```text\n(decode is .*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert said == [decode.split("\n\n", 1)[1] + "\n"]


@pytest.mark.parametrize("page", PAGES)
def test_every_field_of_a_record_is_told(page: str, sample: tuple[TimingRecord, ...]) -> None:
    said = [code for row in table_with(page, "layer_details") for code in _CODE.findall(row[0])]
    decode = decode_record(leaves_ns={0: 1000}, step_times_ns=(5000, 6000))
    prefill = replace(record(), config=decode.config)
    ranked = replace(
        sample[0],
        collectives=(CollectiveTimes("", "all_reduce", 1, 8, 2, 5, 0, 3, 2, 3.0),),
        own_total_ns=5.0,
        facts=replace(sample[0].facts, parallel="tp"),
    )
    memory = pass_memory(MemoryPass(0, (), (), (), (), 0, 0))
    facts = replace(prefill.facts, ceilings=CEILINGS)
    clock = SmClock(bare=(1980, 1980))
    energy = pass_energy(Energy(1, 2000, 1, 1000, 1, 1000), 2)
    prefill = replace(prefill, facts=facts, memory=memory, sm_clock=clock, gpu=GpuState(0))
    prefill = replace(prefill, energy=energy)
    every = (
        sample[0], prefill, decode, training_record(), graph_record(), compiled_record(), ranked,
    )  # fmt: skip
    fields = {key for each in every for key in each.to_json()}
    assert sorted(said) == sorted(fields)


@pytest.mark.parametrize("page", PAGES)
def test_every_named_gap_is_told(page: str) -> None:
    said = [code for row in table_with(page, "positions") for code in _CODE.findall(row[0])]
    # Two blocks may have gaps of one name.
    gaps = {row.name for row in label_parts.PARTS if isinstance(row, label_parts.Gap)}
    assert sorted(said) == sorted(gaps)


@pytest.mark.parametrize("page", PAGES)
def test_every_exit_code_is_told(page: str) -> None:
    codes = {v for name, v in vars(errors).items() if name.startswith("EXIT_")}
    assert {int(row[0].strip("`")) for row in table_with(page, "130")} == codes


@pytest.mark.parametrize("page", PAGES)
def test_every_reason_is_told(page: str) -> None:
    assert [r.text for r in Reason if f"*{r.text}*" not in text_of(page)] == []


def test_pages_have_the_same_commands() -> None:
    commands = [[b for kind, b in _FENCE.findall(text_of(page)) if kind in ("sh", "json")]
                for page in (ENGLISH, CHINESE)]  # fmt: skip
    assert commands[0] == commands[1]
    assert len(commands[0]) > 8


def test_pages_have_the_same_names() -> None:
    english, chinese = ({*_CODE.findall(prose_of(page))} for page in (ENGLISH, CHINESE))
    assert english == chinese


def test_pages_have_the_same_sections_and_tables() -> None:
    shapes = [
        (
            [len(h) for h in re.findall(r"^(#+) ", prose_of(page), re.MULTILINE)],
            [[_CODE.findall(row[0]) for row in table] for table in tables_of(page)],
        )
        for page in (ENGLISH, CHINESE)
    ]
    assert shapes[0] == shapes[1]


def test_pictures_load_at_once() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs").iterdir()}
    assert {name: size for name, size in sizes.items() if size > 300_000} == {}


def test_picture_is_what_the_program_prints_now() -> None:
    script = runpy.run_path(str(ROOT / "scripts/picture.py"))
    assert script["PICTURE"].read_text(encoding="utf-8") == script["draw"]()
