"""Every message has its Chinese, and every Chinese its message; what is said is in one language."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable

import pytest
from make.messages import Text, every_text, texts_of

from qwen3_profile import words
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.errors import ConfigError, report_error
from qwen3_profile.measure.model.published_shapes import PUBLISHED
from qwen3_profile.words import in_chinese, language_kept, said, use_language, use_language_of
from qwen3_profile.words.translate import COUNTED, HOLE, TABLE, is_weak, read_table, translate

EVERY = tuple(every_text())
# What Python's argparse says, on which the commands' parser stands.
OF_ARGPARSE = {
    "expected at least one argument",
    "expected one argument",
    "expected {0} arguments",
    "ignored explicit argument {0}",
    "invalid choice: {0} (choose from {1})",
    "invalid {0} value: {1}",
    "not allowed with argument {0}",
    "options",
    "positional arguments",
    "show program's version number and exit",
    "show this help message and exit",
    "the following arguments are required",
}
# What the system says of a file.
OF_SYSTEM = {
    os.strerror(each)
    for each in (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EISDIR, errno.ENOTDIR)
}
# Made from the names of fields.
MADE = {field.removesuffix("_ns").replace("_", " ") for field in IdleTimes._fields}
# Of nouns that are not written where they are counted.
MADE |= {"{0} call", "{0} calls", "{0} label", "{0} labels"}
# A run's `weights` and where they are from.
MADE |= {"random (generated)", *(f"pretrained ({each})" for each in ("directory", "cache", "hub"))}
# Strings of several words that nobody is shown: what other programs write, and internal names.
NOT_SHOWN = {
    '"Sequence number"',
    "Collective name",
    "Device Id",
    "Device Type",
    "External id",
    "Expected an id of 64 bits - at `$.correlation`",
    "Fwd thread id",
    "GetDeviceCount failed",
    "Group size",
    "In msg nelems",
    "Memcpy DtoH",
    "Out msg nelems",
    "Process Group Ranks",
    "PyTorch Profiler",
    "Python id",
    "Python module id",
    "Python parent id",
    "Sequence number",
    "Total Allocated",
    "allow-scripts allow-downloads allow-modals",
    "attn norm",
    "attn norms",
    "ffn norm",
    "event {0}, {1}, {2}",
    "gpu {0}",
    "graph node id",
    "layer_time_ms {0}/{1}_{2}",
    "labels over stream {0}",
    "model name",
    "modules of thread {0}",
    "nn.Module: {0}",
    "queue depth",
    "start norm",
    "stream {0} ({1})",
    "{0} modules",
    "{0}; sandbox {1}",
}
# Where the shapes of models were read: names of files and commits, kept in run.json.
NOT_SHOWN |= {source for shape in PUBLISHED.values() for source in shape.sources}


def test_every_message_has_its_chinese() -> None:
    missing = {
        each.template: each
        for each in EVERY
        if each.is_message and each.template not in read_table() and each.template not in NOT_SHOWN
    }
    assert not missing, what_to_add(missing.values())


def what_to_add(missing: Iterable[Text]) -> str:
    lines = [f"  {json.dumps(each.template)}: {json.dumps(each.place)}," for each in missing]
    return (
        f"messages without Chinese. For each of these put its Chinese where its place stands, with "
        f"the same holes, and add the line to qwen3_profile/words/{TABLE.name}, which is in the "
        "order of its keys:\n" + "\n".join(lines)
    )


def test_every_chinese_has_its_message() -> None:
    found = {line for each in EVERY for line in [each.template, *each.template.split("\n")]}
    found |= OF_ARGPARSE | OF_SYSTEM | MADE
    left = read_table().keys() - found
    assert not left, f"nobody says this any more: remove it from {TABLE.name}: {sorted(left)}"


def test_the_table_is_in_order_and_each_key_stands_once() -> None:
    pairs = json.loads(TABLE.read_text(encoding="utf-8"), object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert keys == sorted(set(keys)), "sort the keys, so that two people's new lines do not collide"


def test_both_have_the_same_holes() -> None:
    for english, chinese in read_table().items():
        assert sorted(HOLE.findall(chinese)) == sorted(HOLE.findall(english)), english
        same = chinese in (english, english.removesuffix("s")) or not re.search(
            "[A-Za-z]", HOLE.sub("", chinese)
        )
        assert same or not chinese.isascii(), english


def test_no_template_is_taken_for_another() -> None:
    """Filled with what is no message itself, each gives its own Chinese."""
    for english, chinese in read_table().items():
        counts = COUNTED.findall(chinese)
        is_figure = is_weak(english) or counts
        filler = r"9\1" if is_figure else r"<\1>"
        if not is_weak(english) or len(HOLE.findall(english)) > 1:
            found = translate(HOLE.sub(filler, english))
            assert found.replace(" ", "") == HOLE.sub(filler, chinese).replace(" ", "")


SOURCE = '''
"""A docstring is no message."""
def f(n, one, name, why):
    raise Error(f"{name}", f"{n} {'pass' if one else 'passes'} of {name}{why:>9} are lost.", "stop")
    re.compile(r"(?:is|no) message")
    g(f"{counted(n, 'lost event')}", {"key": "some words"}, f"<b>{name} is markup</b>")
'''


def test_messages_are_found_in_source() -> None:
    found = [each.template for each in texts_of(SOURCE, "f.py") if each.is_message]
    assert found == [
        "{0} pass of {1} are lost",
        "{0} passes of {1} are lost",
        "some words",
        "{0} lost event",
        "{0} lost events",
    ]


TABLE_OF_CASES = {
    "run.json: is not there": "run.json：不存在",
    "x: cannot be read: broken pipe; write elsewhere": "x：无法读取：broken pipe；请写到别处",
    "nothing of ours, here": "nothing of ours, here",
    "did you mean --dtype?": "是否想写 --dtype？",
    "interrupted by SIGINT": "被 SIGINT 中断",
    "": "",
    "12.3 (4)": "12.3 (4)",
    "waiting for launches 92%, short kernels 7%": "等待 kernel 启动 92%，短 kernel 7%",
}


@pytest.mark.parametrize(("english", "chinese"), TABLE_OF_CASES.items())
def test_texts_are_put_together(english: str, chinese: str) -> None:
    assert in_chinese(english) == chinese


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ({"LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LC_MESSAGES": "zh_TW.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "", "LANG": "zh_CN.GBK"}, "zh"),
        ({}, "en"),
    ],
)
def test_the_locale_chooses(
    locale: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(key, raising=False)
    for key, value in locale.items():
        monkeypatch.setenv(key, value)
    assert words.language() == expected
    with language_kept():
        use_language("en" if expected == "zh" else "zh")
        assert words.language() != expected
    assert words.language() == expected


@pytest.mark.parametrize("argv", [["--lang", "zh"], ["x", "--lang=en", "--lang=zh", "-q"]])
def test_the_last_flag_counts(argv: list[str]) -> None:
    with language_kept():
        use_language_of(argv)
        assert words.language() == "zh"


def test_another_language_is_refused() -> None:
    with pytest.raises(ValueError, match="'fr' is not one of en, zh"):
        use_language("fr")


def test_an_error_is_told_in_chinese_and_kept_in_english(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = ConfigError("--out", "is not there", "write elsewhere")
    with language_kept():
        use_language("zh")
        report_error(error)
        assert str(error) == "--out：不存在；请写到别处"
        assert error.english == "--out: is not there; write elsewhere"
        assert said("it is read-only") == "它是只读的"
    assert capsys.readouterr().err == "错误：--out：不存在；请写到别处\n"
    assert str(error) == error.english
