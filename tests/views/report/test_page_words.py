"""Every text of the report's page in both languages: none left out, none left over."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from make.page_words import code_texts, page_texts, string_literals

import qwen3_profile.views.report
from qwen3_profile.analysis import verdict
from qwen3_profile.analysis.part_rows import FAMILIES
from qwen3_profile.attribution import findings
from qwen3_profile.run_folder.run_json import Environment
from qwen3_profile.views.report.page import chinese
from qwen3_profile.words.translate import read_table

ASSETS = Path(qwen3_profile.views.report.__file__).parent / "assets"
SCRIPTS = sorted(path for path in ASSETS.glob("*.js") if path.name != "echarts.min.js")
SCRIPTS.append(ASSETS.parents[1] / "tensorboard/assets/index.js")  # the tab has the same table
# What the page says of where a config ran, whichever of it is known.
ENVIRONMENT = {
    *(field.name.replace("_", " ") for field in fields(Environment)),
    "run", "trace", "started", "device", "model", "weights", "parameters", "attention",
    "warm-up runs", "attention kernels", "device memory", "operating system",
} - {"device memory bytes", "system"}  # fmt: skip
# What the data chooses: `say(config.first.verdict)`.
CHOSEN = {
    *FAMILIES, findings.NOTE, findings.WARNING, findings.DAMAGE, "kernel", "operator",
    verdict.GPU_BOUND, verdict.LAUNCH_BOUND, verdict.MIXED, verdict.BLOCKED, verdict.QUEUED,
    verdict.MEMORY_BOUND, verdict.COMPUTE_BOUND, verdict.LATENCY_BOUND,
    verdict.COMMUNICATION_BOUND, verdict.UNDECIDED,
    *(f"idle: {name}" for name in ("starved", "launching", "queued", "blocked")),
    *ENVIRONMENT,
}  # fmt: skip
# Names, units and classes of the style, which are the same in both.
NAMES = {
    "use strict",
    "{} - qwen3_profile",
    "text name",
    "allow-scripts allow-downloads allow-modals",
    "Qwen3 profile",
    "CPU ms",
    "CUDA ms",
    "eager GPU ms",
    "graph GPU ms",
}
# Behind these a word alone is shown, too.
SHOWN = re.compile(r"\b(?:name|title|text|textContent|placeholder)\s*[:=]\s*$")


def test_each_text_has_its_chinese_and_no_chinese_is_left_over() -> None:
    """Write `say("...")` or `many(count, "...")` where code shows text, and add it to zh.json."""
    texts = page_texts(ASSETS / "page.html") | code_texts(SCRIPTS) | CHOSEN
    assert len(texts) > 200
    assert sorted(texts - set(chinese())) == []
    assert sorted(set(chinese()) - texts) == []
    assert [*chinese()] == sorted(chinese())  # so that two people's new lines do not collide


def test_the_chinese_has_the_same_places_for_values() -> None:
    for text, said in chinese().items():
        places = sorted(re.findall(r"\{\w+\}", text))
        assert sorted(re.findall(r"\{\w+\}", said)) == places, text
        assert re.search(r"[\u4e00-\u9fff]", said) or len(re.sub(r"{\w+}", "", said)) < 15, (
            f"{text} is not in Chinese"
        )


def test_the_page_and_the_terminal_say_the_same() -> None:
    both = chinese().keys() & read_table().keys()
    assert {text: chinese()[text] for text in both} == {text: read_table()[text] for text in both}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_no_english_gets_by_the_table(path: Path) -> None:
    """A string of several words goes through `say`; so does a word where a name is shown."""
    for before, text in string_literals(path.read_text(encoding="utf-8")):
        if re.search(r"\b(?:say|many)\([^()]*$", before) or text in NAMES or "sans-serif" in text:
            continue
        assert not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", text), text
        assert not (SHOWN.search(before) and re.search(r"[a-z]{3}", text)), text


def test_strings_are_found_in_code() -> None:
    code = 'a("one"); // "two"\nb = `three ${c ? `four ${d("five")}` : "six"} seven`; /"/.test(e)'
    found = [text for _, text in string_literals(code)]
    assert sorted(found) == sorted(["one", "three {} seven", "four {}", "five", "six"])
