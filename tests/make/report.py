"""What pages are made of in tests, and how their data is read again."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from make.kineto import cpu_op, kernel, label, launch, read, split, step
from make.samples import lone_record
from qwen3_profile.passes.labelled import read_labels
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.report.section_data import Config, ShownPass, gather
from qwen3_profile.views.report.shown_pass import shown_pass

# The page's own, its words, and its data.
SCRIPTS = 20


# What a trace may name its kernels: none of it may become markup, code, or the end of a block.
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "'\"`;alert(1)//",
    "{{DATA}} {a|b} \u2028\u2029\x00\x1b[31m",
    "void k<" + "very::long::name, " * 400 + "0>(int)",
    "-->\ud800".encode("utf-8", "replace").decode(),
)


def lone(*events: str) -> tuple[TimingRecord, ShownPass]:
    """The record of a trace of one pass, and what its trace adds."""
    (times,) = read_steps(split(*events))
    found = replace(lone_record(), phase=times.forward.name, times=times)
    return found, shown_pass(read_labels(Path("trace.json"), read(*events)), found)


def config_of(*events: str) -> Config:
    found, trace = lone(*events)
    return gather([found], trace)


def data_of(page: str, language: str = "en") -> dict[str, Any]:
    """The page's data as the browser reads it, of two languages one."""
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match
    found: dict[str, Any] = json.loads(
        match[1], object_hook=lambda each: each[language] if each.keys() == {"en", "zh"} else each
    )
    return found


def one_layer(name: str = "k1", op: str = "aten::mm") -> list[str]:
    """A pass of 100 ns with one kernel of 20 ns in q_proj, launched at 20 by an operator."""
    return [
        step(0, 0, 100),
        label("prefill", 0, 100),
        label("layer.0", 10, 90),
        label("layer.0.attn", 10, 80),
        cpu_op("layer.0.attn.q_proj", 15, 60),
        cpu_op("aten::linear", 16, 50),
        cpu_op(op, 18, 40),
        launch(1, 20, 25),
        kernel(1, 50, 70, name=name),
    ]


def assert_rows_add_up(config: dict[str, Any]) -> None:
    """On the page itself: kernels are the device time of the parts that they stand under."""
    found: Counter[int] = Counter()
    for row, *_, total in (*config["kernels"]["rows"], *config["kernels"]["rest"]):
        found[row] += total
    assert {at: ns for at, ns in found.items() if at >= 0} == {
        at: row["device_ns"]
        for at, row in enumerate(config["rows"])
        if row["leaf"] and row["device_ns"]
    }
