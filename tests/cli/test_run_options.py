"""The command line: its defaults, its help, and one line for each mistake."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from qwen3_profile import __version__
from qwen3_profile.cli.config_file import RUN_KEYS
from qwen3_profile.cli.fresh_processes import side_of
from qwen3_profile.cli.run_flags import build_parser
from qwen3_profile.cli.run_options import parse_arguments
from qwen3_profile.config import COMPILED, CUDA_GRAPH, EAGER, Invocation, ModelRequest, RunConfig
from qwen3_profile.errors import EXIT_BAD_INPUT, ConfigError


def test_defaults() -> None:
    assert parse_arguments([]) == Invocation(
        model=ModelRequest(
            name="Qwen/Qwen3-0.6B", weights="auto", num_layers=None, device=None, seed=0
        ),
        configs=(
            RunConfig(
                batch_size=1,
                input_len=128,
                dtype="bfloat16",
                num_runs=3,
                warmup_runs=1,
                attn_implementation=None,
                decode_steps=0,
                cache="dynamic",
                trace_steps=3,
            ),
        ),
        output_dir=Path("timing_results"),
        output_file="timing_records.json",
        trace_dir=Path("traces"),
        run_name=None,
        force=False,
        free_dtypes=(True,),
    )


def test_every_flag() -> None:
    argv = (
        "--batch-size 4 --input-len 512 --num-runs 5 --warmup-runs 2 --dtype float32 "
        "--decode-steps 7 --cache static --trace-steps 4 "
        "--attn-implementation eager --model-name Qwen/Qwen3-8B --device cuda:1 --weights random "
        "--num-layers 3 --seed 9 --output-dir ./my --output-file b.json --trace-dir t "
        "--run-name mine --force"
    )
    assert parse_arguments(argv.split()) == Invocation(
        model=ModelRequest("Qwen/Qwen3-8B", "random", 3, "cuda:1", 9),
        configs=(RunConfig(4, 512, "float32", 5, 2, "eager", 7, "static", 4),),
        output_dir=Path("my"),
        output_file="b.json",
        trace_dir=Path("t"),
        run_name="mine",
        force=True,
    )


def test_energy_is_asked_for() -> None:
    assert parse_arguments(["--energy"]).configs == (RunConfig(energy=True),)


def test_dtypes_that_nobody_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "configs.json"
    path.write_text('{"configs": [{"batch_size": 2}, {"dtype": "float16"}]}')
    argv = ["--configs", str(path), "--attn-implementation", "sdpa,eager"]
    assert parse_arguments(argv).free_dtypes == (True, True, False, False)
    assert parse_arguments([*argv, "--dtype", "bfloat16"]).free_dtypes == ()


def test_a_file_of_configs_takes_its_defaults_from_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"configs": [{"batch_size": 2}, {"num_runs": 1}]}')
    found = parse_arguments(["--configs", str(path), "--batch-size", "8", "--dtype", "float16"])
    assert found.configs == (
        RunConfig(batch_size=2, dtype="float16"),
        RunConfig(batch_size=8, dtype="float16", num_runs=1),
    )
    assert found.entries == (f"{path}: configs[0]", f"{path}: configs[1]")


def test_each_config_knows_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"configs": [{"attn_implementation": "sdpa"}, {"batch_size": 2}]}')
    found = parse_arguments(["--configs", str(path), "--attn-implementation", "eager,sdpa"])
    told = [
        (entry.removeprefix(f"{path}: "), config.batch_size, config.attn_implementation)
        for entry, config in zip(found.entries, found.configs, strict=True)
    ]
    # The first names its own and runs once; the second runs with each.
    assert told == [
        ("configs[0]", 1, "sdpa"), ("configs[1]", 2, "eager"), ("configs[1]", 2, "sdpa"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "same"),
    [
        ("--model m", "--model-name m"),
        ("--output-len 4", "--decode-steps 4"),
        ("--dtype bf16", "--dtype bfloat16"),
        ("--dtype fp16", "--dtype float16"),
        ("--dtype half", "--dtype float16"),
        ("--dtype fp32", "--dtype float32"),
        ("--load-format dummy", "--weights random"),
        ("--load-format auto", "--weights auto"),
    ],
)
def test_what_other_programs_call_it(argv: str, same: str) -> None:
    assert parse_arguments(argv.split()) == parse_arguments(same.split())


def test_a_file_says_what_holds_for_the_run(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "{model_name: m, adapter: [a, b], merge_adapters: true, seed: 3, output_dir: out, "
        "configs: [{batch_size: 2}]}"
    )
    found = parse_arguments(["--configs", str(path)])
    assert found.model == ModelRequest("m", seed=3, adapters=("a", "b"), merge_adapters=True)
    assert (found.output_dir, [each.batch_size for each in found.configs]) == (Path("out"), [2])


def test_a_file_says_all_that_flags_say_of_the_run(tmp_path: Path) -> None:
    """But for what is told, and in which language; and by the names that other programs have."""
    (tmp_path / "p.txt").write_text("a prompt")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"{{model: m, load_format: dummy, no_ceilings: true, rank_timeout: 5, num_processes: 2, "
        f"prompt: {tmp_path / 'p.txt'}, force: true, configs: [{{output_len: 2, dtype: bf16}}]}}"
    )
    found = parse_arguments(["--configs", str(path)])
    assert (found.model, found.force) == (ModelRequest("m", "random"), True)
    assert (found.ceilings, found.rank_timeout_s, found.num_processes) == (False, 5, 2)
    assert found.prompts == ("a prompt",)
    assert found.configs == (RunConfig(decode_steps=2, inputs="prompt"),)
    told = {*RUN_KEYS, "help", "version", "quiet", "verbose", "lang", "configs"}
    # an execution, compiled or a graph, is a key of each entry
    told |= {*RunConfig.__dataclass_fields__, "compile", "cuda_graph", "executions", "ragged"}
    assert {a.option_strings[-1][2:].replace("-", "_") for a in build_parser()._actions} <= told


def test_where_a_run_goes_the_command_line_says_last(tmp_path: Path) -> None:
    """Each of several fresh processes is sent to a place of its own, whatever the file says."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "[{batch_size: 2, output_dir: out, output_file: r.json, trace_dir: t, run_name: mine}]"
    )
    argv = ["--configs", str(path), "--num-processes", "3"]
    asked = parse_arguments(argv)
    assert (asked.trace_dir / str(asked.run_name), asked.num_processes) == (Path("t/mine"), 3)
    place = ["--trace-dir", "t/mine", "--run-name", "process1", "--num-processes", "1"]
    child = parse_arguments([*argv, *place])
    assert (child.trace_dir / str(child.run_name), child.num_processes) == (
        Path("t/mine/process1"), 1,
    )  # fmt: skip
    assert (child.records_path, child.configs) == (asked.records_path, asked.configs)
    side = side_of("BASE", ["--configs", str(path)], Path("compare1/base"))
    assert parse_arguments(side.argv).records_path == Path("compare1/base/r.json")


def test_configs_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen3_profile.cli.documents._MOST_CHARACTERS", 1 << 20)
    with pytest.raises(ConfigError, match="/dev/zero: cannot be read: it is longer than 1 MB"):
        parse_arguments(["--configs", "/dev/zero"])


@pytest.mark.parametrize(
    ("text", "argv", "told"),
    [
        ("{num_layers: two, configs: [{}]}", "", "{}: num_layers: invalid int value: 'two'"),
        ("{seed: {a: 1}, configs: [{}]}", "", "{}: seed: is an object; give a string"),
        ("{weights: some, configs: [{}]}", "", "{}: weights: invalid choice: 'some'"),
        ("{model_name: m, configs: [{}]}", "--model n", "--model-name: is set by {}, too"),
        ("{model_nam: m, configs: [{}]}", "", "{}: unknown key 'model_nam' beside configs"),
        (
            "{num_runs: 1, configs: [{}]}",
            "",
            "{}: unknown key 'num_runs' beside configs; set it in",
        ),
        ("{model: m, model_name: n, configs: [{}]}", "", "{}.model: is model_name, which is there"),
    ],
)
def test_what_a_file_says_wrongly(tmp_path: Path, text: str, argv: str, told: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse_arguments(["--configs", str(path), *argv.split()])
    assert str(caught.value).startswith(told.format(path))


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        pytest.param(
            ["--batchsize", "2"],
            "--batchsize: is not a known argument; did you mean --batch-size?",
            id="a flag almost right",
        ),
        pytest.param(
            ["--batchsize=2"], "--batchsize=2: is not a known argument; did you mean --batch-size?",
            id="with its value",
        ),
        pytest.param(["--xyzzy"], "--xyzzy: is not a known argument; see --help", id="like none"),
        pytest.param(["--batch", "2"], "--batch: is not a known argument; did you mean "
                     "--batch-size?", id="abbreviated"),
        pytest.param(["--max_new_tokens=2"], "--max_new_tokens=2: is not a known argument; did you "
                     "mean --decode-steps?", id="what generation calls it"),
        pytest.param(["--tp", "2"], "--tp: is not a known argument; run it under torchrun, one "
                     "process a GPU: --parallel tp",
                     id="what there is not"),
        pytest.param(["--ep"], "--ep: is not a known argument; run it under torchrun, one process "
                     "a GPU: --parallel ep", id="experts"),
        pytest.param(["--osl=2"], "--osl=2: is not a known argument; did you mean --decode-steps?",
                     id="what benchmarks call it"),
        pytest.param(["--bf16"], "--bf16: is not a known argument; did you mean --dtype bf16?",
                     id="a value"),
        pytest.param(["--compare"], "--compare: is not a known argument; did you mean "
                     "qwen3-profile compare?", id="a command"),
        pytest.param(["--explain"], "--explain: is not a known argument; it is a flag of "
                     "qwen3-profile export", id="another command's"),
        pytest.param(["--load-format", "x"], "--load-format: invalid choice: 'x'", id="by its "
                     "other name"),
        pytest.param(["prefill"], "prefill: is not a known argument", id="a stray word"),
        pytest.param(["--batch-size"], "--batch-size: expected one argument", id="no value"),
        pytest.param(["--batch-size", "two"], "--batch-size: 'two' is not a number", id="word"),
        pytest.param(["--batch-size", "0"], "--batch-size: 0 is out of range", id="out of range"),
        pytest.param(["--input-len", "-3"], "--input-len: -3 is out of range", id="negative"),
        pytest.param(["--warmup-runs", "-1"], "--warmup-runs: -1 is out of", id="two words"),
        pytest.param(["--decode-steps", "-1"], "--decode-steps: -1 is out of", id="decode"),
        pytest.param(["--trace-steps", "0"], "--trace-steps: 0 is out of range", id="no trace"),
        pytest.param(["--cache", "paged"], "--cache: invalid choice: 'paged'", id="no such cache"),
        pytest.param(["--dtype", "int8"], "--dtype: invalid choice: 'int8'", id="no such dtype"),
        pytest.param(["--weights", "x"], "--weights: invalid choice: 'x'", id="no such weights"),
        pytest.param(["--num-layers", "0"], "--num-layers: 0 is out of range", id="no layers"),
        pytest.param(["--seed", "-1"], "--seed: -1 is out of range", id="negative seed"),
        pytest.param(["--model-name", ""], "--model-name: is empty", id="no name"),
        pytest.param(
            ["--attn-implementation", ""], "--attn-implementation: '' is not a name", id="attention"
        ),
        pytest.param(
            ["--output-file", "a/b.json"],
            "--output-file: 'a/b.json' is not a file's name; give its folder as --output-dir",
            id="a path as file",
        ),
        pytest.param(["--output-file", ""], "--output-file: '' is not a file's name", id="no file"),
        pytest.param(["--cuda-graph", "--backward"], "--cuda-graph: captures no", id="both ways"),
        pytest.param(
            ["--cuda-graph", "--decode-steps", "3"],
            "--cuda-graph: replays a decode step on the same tensors", id="a growing cache",
        ),
        pytest.param(["--configs", "none.json"], "none.json: cannot be read", id="no such file"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(argv: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(argv)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == EXIT_BAD_INPUT


# A number without a unit says what it counts.
UNITS = {
    "--batch-size": "sequences", "--input-len": "tokens", "--num-runs": "measured runs",
    "--warmup-runs": "prefills", "--decode-steps": "tokens", "--trace-steps": "decode steps",
    "--num-layers": "layers", "--num-processes": "processes",
    "--lora-rank": "rank", "--seed": "token ids",
}  # fmt: skip


def flags() -> list[argparse.Action]:
    return [a for a in build_parser()._actions if a.dest not in ("help", "version")]


@pytest.mark.parametrize("action", [pytest.param(a, id=a.option_strings[-1]) for a in flags()])
def test_the_help_says_each_default_and_unit(action: argparse.Action) -> None:
    assert action.help is not None
    assert "(default: " in action.help, action
    if action.default not in (None, False):
        assert "%(default)s" in action.help
    if action.type is int:
        assert UNITS[action.option_strings[-1]] in action.help


def test_the_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    titles = ["what is measured:", "on which model, and where:", "what is written:"]
    measured, model, written = (shown.index(title) for title in titles)
    for flag, begin, end in (
        ("--batch-size N", measured, model), ("--seed N", model, written),
        ("--force", written, len(shown)),
    ):  # fmt: skip
        assert begin < shown.index(flag, measured) < end
    assert "(default: Qwen/Qwen3-0.6B)" in shown
    assert all(action.option_strings[0] in shown for action in flags())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--version"])
    assert (caught.value.code, capsys.readouterr().out.strip()) == (0, __version__)


# --- eager, compiled and as a CUDA graph ---------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "executions"),
    [
        ("", [EAGER]),
        ("--compile", [COMPILED]),
        ("--cuda-graph", [CUDA_GRAPH]),
        ("--compile --cuda-graph", [EAGER, COMPILED, CUDA_GRAPH]),
        ("--executions eager,compiled", [EAGER, COMPILED]),
        ("--executions compiled,eager --compile max-autotune", [COMPILED, EAGER]),
        ("--executions compiled --compile-scope layer", [COMPILED]),
    ],
)
def test_executions_that_are_asked_for(argv: str, executions: list[str]) -> None:
    found = parse_arguments(argv.split())
    assert [config.execution for config in found.configs] == executions
    assert len({config.worker for config in found.configs}) == len(executions)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_a_mode_goes_to_what_is_compiled(mode: str) -> None:
    eager, compiled = parse_arguments(["--executions", "eager,compiled", "--compile", mode]).configs
    assert (eager.compile_mode, compiled.compile_mode) == ("default", mode)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("--compile fast", "--compile: invalid choice: 'fast'"),
        ("--executions eager,compield", "--executions: 'compield' is no execution; did you mean"),
        ("--executions eager,eager", "--executions: names 'eager' twice"),
        ("--executions eager --compile", "--executions: does not name compiled"),
        ("--compile-scope layer", "--compile-scope: compiles nothing by itself"),
        ("--compile --decode-steps 2", "--compile: compiles a decode step once"),
        ("--compile --backward", "--compile: measures no backward"),
    ],
)
def test_what_cannot_be(argv: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_arguments(argv.split())
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    "values",
    [
        {"compile_mode": "max-autotune"},
        {"compile_scope": "layer"},
        {"execution": "compiled", "compile_mode": "fast"},
        {"execution": "compiled", "compile_scope": "part"},
    ],
)
def test_configs_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RunConfig(**values)


@pytest.mark.parametrize("flag", ["--trace-dir", "--run-name"])
@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x1bb", "a\udcffb"])
def test_a_place_that_a_trace_cannot_name_is_refused(flag: str, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name it") as caught:
        parse_arguments([flag, name])
    assert caught.value.where == flag


def test_too_long_a_file_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="too long a name"):
        parse_arguments(["--output-file", "x" * 250])


def test_lists_of_sizes_are_every_combination_the_largest_first() -> None:
    found = parse_arguments(["--batch-size", "1,4,2", "--input-len", "128,256"]).configs
    sizes = [(each.batch_size, each.input_len) for each in found]
    assert sizes == [(4, 256), (4, 128), (2, 256), (1, 256), (2, 128), (1, 128)]


def test_a_sweep_of_several_executions_begins_with_the_largest_of_each() -> None:
    argv = ["--batch-size", "1,2", "--attn-implementation", "sdpa,eager"]
    found = parse_arguments(argv).configs
    assert [(each.batch_size, each.attn_implementation) for each in found] == [
        (2, "sdpa"), (2, "eager"), (1, "sdpa"), (1, "eager"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--batch-size", "1,0"], "--batch-size: 0 is out of range"),
        (["--batch-size", "1,1"], "--batch-size: names a value twice"),
        (["--input-len", "128,"], "--input-len: '128,' is not a number"),
        (["--input-len", "a"], "--input-len: 'a' is not a number"),
    ],
)
def test_mistakes_in_lists_of_sizes(argv: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(argv)
    assert str(caught.value).startswith(told)


def test_a_list_of_sizes_does_not_go_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"configs": [{"input_len": 8}]}')
    with pytest.raises(ConfigError, match=r"--batch-size: is a list, and .*c.json gives"):
        parse_arguments(["--batch-size", "1,2", "--configs", str(file)])
