"""All messages of the package, by the templates that they are made from: found in its source.

A message is a string that is words. A string is one unless it has markup, is a pattern, or names
something that other programs write.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from make.paths import ROOT
from qwen3_profile.words.translate import HOLE, is_weak, without_edges

PACKAGE = ROOT / "qwen3_profile"
_HOLE = "\0"
_HOLES = re.compile(f"{_HOLE}+")
_UNITS = re.compile(r"\b(?:ms|us|ns|MB|GB|MiB|min|[KMGT]?B/s|\d+)\b")
_LETTERS = re.compile(r"[a-z]{2,}")
# Two words, or one beside something that is put in.
_WORDS = re.compile(r"[A-Za-z][a-z']+[,;:]? \(?[\"A-Za-z]|[A-Za-z][a-z']+[,;:]? \(?\0|\0 [a-z]{2,}")
# Calls whose strings are patterns, not words.
_NO_WORDS = {"compile", "filterwarnings"}
_TAGS = "!doctype|b|circle|g|h[1-6]|iframe|line|p|path|rect|svg|t[dhr]|table|text|title"
_MARKUP = rf"</?(?:{_TAGS})[ >/]|\(\?:|; charset=|-src |^style=|^svg[{{]|'\w+'$|^[\w.]+::"
_COMMAND = r"^--[\w-]+ \S+$|^pip install|^python -m|^qwen3-profile \w+$"
_NOT_SHOWN = re.compile(f"{_MARKUP}|{_COMMAND}")


@dataclass(frozen=True)
class Text:
    """template: as in the table; place: its file in the package, and line."""

    template: str
    place: str

    @property
    def is_message(self) -> bool:
        """Whether it is words, which somebody may read."""
        text = HOLE.sub(_HOLE, self.template)
        plain = _UNITS.sub("", text)
        if is_weak(self.template) or _NOT_SHOWN.search(text):
            return False
        return bool(_WORDS.search(plain) and _LETTERS.search(plain))


def every_text() -> Iterator[Text]:
    """All strings of the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        yield from texts_of(file.read_text(encoding="utf-8"), file.relative_to(PACKAGE).as_posix())


def texts_of(source: str, name: str) -> Iterator[Text]:
    for node in strings(ast.parse(source)):
        for text in texts(node):
            yield Text(template_of(text), f"{name}:{node.lineno}")


def strings(tree: ast.Module) -> Iterator[ast.expr]:
    """The strings of a file, without its docstrings and those inside of f-strings."""
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        if node in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            # What is put in, a call or a choice, may have messages of its own.
            passed.update(_own_pieces(node))
            yield node
        elif isinstance(node, ast.Call) and _name(node) in _NO_WORDS:
            passed.update(ast.walk(node))
        elif _is_count(node):
            passed.update(ast.walk(node))
            yield node
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def _name(node: ast.Call) -> str:
    """`compile` of a call of `re.compile`."""
    return ast.unparse(node.func).rpartition(".")[2]


def _is_count(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether it is `counted(count, "noun")`, which adds the s of several."""
    return (
        isinstance(node, ast.Call)
        and _name(node) in ("counted", "with_commas")
        and len(node.args) == 2
        and isinstance(node.args[1], ast.Constant)
    )


def _own_pieces(node: ast.JoinedStr) -> Iterator[ast.AST]:
    for value in node.values:
        if isinstance(value, ast.Constant):
            yield value
        elif isinstance(value, ast.FormattedValue):
            if value.format_spec is not None:
                yield from ast.walk(value.format_spec)
            if isinstance(value.value, ast.IfExp) and _is_choice(value.value):
                yield from ast.walk(value.value)


def _is_choice(node: ast.IfExp) -> bool:
    return all(isinstance(each, (ast.Constant, ast.JoinedStr)) for each in (node.body, node.orelse))


def texts(node: ast.AST) -> list[str]:
    """What a string may become, each with a mark where something is put in."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if _is_count(node):
        noun = ast.literal_eval(node.args[1])
        return [f"{_HOLE} {noun}", f"{_HOLE} {noun}s"]
    if isinstance(node, ast.IfExp) and _is_choice(node):
        return [*texts(node.body), *texts(node.orelse)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(each) for each in itertools.product(*map(texts, node.values))]
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.IfExp):
        return texts(node.value)
    return [_HOLE]


def template_of(text: str) -> str:
    """With its holes numbered, and without the punctuation at its ends."""
    numbers = itertools.count()
    _, core, _ = without_edges(_HOLES.sub(_HOLE, text))
    return re.sub(_HOLE, lambda _: f"{{{next(numbers)}}}", core)
