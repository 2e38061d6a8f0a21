"""Tables on screens of several widths: what is left out, what is cut, and what is painted."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from make.samples import decode_record, facts, model_facts, record, training_record

from qwen3_profile.cli.console import show
from qwen3_profile.config import RunConfig
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import fit, fit_end, wrap
from qwen3_profile.views.terminal.configs import render_configs
from qwen3_profile.views.terminal.screen import FILE, Screen, on_screen, screen_of
from qwen3_profile.views.terminal.table import RULE, Column, table
from qwen3_profile.views.terminal.tables import render
from qwen3_profile.words.cells import cells

COLUMNS = (
    Column("part", left=True, least=6),
    Column("calls", leave_out=1),
    Column("cuda"),
    Column("events", leave_out=2),
)
ROWS = (("attn_forward", "28", "1.500", "56"), ("ffn", "2", "0", "7"))


def drawn(width: int, columns: Sequence[Column] = COLUMNS, rows: Sequence[Sequence[str]] = ROWS,
          *, colour: bool = False) -> list[str]:  # fmt: skip
    with on_screen(Screen(width, colour)):
        return table(columns, rows).split("\n")


# --- worked by hand -------------------------------------------------------------------------------


def test_with_room_all_columns_stand_in_full() -> None:
    """12 + 5 + 5 + 6 cells, and between them 4, which is as far apart as columns get."""
    assert drawn(100) == [
        "part            calls     cuda    events",
        "attn_forward       28    1.500        56",
        "ffn                 2        0         7",
    ]


def test_long_names_give_way_a_little_and_then_the_columns_of_the_least_use() -> None:
    # All at their narrowest: 6 + 5 + 5 + 6 and three gaps of 2, 28.
    assert drawn(28)[:2] == ["part    calls   cuda  events", "at...d     28  1.500      56"]
    # Without the events 6 + 5 + 5 and two gaps, 20; in 26 the name has 12 again.
    assert drawn(26) == [
        "part          calls   cuda",
        "attn_forward     28  1.500",
        "ffn               2      0",
        "left out at 26 columns:",
        "  events (all fit in 28)",
    ]  # fmt: skip
    assert drawn(15)[:3] == ["part       cuda", "att...rd  1.500", "ffn           0"]


def test_columns_without_anything_in_them_are_not_drawn() -> None:
    rows = [("attn", "", "1.000", "-"), ("ffn", "-", "2.000", "-")]
    assert drawn(80, rows=rows) == ["part     cuda", "attn    1.000", "ffn     2.000"]
    # Nor are they counted among those that there is no room for.
    assert len(drawn(40, rows=[("a", "1", "2", ""), RULE, ("b", "1")])) == 4


def test_a_name_that_says_more_than_fits_has_a_line_of_its_own() -> None:
    columns = (replace(COLUMNS[0], own_line=True), *COLUMNS[1:])
    rows = [("one_kernel_of_many_parts", "1", "2.000", "3"), ("ffn", "1", "0.500", "3")]
    shown = drawn(30, columns, rows)
    assert shown[1] == "one_kernel_of_many_parts"
    assert shown[2].split() == ["1", "2.000", "3"]


def test_wide_characters_take_two_cells() -> None:
    rows = [("注意力", "28", "1.500", "56"), ("ffn", "2", "0", "7")]
    head, wide, narrow = drawn(100, rows=rows)
    assert cells(wide) == cells(narrow) == cells(head)
    assert cells("注意力 a") == 8
    assert fit("启动下发等待队列", 9) == "启...列"
    assert fit_end("路径/attn", 7) == "...attn"


def test_prose_breaks_between_wide_characters_but_not_before_a_full_stop() -> None:
    comma, stop = "\uff0c", "\u3002"
    text = f"等待 CPU 下发下一个 kernel{comma}" * 6 + stop
    with on_screen(Screen(40)):
        lines = wrap(text).split("\n")
    assert max(map(cells, lines)) <= 40
    assert min(map(cells, lines[:-1])) >= 34
    assert not any(line.strip()[0] in comma + stop for line in lines)
    assert "".join("".join(lines).split()) == text.replace(" ", "")


# --- which screen ---------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "width", "colour"),
    [
        pytest.param(io.StringIO(), {}, 100, False, id="a pipe"),
        pytest.param(io.StringIO(), {"COLUMNS": "160"}, 160, False, id="a pipe of a given width"),
        pytest.param(io.StringIO(), {"FORCE_COLOR": "1"}, 100, True, id="colour in a pipe"),
        pytest.param(None, {}, 100, False, id="nowhere"),
        pytest.param(Terminal(), {"COLUMNS": "80"}, 80, True, id="a terminal"),
        pytest.param(Terminal(), {"COLUMNS": "80", "NO_COLOR": "1"}, 80, False, id="no colour"),
        pytest.param(Terminal(), {"COLUMNS": "80", "NO_COLOR": ""}, 80, True, id="empty"),
        pytest.param(
            Terminal(), {"COLUMNS": "9", "FORCE_COLOR": "1", "NO_COLOR": "1"}, 40, False, id="both"
        ),
        pytest.param(Terminal(), {"COLUMNS": "999", "TERM": "dumb"}, 200, False, id="dumb"),
        pytest.param(Terminal(), {"COLUMNS": "x", "FORCE_COLOR": "0"}, None, True, id="no number"),
    ],
)
def test_the_screen_of_a_stream(
    stream: io.StringIO | None, environ: dict[str, str], width: int | None, colour: bool
) -> None:
    shown = screen_of(stream, environ)
    assert shown.colour is colour
    assert width is None or shown.width == width


def test_colour_adds_nothing_but_colour() -> None:
    plain, painted = drawn(80), drawn(80, colour=True)
    assert [re.sub(r"\x1b\[\d+m", "", line).rstrip() for line in painted] == plain
    assert painted[0].startswith("\x1b[1mpart")
    assert "\x1b[2m" in painted[2], "a cell with nothing in it is dim"
    assert "\x1b" not in "".join(plain)


def test_names_cannot_paint_a_screen_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    with on_screen(Screen(80, colour=True)):
        show("\x1b[31mred\x1b[0m \x1b[2J")
    show("\x1b[31mred")
    assert capsys.readouterr().out == "\x1b[31mred\x1b[0m \\u001b[2J\n\\u001b[31mred\n"


# --- every page -----------------------------------------------------------------------------------

PATH = "/home/someone/" + "models/" * 30


def _many_configs() -> list[list[TimingRecord]]:
    sizes = (RunConfig(batch_size=2**n, input_len=128 * n) for n in range(1, 10))
    return [
        [replace(record(2, total_ns=n * 10**6), config=each)] for n, each in enumerate(sizes, 1)
    ]


PAGES: dict[str, Callable[[], str]] = {
    "prefill": lambda: render([record(28, leaf_ns=10**9)]),
    "on the CPU": lambda: render([record(94, cuda=False)]),
    "decode": lambda: render([decode_record(2, leaves_ns={0: 10**9}, step_times_ns=(10**9,) * 3)]),
    "training": lambda: render([training_record()]),
    "long names": lambda: render(
        [replace(record(2), facts=replace(facts(2), model=replace(model_facts(2), name=PATH)))]
    ),
    "nine configs": lambda: render_configs(_many_configs()),
}


@pytest.mark.parametrize("width", [80, 100, 160, 200])
@pytest.mark.parametrize("name", PAGES)
def test_no_line_is_longer_than_the_screen_and_nothing_that_matters_is_lost(
    name: str, width: int
) -> None:
    with on_screen(Screen(width)):
        shown = PAGES[name]()
    assert max(map(cells, shown.split("\n"))) <= width
    with on_screen(FILE):
        usual = PAGES[name]()
    for word in ("cuda", "cpu", "share", "verdict", "post_attention_layernorm", "attn_cuda"):
        assert (word in shown) == (word in usual), word
