"""What a run may be asked to do, and how each mistake in a file of configs is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from qwen3_profile.cli.config_file import read_config_file
from qwen3_profile.config import DTYPES, Invocation, ModelRequest, RunConfig
from qwen3_profile.errors import EXIT_BAD_INPUT, ConfigError, closest

# --- one config ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"batch_size": 0}, "batch_size: 0 is out of range; take 1 to 1048576", id="0"),
        pytest.param({"batch_size": -1}, "batch_size: -1 is out of range", id="negative"),
        pytest.param({"batch_size": 1 << 21}, "batch_size: 2097152 is out of range", id="huge"),
        pytest.param({"batch_size": "2"}, "batch_size: is a string", id="text"),
        pytest.param({"batch_size": 2.0}, "batch_size: is a fraction", id="fraction"),
        pytest.param({"batch_size": True}, "batch_size: is true or false", id="bool is no number"),
        pytest.param({"batch_size": None}, "batch_size: is null", id="null"),
        pytest.param({"input_len": 0}, "input_len: 0 is out of range; take 1", id="input_len"),
        pytest.param({"num_runs": 0}, "num_runs: 0 is out of range; take 1", id="num_runs"),
        pytest.param({"warmup_runs": -1}, "warmup_runs: -1 is out of range; take 0", id="warmup"),
        pytest.param({"dtype": "int8"}, "dtype: 'int8' is not one of float32, float16", id="dtype"),
        pytest.param({"dtype": ["float32"]}, "dtype: is a list; give one of", id="dtype list"),
        pytest.param({"attn_implementation": ""}, "attn_implementation: ''", id="empty attention"),
        pytest.param({"attn_implementation": 3}, "attn_implementation: 3", id="attention number"),
        pytest.param({"decode_steps": -1}, "decode_steps: -1 is out of range; take 0", id="decode"),
        pytest.param({"decode_steps": 2.5}, "decode_steps: is a fraction", id="part of a step"),
        pytest.param({"trace_steps": 0}, "trace_steps: 0 is out of range; take 1", id="traces"),
        pytest.param(
            {"cache": "paged"}, "cache: 'paged' is not one of dynamic, static", id="cache"
        ),
        pytest.param(
            {"execution": "lazy"}, "execution: 'lazy' is not one of eager, compiled", id="lazy"
        ),
        pytest.param(
            {"execution": "cuda_graph", "backward": True},
            "cuda_graph: captures no backward; leave one of them out",
            id="graph of a backward",
        ),
        pytest.param(
            {"execution": "cuda_graph", "decode_steps": 2},
            "cuda_graph: replays a decode step on the same tensors, and a dynamic cache grows; "
            "give --cache static",
            id="graph of a growing cache",
        ),
    ],
)
def test_a_config_checks_itself(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig(**changes)  # type: ignore[arg-type]
    assert str(caught.value).startswith(told)
    assert caught.value.exit_code == EXIT_BAD_INPUT


def test_the_least_and_the_most_are_allowed() -> None:
    RunConfig(batch_size=1, input_len=1, num_runs=1, warmup_runs=0)
    RunConfig(batch_size=1 << 20, input_len=1 << 20, num_runs=1 << 20, warmup_runs=1 << 20)


@pytest.mark.parametrize(
    ("config", "worker"),
    [
        pytest.param(RunConfig(2, 256), "bs2_len256_bfloat16", id="plain"),
        pytest.param(
            RunConfig(1, 8, "float32", attn_implementation="eager"),
            "bs1_len8_float32_eager",
            id="with attention",
        ),
        pytest.param(
            RunConfig(attn_implementation="a/b c.d"),
            "bs1_len128_bfloat16_a-b-c-d",
            id="safe as a file's name",
        ),
        pytest.param(
            RunConfig(2, 256, decode_steps=9, cache="static"),
            "bs2_len256_bfloat16_static",
            id="with another cache than the default",
        ),
        pytest.param(
            RunConfig(2, 256, decode_steps=9, cache="static", execution="cuda_graph"),
            "bs2_len256_bfloat16_static_cuda_graph",
            id="as a graph",
        ),
    ],
)
def test_the_worker_names_the_config(config: RunConfig, worker: str) -> None:
    assert config.worker == worker


@pytest.mark.parametrize(
    ("decode_steps", "trace_steps", "positions"),
    [
        pytest.param(0, 3, (), id="no decode"),
        pytest.param(1, 3, (0,), id="one step"),
        pytest.param(2, 3, (0, 1), id="fewer steps than traces: all"),
        pytest.param(3, 3, (0, 1, 2), id="as many"),
        pytest.param(9, 3, (0, 4, 8), id="the first, the middle, the last"),
        pytest.param(11, 5, (0, 2, 5, 8, 10), id="between whole steps: the nearest"),
        pytest.param(9, 2, (0, 8), id="the first and the last"),
        pytest.param(9, 1, (4,), id="one trace: the middle"),
        pytest.param(8, 1, (3,), id="one trace: the lower middle of two"),
        pytest.param(100_000, 4, (0, 33333, 66666, 99999), id="a long decode"),
    ],
)
def test_traced_positions(decode_steps: int, trace_steps: int, positions: tuple[int, ...]) -> None:
    config = RunConfig(decode_steps=decode_steps, trace_steps=trace_steps)
    assert config.traced_positions == positions


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"name": ""}, "--model-name: is empty", id="no name"),
        pytest.param({"weights": "some"}, "--weights: 'some' is not one of auto", id="weights"),
        pytest.param({"num_layers": 0}, "--num-layers: 0 is out of range", id="no layers"),
        pytest.param({"seed": -1}, "--seed: -1 is out of range", id="negative seed"),
        pytest.param({"seed": 1 << 63}, "--seed: 9223372036854775808 is out", id="seed too large"),
    ],
)
def test_a_model_request_checks_itself(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelRequest(**changes)  # type: ignore[arg-type]
    assert str(caught.value).startswith(told)


def test_the_records_path() -> None:
    asked = Invocation(
        ModelRequest(seed=(1 << 63) - 1),
        (RunConfig(),),
        Path("out"),
        "r.json",
        Path("t"),
        None,
        False,
    )
    assert asked.records_path == Path("out/r.json")


def test_ranks_that_loop_by_their_own_clocks_would_wait_for_ever() -> None:
    """Each would end its loop after another number of passes."""
    looped = (RunConfig(), RunConfig(energy=True))
    given = (looped, Path("out"), "r.json", Path("t"), None, False)
    assert Invocation(ModelRequest(), *given).configs == looped
    with pytest.raises(ConfigError, match="--energy: does not go with several ranks"):
        Invocation(ModelRequest(parallel="dp"), *given)


# --- a file of configs --------------------------------------------------------------------------

DEFAULTS = RunConfig(batch_size=7, input_len=70, dtype="float16", num_runs=5, warmup_runs=2)


def read(tmp_path: Path, text: str) -> tuple[RunConfig, ...]:
    path = tmp_path / "c.json"
    path.write_text(text, encoding="utf-8")
    return read_config_file(path).configs(DEFAULTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            '{"configs": [{"batch_size": 1, "input_len": 128}]}',
            [dataclasses.replace(DEFAULTS, batch_size=1, input_len=128)],
            id="the command line gives what an entry leaves out",
        ),
        pytest.param('{"configs": [{}]}', [DEFAULTS], id="all of it"),
        pytest.param(
            '{"configs": [{"batch_size": 1, "input_len": 2, "dtype": "float32", "num_runs": 3,'
            ' "warmup_runs": 0, "attn_implementation": "eager", "decode_steps": 5,'
            ' "cache": "static", "trace_steps": 2}]}',
            [RunConfig(1, 2, "float32", 3, 0, "eager", 5, "static", 2)],
            id="every key",
        ),
        pytest.param(
            '{"configs": [{"batch_size": 4}, {"batch_size": 2}]}',
            [dataclasses.replace(DEFAULTS, batch_size=n) for n in (4, 2)],
            id="in the order of the file",
        ),
    ],
)
def test_configs_are_read(tmp_path: Path, text: str, expected: list[RunConfig]) -> None:
    assert read(tmp_path, text) == tuple(expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '[{"batch_size": 4}, {"cache": "static"}]'),
        ("c.yaml", "- batch_size: 4\n- cache: static\n"),
        ("c.yml", "configs:\n- {batch_size: 4}\n- {cache: static}\n"),
        ("c.toml", '[[configs]]\nbatch_size = 4\n[[configs]]\ncache = "static"\n'),
    ],
)
def test_every_format_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_config_file(tmp_path / name).configs(DEFAULTS) == (
        dataclasses.replace(DEFAULTS, batch_size=4),
        dataclasses.replace(DEFAULTS, cache="static"),
    )


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("c.yaml", "a: [", "is not YAML"),
        ("c.yaml", "- batch_size: 1\n  batch_size: 2\n", "'batch_size' stands twice"),
        ("c.toml", "a =", "is not TOML"),
        ("c.toml", "a = 1\na = 2\n", "is not TOML"),
    ],
)
def test_each_format_has_its_mistakes(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config_file(tmp_path / name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"model_name": "m", "num_layers": 2, "configs": [{"batch_size": 4}]}',
        '[{"model_name": "m", "num_layers": 2, "batch_size": 4}]',
    ],
    ids=["beside configs", "in the entry"],
)
def test_what_holds_for_the_whole_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    file = read_config_file(tmp_path / "c.json")
    assert file.settings == {"model_name": "m", "num_layers": 2}
    assert file.configs(DEFAULTS) == (dataclasses.replace(DEFAULTS, batch_size=4),)


def entry(second: str) -> str:
    return f'{{"configs": [{{"batch_size": 1}}, {second}]}}'


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        pytest.param("", "", "is not JSON", id="empty"),
        pytest.param("{", "", "is not JSON", id="cut off"),
        pytest.param("[" * 100_000, "", "is not JSON", id="nested without end"),
        pytest.param("[]", " configs", "is empty", id="a list of none"),
        pytest.param("[[]]", " configs[0]", "is a list", id="a list of lists"),
        pytest.param("{}", "", 'has no list "configs"', id="no configs"),
        pytest.param('{"configs": {}}', "", 'has no list "configs"', id="configs no list"),
        pytest.param('{"configs": []}', " configs", "is empty", id="an empty list"),
        pytest.param('{"configs": [{}], "x": 1}', "", "unknown key 'x'", id="a key beside configs"),
        pytest.param(
            '{"configs": [{}], "configs": [{}]}', "", "the key 'configs' twice", id="configs twice"
        ),
        pytest.param(entry("3"), " configs[1]", "is a number", id="an entry is a number"),
        pytest.param(entry("null"), " configs[1]", "is null", id="an entry is null"),
        pytest.param(entry("[]"), " configs[1]", "is a list", id="an entry is a list"),
        pytest.param(
            entry('{"batchsize": 2}'),
            " configs[1].batchsize",
            "is not a known key; did you mean batch_size?",
            id="a key almost right",
        ),
        pytest.param(
            entry('{"model_name": "x"}'),
            " configs[1].model_name",
            "differs from configs[0]; one run has one model",
            id="a key of the whole run in one entry",
        ),
        pytest.param(
            entry('{"qqq": 2}'),
            " configs[1].qqq",
            "the keys are batch_size, input_len, dtype, num_runs, warmup_runs, attn_implementation",
            id="a key like none",
        ),
        pytest.param(
            entry('{"batch_size": "2"}'), " configs[1].batch_size", "is a string", id="wrong type"
        ),
        pytest.param(
            entry('{"input_len": 1.5}'), " configs[1].input_len", "is a fraction", id="fraction"
        ),
        pytest.param(
            entry('{"num_runs": 0}'), " configs[1].num_runs", "0 is out of range", id="range"
        ),
        pytest.param(
            entry('{"dtype": "int4"}'), " configs[1].dtype", "'int4' is not one of", id="dtype"
        ),
        pytest.param(
            entry('{"num_runs": 1, "num_runs": 2}'),
            " configs[1]",
            "the key 'num_runs' twice",
            id="key twice",
        ),
        pytest.param(
            entry('{"num_runs": {"a": 1, "a": 2}}'),
            " configs[1].num_runs",
            "is an object",
            id="key twice in what is wrong as a whole",
        ),
        pytest.param(
            entry('{"dtype": null}'),
            " configs[1].dtype",
            "is null; give one of float32",
            id="no dtype",
        ),
        pytest.param(
            entry('{"batch_size": 1}'), " configs[1]", "is the same as configs[0]", id="duplicate"
        ),
        pytest.param(
            entry('{"batch_size": 1, "input_len": 70}'),
            " configs[1]",
            "is the same as configs[0]",
            id="duplicate once the defaults are in",
        ),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, text: str, where: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'c.json'}:{where}")
    assert told in line
    assert "\n" not in line
    assert caught.value.exit_code == EXIT_BAD_INPUT


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config_file(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config_file(tmp_path)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_config_file(tmp_path / "b.json")


def test_a_mark_of_the_byte_order_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + b'{"configs": [{"batch_size": 4}]}')
    assert read_config_file(tmp_path / "c.json").configs(DEFAULTS)[0].batch_size == 4


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("bfloat", "did you mean bfloat16?", id="near"),
        pytest.param("zzz", "", id="far"),
    ],
)
def test_closest(word: str, expected: str) -> None:
    assert closest(word, DTYPES) == expected
