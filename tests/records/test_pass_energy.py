"""The energy of one pass and one token, worked out by hand, in the record and in what is said."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from make.samples import record

from qwen3_profile.analysis.explain import ENERGY, energy_sentences, explain
from qwen3_profile.config import RunConfig
from qwen3_profile.records.csv_table import csv_text
from qwen3_profile.records.long_form import to_pandas
from qwen3_profile.records.pass_energy import pass_energy, tokens_of
from qwen3_profile.run_folder.energy import Energy
from qwen3_profile.views.report.answers import time_answer
from qwen3_profile.views.report.section_data import gather
from qwen3_profile.views.terminal.explain import explanation_json, render_explanation
from qwen3_profile.views.terminal.tables import render

# 1200 J in 3 s for 300 passes, at 100 W before.
LOOP = Energy(300, 3 * 10**9, 1_200_000, 980 * 10**6, 98_000, 30 * 10**6, 700_000)
PASS = pass_energy(LOOP, 8)
SAID = (
    "Energy: 4 J per prefill pass, 3 J of it above idle; 0.5 J per token. Mean power 400.0 W of "
    "700 W allowed, idle before that 100.0 W. Looped bare: 300 passes in 3.00 s; the counter moves "
    "every 30.0 ms, so the energy of a pass may be off by 0.04 J (1.0%)."
)


def test_a_pass_by_hand() -> None:
    assert (PASS.joules, PASS.joules_per_token) == (4.0, 0.5)
    assert PASS.joules_above_idle == pytest.approx(4.0 - 100 * 0.01)
    assert (PASS.power_w, PASS.power_limit_w) == (400.0, 700.0)
    assert PASS.idle_power_w == pytest.approx(100.0)
    assert (PASS.passes, PASS.seconds, PASS.update_seconds) == (300, 3.0, 0.03)
    assert PASS.resolution == 0.01


def test_tokens_are_real_ones_and_of_a_decode_those_chosen() -> None:
    config = RunConfig(batch_size=2, input_len=5, decode_steps=3)
    assert tokens_of("prefill", config, (5, 3)) == 8
    assert tokens_of("decode", config, (5, 3)) == 2
    assert tokens_of("train_step", config, (5, 3)) == 8


def test_the_record_the_table_and_the_explanation_have_it() -> None:
    shown = replace(record(), energy=PASS)
    assert " ".join(energy_sentences(shown)) == SAID
    assert shown.to_json()["energy"]["joules_per_token"] == 0.5
    found = explain([shown])
    for text in (render([shown]), render_explanation(found)):
        assert SAID in " ".join(text.split())
    (claim,) = (c for c in json.loads(explanation_json([found])) if c["verdict"] == ENERGY)
    assert (claim["subject"], claim["sentence"]) == ("prefill", SAID)
    assert claim["rests_on"]["joules"] == 4.0
    assert "others" not in claim["rests_on"]


def test_tables_have_it_of_the_pass_and_of_no_part() -> None:
    shown = replace(record(), energy=PASS)
    first, *parts = csv.DictReader(io.StringIO(csv_text([shown]).decode()))
    assert (first["path"], first["energy_j"], first["energy_per_token_j"]) == (
        "prefill", "4.0", "0.5",
    )  # fmt: skip
    assert {(each["energy_j"], each["energy_per_token_j"]) for each in parts} == {("", "")}
    table = to_pandas([shown, record()])
    joules = table[table.unit == "J"]
    assert joules.part.tolist() == ["", ""]
    assert dict(zip(joules.quantity, joules.value, strict=True)) == {
        "energy": 4.0, "energy_per_token": 0.5,
    }  # fmt: skip


def test_the_page_says_it_where_it_says_how_long_a_pass_takes() -> None:
    told, without = (
        time_answer(gather([each], None)) for each in (replace(record(), energy=PASS), record())
    )
    assert "Energy: 4 J per prefill pass, 3 J of it above idle; 0.5 J per token." in told
    assert not [each for each in without if "Energy" in each or "power" in each]


def test_without_it_nothing_is_said() -> None:
    assert "energy" not in record().to_json()
    assert explain([record()]).energy == ()
    assert "Energy" not in render([record()])


def test_what_makes_it_doubtful_is_said() -> None:
    doubtful = replace(LOOP, power_limit_mw=None, throttled=("the power limit",), others=2)
    said = " ".join(energy_sentences(replace(record(), energy=pass_energy(doubtful, 8))))
    assert "Mean power 400.0 W, idle" in said
    assert "held back by the power limit. Other processes had the GPU open (2)" in said
