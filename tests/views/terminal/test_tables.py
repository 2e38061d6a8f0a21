"""The tables of the terminal: they fit, they fold, and what is on the page adds up."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from make.kineto import forward_pass, kernel, split
from make.samples import facts, lone_record, model_facts, record

from qwen3_profile.analysis.median_pass import median_record
from qwen3_profile.attribution.findings import NOTE, WARNING, Finding
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import milliseconds
from qwen3_profile.views.terminal.tables import render

LEAF_NS = 1_000_000
WIDTH = 100


def measured(num_layers: int, *, cuda: bool = True, runs: int = 3) -> list[TimingRecord]:
    """Runs of a pass in which every part takes 1 ms on the host and 0.1 ms on the device."""
    return [
        record(num_layers, index=i, cuda=cuda, leaf_ns=LEAF_NS, total_ns=50_000_000)
        for i in range(runs)
    ]


def layer_rows(page: str) -> dict[str, list[str]]:
    """The cells of the table of layers, by the layer or range of layers."""
    lines = page.split("\n")
    begin = next(i for i, line in enumerate(lines) if line.split()[:2] == ["layer", "attn"])
    rows = {}
    for line in lines[begin + 1 :]:
        if not line:
            break
        name, *cells = line.split()
        if re.fullmatch(r"\d+(-\d+)?|all", name) and len(cells) in (3, 5):
            rows[name] = cells
    return rows


def part_rows(page: str) -> list[tuple[int, str, list[str]]]:
    """(indent, name, cells) of the table of parts; `calls` is left out where it is empty."""
    lines = page.split("\n")
    begin = next(i for i, line in enumerate(lines) if line.startswith("part, all layers"))
    rows = []
    for line in lines[begin + 1 :]:
        if line.startswith("share:"):
            break
        name, *cells = line.split()
        rows.append((len(line) - len(line.lstrip()), name, cells))
    return rows


def ms(text: str) -> float:
    return float(text)


# --- it fits ------------------------------------------------------------------------------------

LONG = Finding(WARNING, "long", "a part of the forward pass " * 12, 1, 0, "")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: measured(1), id="one layer"),
        pytest.param(lambda: measured(94), id="94 layers"),
        pytest.param(lambda: measured(94, cuda=False), id="94 layers on the CPU alone"),
        pytest.param(lambda: [lone_record()], id="a lone trace"),
        pytest.param(lambda: [record(2, leaf_ns=10**12)], id="hours"),
        pytest.param(lambda: [record(2, findings=(LONG,))], id="a long warning"),
        pytest.param(
            lambda: [
                replace(
                    record(2, cuda=False),
                    facts=replace(
                        facts(2, cuda=False),
                        model=replace(model_facts(2), name="/home/someone/" + "models/" * 20),
                    ),
                )
            ],
            id="long names of model and processor",
        ),
    ],
)
def test_the_page_fits_its_width_without_colour(make: Callable[[], list[TimingRecord]]) -> None:
    page = render(make())
    assert max(map(len, page.split("\n"))) <= WIDTH
    assert "\x1b" not in page
    assert all(line == line.rstrip() for line in page.split("\n"))


# --- the layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cuda", [pytest.param(True, id="CUDA"), pytest.param(False, id="CPU")])
def test_each_layer_has_a_row(cuda: bool) -> None:
    rows = layer_rows(render(measured(3, cuda=cuda)))
    attn_cuda, ffn_cuda = (["0.900"], ["0.400"]) if cuda else ([], [])
    # All of a layer: attention's 9, the FFN's 4, and what lies beside them.
    share = f"{15 / 49:.1%}"
    assert rows == {
        **{str(i): ["9.000", *attn_cuda, "4.000", *ffn_cuda, share] for i in range(3)},
        "all": ["27.000", *(["2.700"] if cuda else []), "12.000",
                *(["1.200"] if cuda else []), f"{45 / 49:.1%}"],
    }  # fmt: skip


def layers_in(name: str) -> int:
    first, _, last = name.partition("-")
    return int(last or first) - int(first) + 1


@pytest.mark.parametrize(
    ("num_layers", "folded"),
    [
        pytest.param(40, False, id="40 layers one by one"),
        pytest.param(41, True, id="41 folded"),
        pytest.param(94, True, id="94 folded"),
    ],
)
def test_many_layers_fold_and_the_totals_stay_right(num_layers: int, folded: bool) -> None:
    page = render(measured(num_layers))
    rows = layer_rows(page)
    whole = rows.pop("all")
    assert (len(rows) < num_layers) is folded
    assert len(rows) <= 40
    assert ("mean" in page) is folded
    assert sum(map(layers_in, rows)) == num_layers
    assert next(iter(rows)).partition("-")[0] == "0"
    assert list(rows)[-1].rpartition("-")[2] == str(num_layers - 1)
    for column in range(4):
        total = sum(layers_in(name) * ms(cells[column]) for name, cells in rows.items())
        assert total == pytest.approx(ms(whole[column]))
    shares = [float(cells[4].rstrip("%")) for cells in rows.values()]
    assert sum(shares) == pytest.approx(float(whole[4].rstrip("%")), abs=0.05 * (len(rows) + 1))
    assert whole[:4] == [f"{n * num_layers:.3f}" for n in (9, 0.9, 4, 0.4)]


# --- the parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cuda", [pytest.param(True, id="CUDA"), pytest.param(False, id="CPU")])
@pytest.mark.parametrize("num_layers", [pytest.param(1, id="1"), pytest.param(94, id="94")])
def test_every_row_is_the_sum_of_the_rows_below_it(cuda: bool, num_layers: int) -> None:
    rows = part_rows(render(measured(num_layers, cuda=cuda)))
    parents = 0
    for at, (indent, name, cells) in enumerate(rows):
        below = []
        for inner, _, inner_cells in rows[at + 1 :]:
            if inner <= indent:
                break
            if inner == indent + 2:
                below.append(inner_cells)
        if below:
            parents += 1
            # calls are left out of "other", so columns are counted from the end
            for column in (-5, -4, -3, -2) if cuda else (-2,):
                total = sum(ms(inner_cells[column]) for inner_cells in below)
                assert total == pytest.approx(ms(cells[column]), abs=0.0006 * len(below)), name
    assert parents == 4


def test_parts_are_summed_over_the_layers() -> None:
    rows = {name: cells for _, name, cells in part_rows(render(measured(3)))}
    idle = "2.700"
    assert rows["q_proj"] == ["3", "3.000", "0.300", "3", idle, f"{3 / 49:.1%}"]
    assert rows["layers"][:4] == ["3", "45.000", "4.500", "45"]
    assert rows["lm_head"][:4] == ["1", "1.000", "0.100", "1"]
    assert rows["prefill"] == ["1", "49.000", "4.900", "49", "43.200", "100.0%"]
    assert rows["other"] == ["0", "0", "0", "0", "0.0%"]


def test_on_the_cpu_alone_shares_are_of_the_cpu_time() -> None:
    rows = {name: cells for _, name, cells in part_rows(render(measured(3, cuda=False)))}
    assert rows["attn"] == ["3", "27.000", f"{27 / 49:.1%}"]


# --- the rest of the page -----------------------------------------------------------------------


def totals(page: str) -> dict[str, str]:
    names = ("total_time", "profiled_time", "cuda_total", "cuda_busy", "cuda_gap", "unattributed")
    lines = [line.split() for line in page.split("\n")]
    return {words[0]: words[1] for words in lines if words and words[0] in names}


def test_the_totals() -> None:
    records = [
        record(3, index=i, leaf_ns=LEAF_NS, total_ns=ns)
        for i, ns in enumerate((50_000_000, 51_000_000, 90_000_000))
    ]
    page = render(records)
    assert totals(page) == {
        "total_time": "51.000", "profiled_time": "102.000", "cuda_total": "4.900",
        "cuda_busy": "4.900", "cuda_gap": "43.200", "unattributed": "0",
    }  # fmt: skip
    assert "2.00x bare" in page
    assert "[50.000 .. 90.000]" in page
    assert "warning: total_time is noisy: IQR is 39.2% of the median" in page


def test_on_the_cpu_alone_there_are_no_device_totals() -> None:
    page = render(measured(2, cuda=False))
    assert list(totals(page)) == ["total_time", "profiled_time"]
    assert "warning" not in page


def test_a_lone_trace_has_no_wall_clock() -> None:
    page = render([lone_record()])
    assert list(totals(page)) == ["cuda_total", "cuda_busy", "cuda_gap", "unattributed"]
    assert "trace.json" in page


def test_unattributed_time_is_told_with_its_reason() -> None:
    (times,) = read_steps(split(*forward_pass(1), kernel(10**6, 18_000, 3_018_000, stream=9)))
    page = render([replace(record(1), times=times)])
    assert totals(page)["unattributed"] == "3.000"
    assert "no launch record" in page


def test_a_finding_is_told_once() -> None:
    finding = Finding(WARNING, "labels-missing", "2 labels are missing", 2, 0, "")
    page = render([record(1, index=i, findings=(finding,)) for i in range(3)])
    assert page.count("2 labels are missing") == 1


def test_of_findings_that_differ_by_their_figures_the_worst_is_told() -> None:
    """Be they of several records, or of the steps of one."""
    counts = (115, 126, 114)
    first, *others = (Finding(NOTE, "overlap", f"{n} of 2515 overlap", n, 0, "") for n in counts)
    page = render([record(1, findings=(first,)), record(1, index=1, findings=tuple(others))])
    assert [line for line in page.splitlines() if "overlap" in line] == [
        "note: 126 of 2515 overlap; 2 more like this"
    ]


def test_findings_of_one_kind_that_say_something_else_are_each_told() -> None:
    """Such as of two graphs: why the second was refused is not in the first."""
    found = tuple(
        Finding(WARNING, "graph-refused", f"event 1 is {name}", 1, 0, "") for name in ("a", "b")
    )
    page = render([record(1, index=i, findings=found) for i in range(2)])
    assert [page.count(finding.message) for finding in found] == [1, 1]


def test_the_heading_says_what_was_measured() -> None:
    head = " ".join(render(measured(3)).split("\n\n")[0].split())
    for words in (
        "Qwen/Qwen3-0.6B", "the first 3 of 28 layers", "random weights", "cuda:0",
        "NVIDIA H100 80GB HBM3", "batch 2 x 256 tokens", "bfloat16", "sdpa",
    ):  # fmt: skip
        assert words in head


@pytest.mark.parametrize(
    ("leaves_ns", "expected"),
    [
        pytest.param([3000, 1000, 2000], 2, id="the middle one of three"),
        pytest.param([4000, 1000, 2000, 3000], 2, id="the lower middle one of four"),
        pytest.param([1000], 0, id="the only one"),
    ],
)
def test_the_tables_show_the_median_run(leaves_ns: list[int], expected: int) -> None:
    records = [record(1, index=i, leaf_ns=ns) for i, ns in enumerate(leaves_ns)]
    assert median_record(records).run_index == expected


@pytest.mark.parametrize(
    ("ns", "expected"),
    [
        pytest.param(0, "0", id="nothing at all"),
        pytest.param(1, "0.000", id="next to nothing is not nothing"),
        pytest.param(1_234_567, "1.235", id="to the microsecond"),
        pytest.param(12_345_678_900, "12345.679", id="many seconds"),
    ],
)
def test_milliseconds(ns: int, expected: str) -> None:
    assert milliseconds(ns) == expected
