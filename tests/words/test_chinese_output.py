"""What the commands print in Chinese of recorded runs: no English left over, and no wider."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from make.paths import ROOT

from qwen3_profile import label_parts
from qwen3_profile.cli.program import main as program
from qwen3_profile.compare import main as compare
from qwen3_profile.export import main as export
from qwen3_profile.words import in_chinese, language_kept, use_language
from qwen3_profile.words.cells import cells, place, to_left, to_right, wrap_cells

DATA = ROOT / "tests/data"
RUN = DATA / "runs/h200-2layers"
# Three words in a row that are no names: parts, kernels, flags and fields stay as they are.
ENGLISH = re.compile(r"(?<![\w.\-/])[a-z]{2,}(?: [a-z]{2,}){2,}(?![\w.\-/])")
# A word alone in a line of Chinese, and those that an engineer leaves in English.
WORD = re.compile(r"(?<![\w./:<>*@(-])[a-z]{3,}(?![\w./:>*@(-])")
TERMS = set(
    re.findall(
        "[a-z]+",
        """algbw bare batch blocked busbw cache compiled cpu cuda decode default eager experts fused
        graph hub install kernel launching layers logits model other pip prefill profiler queued
        rank sdpa size starved static straggler stream token torch trace transformers unattributed
        """,
    )
)
PARTS = {each.name for each in label_parts.PARTS}
# What the host did, by torch's own names; and a name with words in it.
NAMES = ("hold and with",)

COMMANDS = {
    "foreign": (export, [DATA / "qwen3-0.6b_decode_b1_ctx128.json.gz"]),
    "two traces": (
        compare,
        [DATA / f"qwen3-0.6b_graph_decode_{each}.json.gz" for each in ("eager", "capture")],
    ),
    "run": (export, [RUN]),
    "executions": (export, [DATA / "runs/ways-2layers"]),
    "ranks": (export, [DATA / "ranks"]),
    "hybrid": (export, [DATA / "runs/hybrid-9b-h200"]),
    "explain": (export, [RUN, "--explain"]),
    "ledger": (export, [DATA / "qwen3-0.6b_graph_decode_replay.json.gz", "--kernels"]),
    "two runs": (compare, [DATA / "runs/h100-2layers", RUN]),
    "two runs for GitHub": (compare, [DATA / "runs/h100-2layers", RUN, "--format", "markdown"]),
}


def argv_of(name: str, folder: Path) -> list[str]:
    main, argv = COMMANDS[name]
    given = [*map(str, argv)]
    if name == "ledger":
        return [*given, "--ledger", str(folder / "ledger.json")]
    return [*given, "--output-dir", str(folder)] if main is export else given


@pytest.mark.parametrize("name", COMMANDS)
def test_no_english_is_left(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    main, _ = COMMANDS[name]
    assert main([*argv_of(name, tmp_path), "--lang", "zh"]) == 0
    printed = capsys.readouterr().out
    assert list(ENGLISH.findall(printed)) == []
    lines = [each for each in printed.splitlines() if re.search("[\u4e00-\u9fff]", each)]
    assert lines
    if name != "ledger":  # kernels' names are code
        assert {word for line in lines for word in WORD.findall(line)} - TERMS - PARTS == set()
    if "GitHub" not in name:
        wide = [line for line in printed.splitlines() if cells(line) > 80]
        assert [line for line in wide if str(tmp_path) not in line] == []


def test_files_are_the_same_in_both_languages(tmp_path: Path) -> None:
    for name in ("run", "ledger"):
        written = {}
        for language in ("en", "zh"):
            folder = tmp_path / name / language
            main, _ = COMMANDS[name]
            assert main([*argv_of(name, folder), "--lang", language]) == 0
            written[language] = {each.name: each.read_bytes() for each in folder.iterdir()}
        assert written["en"] == written["zh"] != {}


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("starved 70%, in graph 23%", "无任务（starved）70%，graph 内 23%"),
        ("short kernels 7%", "短 kernel 7%"),
        ("Qwen, 2 layers, random weights, on cpu", "Qwen，2 层，随机权重，设备 cpu"),
        (f"the known ones are {'a, ' * 40}b", f"已知的有 {'a, ' * 40}b"),
        ("static cache, a and b in plain torch code", "static cache，a 和 b 用普通 torch 代码"),
    ],
)
def test_whole_sentences_are_chinese(english: str, chinese: str) -> None:
    assert in_chinese(english) == chinese


def test_an_unknown_command_is_told_in_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["frobnicate", "--lang", "zh"]) == 2
    assert capsys.readouterr().err.startswith("错误：frobnicate：不是可用的命令；可用的命令有 run,")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--config"], "错误：--config：需要一个参数；参见 --help"),
        (["nowhere"], "错误：nowhere：不存在；请指定运行的目录或 trace 文件"),
        (["nowhere", "--port", "1"], "错误：--port：须与 --view 一起使用；请补上，或去掉此参数"),
        (["nowhere", "--repotr"], "错误：--repotr：不是已知的参数；是否想写 --report？"),
    ],
)
def test_errors_are_chinese(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert export([*argv, "--lang", "zh"]) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_help_is_chinese(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        export(["--help", "--lang", "zh"])
    printed = capsys.readouterr().out
    assert printed.startswith("用法：")
    assert ENGLISH.findall(printed) == []
    assert max(map(cells, printed.splitlines())) <= 80


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("一二三四五", 4, ["一二", "三四", "五"]),
        ("一二，三四", 4, ["一", "二，", "三四"]),
        ("kernel 启动（launch）", 10, ["kernel 启", "动", "（launch）"]),
        ("a bc def", 4, ["a bc", "def"]),
        ("", 4, [""]),
    ],
)
def test_lines_break_by_cells(text: str, width: int, lines: list[str]) -> None:
    assert wrap_cells(text, width) == lines


def test_texts_are_filled_up_by_cells() -> None:
    assert (to_left("空闲", 6), to_right("空闲", 6), to_left("idle", 6)) == (
        "空闲  ",
        "  空闲",
        "idle  ",
    )
    with language_kept():
        use_language("zh")
        assert place("records  ", "x.json") == "记录     x.json"
        assert place("view ", "x") == "查看 x"
    assert place("records  ", "x.json") == "records  x.json"
