"""Any mixture of layouts is read as plain JSON reading reads it: no event is lost in silence."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from make.kineto import write
from make.kineto_texts import (
    LAYOUTS,
    TEXTS,
    TRAINED,
    Watched,
    assert_read_alike,
    check_same,
    lines_of,
    outcome,
)
from make.paths import DATA

from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.trace import Trace, read_trace

CASE = DATA / "cases" / "reader_separator"
FIRST_TS = 1_712_195_495_000_000


def events_of(count: int, chance: random.Random) -> list[dict[str, Any]]:
    """Events of every kind; each at another time, so that none is missed unseen."""
    found = []
    for number in range(count):
        event = dict(chance.choice(TRAINED))
        if "ts" in event:
            event["ts"] = FIRST_TS + 17 * number
        found.append(event)
    return found


# --- one event, written in some way -----------------------------------------------------------


def spelled(text: str, chance: random.Random) -> str:
    """An object with some of its keys given twice, or with its white space changed."""
    way = chance.randrange(8)
    if way == 0:
        key, value = chance.choice(
            [("correlation", "77"), ("name", '"twice"'), ("cat", '"cpu_op"'), ("tid", "3"),
             ("ts", "5"), ("dur", "8.125"), ("args", '{"correlation": 12}'), ("x", "{}"),
             ("corr\\u0065lation", "78")]
        )  # fmt: skip
        place = chance.choice([at for at, char in enumerate(text) if char in "{}"])
        put = f'"{key}": {value}'
        if text[place] == "{":
            is_empty = text[place + 1 :].lstrip()[0] == "}"
            return f"{text[: place + 1]}{put}{'' if is_empty else ', '}{text[place + 1 :]}"
        is_empty = text[:place].rstrip()[-1] == "{"
        return f"{text[:place]}{'' if is_empty else ', '}{put}{text[place:]}"
    if way == 1:
        places = [at for at, char in enumerate(text) if char in "{},:" and not in_string(text, at)]
        for at in sorted(chance.sample(places, min(3, len(places))), reverse=True):
            space = chance.choice(["\n", " ", "\t", "\r\n", "\n  ", "\n    "])
            text = text[: at + 1] + space + text[at + 1 :]
    return text


def in_string(text: str, at: int) -> bool:
    return text[:at].replace('\\"', "").count('"') % 2 == 1


def nesting(event: dict[str, Any], layout: str, chance: random.Random) -> str:
    """An event with args in which events seem to stand."""
    text = lines_of(event | {"args": {"correlation": 5, "x": 0}}, layout)
    inside = separator(chance, 0.5).join(lines_of(event, layout) for _ in range(2))
    return text.replace('"x": 0', f'"x": [{inside}\n  ]')


def written(event: dict[str, Any], layout: str, chance: random.Random) -> str:
    way = chance.randrange(8)
    if way == 0:
        return json.dumps(event, separators=(",", ":"))
    if way == 1:
        return json.dumps(event)
    if way == 2:
        return json.dumps(event, indent=2)
    if way == 3:
        keys = chance.sample(list(event), len(event))
        return lines_of({key: event[key] for key in keys}, layout)
    if way == 4:
        return lines_of(event, next(other for other in LAYOUTS if other != layout))
    if way == 5:
        return nesting(event, layout, chance)
    return spelled(lines_of(event, layout), chance)


def separator(chance: random.Random, share: float) -> str:
    """That of Kineto, or in a share of all cases another."""
    if chance.random() >= share:
        return ","
    return chance.choice([" ,", ", ", ",\n", "\n,\n", ",\n\n", ",\t", "\n  ,", ",\n  ", ",\r\n"])


BORDERS = ("},{", "},  {", "},\n{", "} ,\n  {", "}\n,\n  {", "},\n   {", "}, {", "},\n  { ")


def with_other_border(text: str, chance: random.Random) -> str:
    """One event of Kineto's follows the one before in another way."""
    usual = "},\n  {"
    first, *others = text.split(usual)
    at = chance.randrange(len(others) + 1)
    borders = (chance.choice(BORDERS) if number == at else usual for number in range(len(others)))
    return first + "".join(map("".join, zip(borders, others, strict=True)))


def document(seed: int) -> bytes:
    chance = random.Random(seed)
    layout = chance.choice(LAYOUTS)
    share = chance.choice([0.02, 0.1])
    text = ""
    for event in events_of(chance.randint(2, 30), chance):
        text += separator(chance, share / 2) if text else ""
        odd = chance.random() < share
        text += written(event, layout, chance) if odd else lines_of(event, layout)
    if chance.random() < 0.5:
        text = with_other_border(text, chance)
    return f'{{\n  "traceEvents": [{text}\n  ]\n}}'.encode()


@pytest.mark.parametrize("start", range(0, 1200, 300))
def test_any_mixture_of_layouts_is_read_alike(start: int, tmp_path: Path) -> None:
    for seed in range(start, start + 300):
        text = document(seed)
        json.loads(text)
        assert_read_alike(write(tmp_path / "t.json", text))


def test_some_of_these_are_read_fast(tmp_path: Path) -> None:
    read = 0
    for seed in range(200):
        found: tuple[Trace | str, Watched] = outcome(
            write(tmp_path / "t.json", document(seed)), fast=True
        )
        read += found[1].read
    assert read > 20


@pytest.mark.parametrize("name", TEXTS)
def test_no_event_is_lost_at_any_border(name: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(60):
        text = with_other_border(TEXTS[name], chance)
        check_same(write(tmp_path / "t.json", text.encode()))


# --- what was lost once -------------------------------------------------------------------------


def ledger_rows(name: str) -> dict[str, Any]:
    """The rows of the ledger of a file, as its JSON has them, by their last label."""
    ledger: dict[str, Any] = json.loads(make_ledger(read_trace(CASE / name)).to_bytes())
    return {row["path"][-1]: row for row in ledger["rows"]}


def test_an_event_behind_another_separator_is_not_lost() -> None:
    row = ledger_rows("trace.json.gz")["layer.1.attn.o_proj"]
    assert (row["calls"], row["device_ns"]) == (3, 53_314)


def test_a_space_before_a_comma_changes_nothing() -> None:
    found = ledger_rows("swallow.json")
    assert found == ledger_rows("swallow_good.json")
    assert "inner" in found
