"""What sdpa chose is read from its operators; several attentions are compared in one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from make.commands import Commands, Done
from make.kineto import cpu_op, forward_pass, host, kernel, label, launch, memset, split, step
from make.paths import OWN
from make.samples import record

from qwen3_profile.attribution.attention_kernels import (
    AttentionKernel,
    find_attention,
    merge_attention,
)
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.backward import split_backward
from qwen3_profile.cli.run_options import parse_arguments
from qwen3_profile.config import RunConfig
from qwen3_profile.errors import ConfigError
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.records.load import collect_trace
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.names import attention_name
from qwen3_profile.views.terminal.comparisons import render_attention

ASKED = "aten::scaled_dot_product_attention"
FLASH = "aten::_scaled_dot_product_flash_attention"
MATH = "aten::_scaled_dot_product_attention_math"


def attention(*events: str) -> Attribution:
    """One pass of a layer whose attention holds `events`, between 20 and 80."""
    return split(
        step(0, 0, 100),
        label("prefill", 5, 95),
        label("layer.0", 10, 90),
        label("layer.0.attn", 15, 85),
        cpu_op("layer.0.attn.attn_forward", 20, 80),
        *events,
    )


@pytest.mark.parametrize(
    ("op", "name"),
    [
        pytest.param(FLASH, "flash", id="flash on a GPU"),
        pytest.param(f"{FLASH}_for_cpu", "flash", id="flash on a CPU"),
        pytest.param("aten::_scaled_dot_product_efficient_attention", "efficient", id="efficient"),
        pytest.param("aten::_scaled_dot_product_cudnn_attention", "cudnn", id="cudnn"),
        pytest.param(MATH, "math", id="math"),
        pytest.param(f"{MATH}_for_mps", "math", id="math on Apple's"),
        pytest.param(
            "aten::_scaled_dot_product_fused_attention_overrideable", "fused", id="another vendor's"
        ),
    ],
)
def test_the_choice_is_named_by_its_operator(op: str, name: str) -> None:
    found = attention(cpu_op(ASKED, 25, 70), cpu_op(op, 30, 60))
    assert find_attention(found)[0] == AttentionKernel(name, (op,), ())


@pytest.mark.parametrize(
    "op",
    [
        pytest.param(ASKED, id="asked is not chosen"),
        pytest.param(f"{FLASH}_backward", id="a backward"),
        pytest.param("aten::_fused_sdp_choice", id="the choosing"),
        pytest.param("aten::bmm", id="eager"),
    ],
)
def test_nothing_else_is_a_choice(op: str) -> None:
    assert find_attention(attention(cpu_op(op, 30, 60)))[0] is None


def test_an_operator_outside_of_attention_is_none_of_it() -> None:
    assert find_attention(attention(cpu_op(FLASH, 81, 84)))[0] is None
    assert find_attention(split(step(0, 0, 9), cpu_op(FLASH, 1, 5)))[0] is None


def test_kernels_are_those_of_the_operator_the_longest_first() -> None:
    found = attention(
        launch(1, 22, 24), kernel(1, 100, 190, name="copy of the keys"),
        cpu_op(FLASH, 30, 60),
        launch(2, 31, 33), kernel(2, 200, 205, name="scale"),
        launch(3, 40, 42), kernel(3, 210, 260, name="flash_fwd"),
        launch(4, 44, 46), kernel(4, 270, 275, name="scale"),
        launch(5, 50, 52), memset(5, 280, 290),
        launch(6, 60, 62), kernel(6, 300, 390, name="after its end"),
    )  # fmt: skip
    assert find_attention(found)[0] == AttentionKernel("flash", (FLASH,), ("flash_fwd", "scale"))


def test_without_an_operator_of_sdpa_all_kernels_of_attention_are_told() -> None:
    found = attention(
        launch(1, 22, 24), kernel(1, 100, 110, name="softmax"),
        launch(2, 30, 32), kernel(2, 120, 150, name="gemm"),
        launch(3, 82, 84), kernel(3, 160, 190, name="o_proj"),
    )  # fmt: skip
    assert find_attention(found)[0] == AttentionKernel("", (), ("gemm", "softmax"))


def test_another_thread_and_another_step_are_kept_apart() -> None:
    found = split(
        *(step(k, 100 * k, 100 * k + 90) for k in (0, 1)),
        *(label("prefill", 100 * k + 5, 100 * k + 85) for k in (0, 1)),
        *(cpu_op("layer.0.attn.attn_forward", 100 * k + 20, 100 * k + 80) for k in (0, 1)),
        cpu_op(FLASH, 30, 60),
        cpu_op(MATH, 40, 50, thread=2),
        cpu_op(MATH, 130, 160),
        launch(1, 140, 142, thread=2), kernel(1, 200, 210, name="of thread 2"),
    )  # fmt: skip
    assert find_attention(found)[0] == AttentionKernel("flash", (FLASH,), ())
    assert find_attention(found)[1] == AttentionKernel("math", (MATH,), ())


def test_each_step_has_its_own_kernels() -> None:
    found = split(
        *(step(k, 100 * k, 100 * k + 90) for k in (0, 1)),
        *(label("prefill", 100 * k + 5, 100 * k + 85) for k in (0, 1)),
        *(cpu_op("layer.0.attn.attn_forward", 100 * k + 20, 100 * k + 80) for k in (0, 1)),
        launch(1, 30, 32), kernel(1, 40, 50, name="of step 0, run at once"),
        launch(2, 34, 36), kernel(2, 140, 150, name="of step 0, run later"),
        launch(3, 130, 132), kernel(3, 160, 170, name="of step 1"),
    )  # fmt: skip
    kernels = [each.kernels if each else () for each in find_attention(found)]
    assert kernels == [("of step 0, run at once", "of step 0, run later"), ("of step 1",)]


def test_several_choices_are_all_named() -> None:
    one, other = AttentionKernel("flash", (FLASH,), ("a",)), AttentionKernel("math", (MATH,), ())
    both = AttentionKernel("flash+math", (FLASH, MATH), ("a",))
    assert merge_attention([one, None, other, one]) == both
    assert merge_attention([None]) is None


@pytest.mark.parametrize(
    ("name", "choice", "kernel_name"),
    [
        pytest.param("qwen3-0.6b_prefill_b2_l256", "cudnn", "sm90_flash_fprop_wgmma", id="prefill"),
        pytest.param("qwen3-0.6b_decode_b1_ctx128", "cudnn", "sm80_flash_fprop_wmma", id="decode"),
        pytest.param("qwen3-0.6b_prefill_b2_l256_eager", "", "nvjet_sm90", id="eager"),
        pytest.param(
            "qwen3-0.6b_graph_decode_eager", "cudnn", "sm80_flash_fprop_wmma", id="with a mask"
        ),
        pytest.param(
            "qwen3-30b-a3b_2layers_prefill_b2_l256", "cudnn", "sm90_flash_fprop", id="experts"
        ),
    ],
)
def test_recorded_traces_say_what_they_ran(name: str, choice: str, kernel_name: str) -> None:
    path = OWN / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip("this trace is not here")
    for each in collect_trace(path):
        found = each.times.attention
        assert found is not None
        assert found.name == choice
        assert any(kernel_name in text for text in found.kernels)
        assert not any("elementwise" in text for text in found.kernels) or not choice


# --- which configs are run


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        pytest.param("sdpa,eager", ["sdpa", "eager"], id="in the order given"),
        pytest.param("eager, sdpa", ["eager", "sdpa"], id="with a space"),
        pytest.param("sdpa", ["sdpa"], id="one"),
    ],
)
def test_a_config_for_each_attention(argv: str, expected: list[str]) -> None:
    configs = parse_arguments(["--attn-implementation", argv, "--batch-size", "3"]).configs
    assert configs == tuple(RunConfig(3, attn_implementation=name) for name in expected)


def test_each_entry_of_a_file_with_each_attention(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"configs": [{}, {"batch_size": 2, "attn_implementation": "flex_attention"}]}')
    argv = ["--configs", str(path), "--attn-implementation", "sdpa,eager"]
    assert [(c.batch_size, c.attn_implementation) for c in parse_arguments(argv).configs] == [
        (1, "sdpa"), (1, "eager"), (2, "flex_attention"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        pytest.param("sdpa,eager,sdpa", "names 'sdpa' twice", id="twice"),
        pytest.param("sdpa,,eager", "'' is not a name", id="none between"),
        pytest.param("sdpa,", "'' is not a name", id="none behind"),
    ],
)
def test_a_list_that_is_wrong(argv: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^--attn-implementation: {told}"):
        parse_arguments(["--attn-implementation", argv])


def test_an_entry_of_a_file_has_one_name() -> None:
    with pytest.raises(ConfigError, match="'sdpa,eager' is a list"):
        RunConfig(attn_implementation="sdpa,eager")


# --- the table


def of_attention(name: str, total_ns: int, chosen: str = "", **config: int) -> TimingRecord:
    """A pass of two layers with 1 ms for each part, and 0.1 ms on the device."""
    (times,) = read_steps(split(*forward_pass(2, leaf_ns=1_000_000)))
    one = record(2, total_ns=total_ns)
    return replace(
        one,
        config=RunConfig(2, 256, attn_implementation=name, **config),
        times=replace(times, attention=AttentionKernel(chosen, (), ()) if chosen else None),
        facts=replace(one.facts, attn_implementation=name),
    )


def rows_of(page: str) -> Iterator[list[str]]:
    for line in page.splitlines():
        cells = line.rsplit(maxsplit=6)
        if len(cells) == 7 and cells[-1].replace(".", "").isdecimal():
            yield cells


def test_table_compares_with_the_first() -> None:
    sdpa = [of_attention("sdpa", ns, "flash") for ns in (30_000_000, 10_000_000, 20_000_000)]
    page = render_attention([sdpa, [of_attention("eager", 50_000_000)]])
    assert list(rows_of(page)) == [
        ["sdpa (flash)", "2.000", "0.200", "34.000", "3.400", "20.000", "1.00"],
        ["eager", "2.000", "0.200", "34.000", "3.400", "50.000", "2.50"],
    ]
    assert "batch 2 x 256 tokens, bfloat16" in page
    assert max(map(len, page.splitlines())) <= 100


def of_training(name: str, total_ns: int) -> TimingRecord:
    """3 ms of attention and 5 ms of its backward; on the device 0.2 and 0.4 ms."""
    ms, core = 1_000_000, "layer.0.attn.attn_forward"
    ids = {"Sequence number": 3, "Fwd thread id": 0}
    node = "autograd::engine::evaluate_function: AttentionBackward0"
    events = (
        step(0, 0, 30 * ms), label("train_step", 0, 30 * ms), label("layer.0", 0, 9 * ms),
        label("layer.0.attn", 0, 8 * ms), cpu_op(core, 2 * ms, 5 * ms),
        host("cpu_op", "aten::attention", 3 * ms, 4 * ms, **ids),
        label("backward", 10 * ms, 20 * ms),
        host("cpu_op", node, 11 * ms, 16 * ms, 2, **(ids | {"Fwd thread id": 1})),
        launch(1, 3 * ms, 3 * ms + 9), kernel(1, 4 * ms, 4 * ms + 200_000),
        launch(2, 12 * ms, 12 * ms + 9, 2), kernel(2, 13 * ms, 13 * ms + 400_000),
    )  # fmt: skip
    (times,) = read_steps(split_backward(split(*events)))
    one = of_attention(name, total_ns)
    return replace(one, phase="train_step", times=times)


def test_of_a_training_step_the_backward_of_attention_is_compared() -> None:
    page = render_attention([[of_training("sdpa", 10_000_000)], [of_training("eager", 15_000_000)]])
    assert list(rows_of(page)) == [
        ["sdpa", "3.000", "0.200", "5.000", "0.400", "10.000", "1.00"],
        ["eager", "3.000", "0.200", "5.000", "0.400", "15.000", "1.50"],
    ]
    (head,) = (line for line in page.splitlines() if "attn_forward_cuda" in line)
    assert head.split()[3:5] == ["..._bwd", "..._bwd_cuda"]
    assert max(map(len, page.splitlines())) <= 100


def test_only_what_differs_in_nothing_else_is_compared() -> None:
    sdpa, eager = of_attention("sdpa", 1), of_attention("eager", 1)
    longer = of_attention("eager", 1, num_runs=9)
    elsewhere = replace(eager, facts=replace(eager.facts, run="run2"))
    decode = replace(eager, phase="decode")
    assert render_attention([[sdpa], [longer], [elsewhere], [decode]]) == ""
    assert len(list(rows_of(render_attention([[sdpa], [longer], [eager]])))) == 2


def test_heading_names_the_choice() -> None:
    assert attention_name(of_attention("sdpa", 1, "cudnn")) == "sdpa (cudnn)"
    assert attention_name(of_attention("eager", 1)) == "eager"


# --- whole runs


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Done:
    """Three attentions, of which one cannot run here; not to be changed by a test."""
    names = "sdpa,flash_attention_2,eager"
    return commands.profile(
        tmp_path_factory.mktemp("compared"), "--attn-implementation", names, "--decode-steps", 2,
        "--dtype", "float32",
    )  # fmt: skip


def test_one_that_cannot_run_is_one_line_and_the_others_run(compared: Done) -> None:
    assert compared.code == 1
    line, last = compared.errors
    assert "config bs1_len8_float32_flash_attention_2: --attn-implementation: " in line
    assert "bs1_len8_float32_flash_attention_2" in last
    records = compared.records()
    expected = [(name, phase) for name in ("sdpa", "eager") for phase in ("prefill", "decode")]
    assert [(r["attn_implementation"], r["phase"]) for r in records] == expected
    kernels = [r["attn_kernel"] for r in records if r["attn_implementation"] == "sdpa"]
    assert kernels == [{"name": "flash", "ops": [f"{FLASH}_for_cpu"], "kernels": []}] * 2
    assert [r["attn_kernel"] for r in records if r["attn_implementation"] == "eager"] == [None] * 2


def test_the_tables_come_last_and_again_from_the_saved_run(
    compared: Done, commands: Commands, tmp_path: Path
) -> None:
    exported = commands.export(tmp_path, compared.cwd / "traces/run1")
    pages = [text[text.index("attention compared") :] for text in (compared.out, exported.out)]
    tables = [page.split("\n\n")[:2] for page in pages]
    assert tables[0] == tables[1]
    # A CPU has no column of the device.
    names = [
        [line.rsplit(maxsplit=4)[0] for line in table.splitlines()[2:4]] for table in tables[0]
    ]
    assert names == [["sdpa (flash)", "eager"]] * 2
    assert " total_time " in tables[0][0]
    assert " TPOT " in tables[0][1]
    assert exported.records() == compared.records()


def test_the_choice_is_in_the_heading(compared: Done) -> None:
    assert "float32, sdpa (flash) attention" in compared.out
    assert "float32, eager attention" in compared.out


@pytest.mark.parametrize(
    ("entry", "flags", "told"),
    [
        pytest.param(
            {}, ("--attn-implementation", "sdpa,eagr"), "did you mean eager", id="by flag"
        ),
        pytest.param({"attn_implementation": "spda"}, (), "did you mean sdpa", id="in a file"),
    ],
)
def test_a_slip_in_a_name_ends_it_before_anything_runs(
    commands: Commands, tmp_path: Path, entry: object, flags: tuple[str, ...], told: str
) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"configs": [{"batch_size": 2}, entry]}))
    done = commands.profile(tmp_path, "--configs", "c.json", *flags)
    assert (done.code, done.out) == (2, "")
    (line,) = done.errors
    assert told in line
    assert not (tmp_path / "timing_results/timing_records.json").exists()
