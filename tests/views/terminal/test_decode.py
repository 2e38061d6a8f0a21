"""What the terminal shows of a decode: time per output token, and a layer against its context."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make.samples import decode_record, record, training_record

from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.config import RunConfig
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.decode import context_table, token_line
from qwen3_profile.views.terminal.tables import render

# Bare steps of 5, 6, 7, 8 and 14 ms; in three traced ones a part takes 1, 2 or 4 ms.
STEPS_NS = (5_000_000, 6_000_000, 7_000_000, 8_000_000, 14_000_000)
LEAVES_NS = {0: 1_000_000, 2: 2_000_000, 4: 4_000_000}


def decode(*, index: int = 0, cuda: bool = True, slower: int = 1) -> TimingRecord:
    return decode_record(
        2,
        index=index,
        cuda=cuda,
        leaves_ns={at: slower * ns for at, ns in LEAVES_NS.items()},
        step_times_ns=tuple(slower * ns for ns in STEPS_NS),
    )


def rows(page: str) -> list[list[str]]:
    lines = page.split("\n")
    begin = next(i for i, line in enumerate(lines) if line.split()[:2] == ["context", "step"])
    end = next((i for i, line in enumerate(lines) if i > begin and not line), len(lines))
    return [line.split() for line in lines[begin + 1 : end]]


@pytest.mark.parametrize(
    ("runs", "figures"),
    [
        # ranks of 5, 6, 7, 8, 14: 90 % is 0.6 of the way from 8 to 14
        pytest.param(1, ["7.000", "11.600,", "13.760", "5"], id="one run"),
        # 5, 5, 6, 6, 7, 7, 8, 8, 14, 14
        pytest.param(2, ["7.000", "14.000,", "14.000", "10"], id="every step of two runs"),
    ],
)
def test_time_per_output_token(runs: int, figures: list[str]) -> None:
    words = token_line(totals_of([decode(index=i) for i in range(runs)])).split()
    median, p90, p99, count = figures
    assert words[:6] == ["TPOT", median, "p90", p90, "p99", p99]
    assert words[6:] == ["over", count, "bare", "steps"]


def test_tokens_per_second() -> None:
    # 2 x 256 tokens in 40 ms, and padding that does not count; 2 tokens at the median of 7 ms
    whole = record(total_ns=40_000_000)
    runs = [whole, replace(whole, facts=replace(whole.facts, lengths=(256, 4)))]
    assert [one.tokens_per_second for one in runs] == [12_800.0, 6500.0]
    assert decode().tokens_per_second == pytest.approx(2 / 0.007)
    assert replace(whole, config=None).tokens_per_second is None
    rows = {line.split()[0]: line.split() for line in render(runs).splitlines() if line.strip()}
    assert rows["tokens/s"][1:5] == ["9650.0", "[6500.0", "..", "12800.0]"]
    assert "tokens/s             285.7  [285.7 .. 285.7]" in render([decode()])


@pytest.mark.parametrize(
    ("totals_ns", "decode_steps", "shown"),
    [
        pytest.param((9_000_000, 5_000_000, 6_000_000), 4, ["TTFT", "6.000"], id="of three runs"),
        pytest.param((9_000_000,), 0, [], id="no token follows"),
    ],
)
def test_time_to_first_token(
    totals_ns: tuple[int, ...], decode_steps: int, shown: list[str]
) -> None:
    config = RunConfig(batch_size=2, input_len=256, decode_steps=decode_steps)
    runs = [replace(record(index=i, total_ns=ns), config=config) for i, ns in enumerate(totals_ns)]
    assert token_line(totals_of(runs)).split()[:2] == shown
    assert ("TTFT" in render(runs)) == bool(shown)


@pytest.mark.parametrize("cuda", [pytest.param(True, id="CUDA"), pytest.param(False, id="CPU")])
def test_a_layer_by_context(cuda: bool) -> None:
    page = context_table(decode(cuda=cuda).one_by_one())
    on_device = ["0.900", "1.800", "3.600"], ["0.400", "0.800", "1.600"]
    attn, ffn = on_device if cuda else ([None] * 3, [None] * 3)
    expected = [
        ["257", "5.000", "9.000", attn[0], "4.000", ffn[0]],
        ["259", "7.000", "18.000", attn[1], "8.000", ffn[1]],
        ["261", "14.000", "36.000", attn[2], "16.000", ffn[2]],
    ]
    assert rows(page) == [[cell for cell in row if cell is not None] for row in expected]


def test_a_row_is_the_median_of_the_runs() -> None:
    runs = [decode(index=i, slower=n) for i, n in enumerate((1, 2, 30))]
    page = context_table([single for each in runs for single in each.one_by_one()])
    assert rows(page)[0] == ["257", "10.000", "18.000", "1.800", "8.000", "0.800"]


def test_a_prefill_has_neither() -> None:
    assert token_line(totals_of([record()])) == context_table([record()]) == ""
    page = render([record()])
    assert "TPOT" not in page
    assert "context" not in page


@pytest.mark.parametrize(
    ("cache", "shown"), [pytest.param("static", True), pytest.param("dynamic", False)]
)
def test_the_heading_names_a_cache_that_does_not_grow(cache: str, shown: bool) -> None:
    config = RunConfig(batch_size=2, input_len=256, decode_steps=4, cache=cache)
    page = render([replace(decode(), config=config)])
    assert (", static cache; median step" in " ".join(page.split())) == shown


def test_a_training_step_is_no_forward_pass() -> None:
    assert "bare training step: no profiler, no labels" in render([training_record()])
    assert "bare prefill: no profiler, no labels" in render([record()])


def test_the_page_of_a_decode() -> None:
    page = render([decode(index=i, slower=n) for i, n in enumerate((1, 2, 3))])
    assert max(map(len, page.split("\n"))) <= 100
    assert "TPOT" in page
    assert [row[0] for row in rows(page)] == ["257", "259", "261"]
    # One whole pass is shown, so that its rows add up: the lower middle one of nine,
    # of 1, 2, 4, 2, 4, 8, 3, 6 and 12 ms a part.
    head = " ".join(page.split("\n\n")[0].split())
    assert "median step (run #0, step 4, context 261; of 9 traced)" in head
    assert "decode: batch 2 x 256 tokens" in head
