"""What all command lines parse their arguments with."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from qwen3_profile.cli.program import COMMANDS
from qwen3_profile.errors import VERBOSITY, ConfigError, closest
from qwen3_profile.version import __version__
from qwen3_profile.words import ENGLISH, LANGUAGES, language, said, use_language_of
from qwen3_profile.words.cells import wrap_cells

# A file that is being written has a longer name for a while, and systems allow 255 bytes.
_LONGEST_NAME_BYTES = 240
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_FLAG = re.compile(r"--[a-z-]+")


def _over_ranks(way: str) -> str:
    return f"run it under torchrun, one process a GPU: --parallel {way}"


# What other programs call it: the flag that says it here, or why there is none.
_ELSEWHERE = {
    "attn": "--attn-implementation", "attention": "--attn-implementation",
    "attention-backend": "--attn-implementation", "batch": "--batch-size", "bf16": "--dtype bf16",
    "bs": "--batch-size", "context-len": "--input-len", "cpu": "--device cpu",
    "csv": "--format csv", "cuda": "--device cuda",
    "enforce-eager": "eager is the default; see --executions",
    "fp16": "--dtype fp16", "fp8": "--quantize fp8", "gpu": "--device", "half": "--dtype fp16",
    "input-length": "--input-len", "int4": "--quantize int4", "int8": "--quantize int8",
    "isl": "--input-len", "iters": "--num-runs", "kv-cache": "--cache",
    "layers": "--num-layers", "lora": "--adapter", "max-model-len": "--input-len",
    "max-new-tokens": "--decode-steps", "max-tokens": "--decode-steps",
    "model-path": "--model-name", "name": "--run-name", "num-iters": "--num-runs",
    "num-iters-warmup": "--warmup-runs", "num-prompts": "--batch-size",
    "num-steps": "--decode-steps", "osl": "--decode-steps", "out": "--output-dir",
    "output": "--output-dir", "output-length": "--decode-steps", "prompt-len": "--input-len",
    "quantization": "--quantize", "runs": "--num-runs", "seq-len": "--input-len",
    "seqlen": "--input-len", "steps": "--decode-steps", "train": "--backward",
    "torch-compile": "--compile", "warmup": "--warmup-runs",
    "cuda-graphs": "--cuda-graph", "tp": _over_ranks("tp"),
    "tensor-parallel-size": _over_ranks("tp"), "pp": _over_ranks("tp"),
    "pipeline-parallel-size": _over_ranks("tp"), "ep": _over_ranks("ep"),
    "enable-expert-parallel": _over_ranks("ep"), "dp": _over_ranks("dp"),
    "data-parallel-size": _over_ranks("dp"),
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one line, and the nearest right flag."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        add = self.add_argument
        add("--version", action="version", version=__version__)
        add("-q", "--quiet", action="store_true", help="print no tables and no progress "
                  "(default: off)")  # fmt: skip
        add("-v", "--verbose", action="store_true", help="print how long each step takes, and "
            "where an error comes from (default: off)")  # fmt: skip
        add("--lang", choices=LANGUAGES, help="language of what is printed; files that programs "
            "read are the same in both (default: the locale's)")  # fmt: skip

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else args
        use_language_of(self._given)
        options = super().parse_args(args, namespace)
        VERBOSITY.set(int(options.verbose) - int(options.quiet))
        return options

    def format_help(self) -> str:
        if language() == ENGLISH:
            return super().format_help()
        for action in self._actions:
            action.help = said(action.help or "")
        for group in self._action_groups:
            group.title = said(group.title or "")
        self.description, self.epilog = said(self.description or ""), said(self.epilog or "")
        self.formatter_class = _WideFormatter
        return super().format_help().replace("usage: ", said("usage: "), 1)

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0]
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise ConfigError(word, "is not a known argument", _meant(word, flags) or "see --help")
        flag, found, what = message.removeprefix("argument ").partition(": ")
        if not found:
            raise ConfigError(self.prog, message, "see --help")
        # Of a flag with several names the one that was written; the last one is ours.
        names, words = flag.split("/"), [word.partition("=")[0] for word in self._given]
        raise ConfigError(next(filter(words.__contains__, names), names[-1]), what, "see --help")


class _WideFormatter(argparse.HelpFormatter):
    """Fills lines by the cells that a terminal gives to Chinese characters."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap_cells(" ".join(text.split()), width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = wrap_cells(" ".join(text.split()), width - len(indent))
        return "\n".join(f"{indent}{line}" for line in lines)


def _meant(word: str, flags: Iterable[str]) -> str:
    """What an unknown flag may stand for: another program's word, or a slip of the keyboard."""
    name = word.partition("=")[0]
    if not name.startswith("--"):
        return ""
    if name[2:] in COMMANDS:
        return f"did you mean qwen3-profile {name[2:]}?"
    names = {flag.lstrip("-"): flag for flag in flags if flag.startswith("--")}
    known = _ELSEWHERE.get(name[2:].replace("_", "-"), "")
    if any(flag not in names.values() for flag in _FLAG.findall(known)):
        known = ""  # this command has it not
    if known.startswith("--"):
        return f"did you mean {known}?"
    # Without the hyphens, which make short names look alike.
    near = closest(name[2:], names).replace("mean ", "mean --")
    return known or near or _whose(name)


def _whose(flag: str) -> str:
    """Which other command has the flag; nothing where none has it."""
    for name, command in COMMANDS.items():
        if flag in command.build_parser()._option_string_actions:
            return f"it is a flag of qwen3-profile {name}"
    return ""


def output_file_name(text: str) -> str:
    """`text`, if it names a file and not a path."""
    if not text or Path(text).name != text:
        raise ConfigError(
            "--output-file", f"{text!r} is not a file's name", "give its folder as --output-dir"
        )
    check_file_name("--output-file", text)
    return text


def check_file_name(flag: str, path: str) -> None:
    """Refuses now what could not be written once all the work is done."""
    if len(os.fsencode(Path(path).name)) > _LONGEST_NAME_BYTES:
        raise ConfigError(flag, "is too long a name", "take a shorter one")
    if os.path.isdir(path or "."):
        raise ConfigError(flag, f"{path!r} is a folder", "give a file in it")


def check_trace_place(flag: str, text: str) -> None:
    """Refuses what the profiler would write into its trace as it is, and so make it no JSON."""
    # Spaces that are no plain ones, which some keyboards write, do no harm.
    if not "".join(_SPACES.split(text)).isprintable() or '"' in text or "\\" in text:
        what = f"{text!a} has a quote, a backslash or a character that cannot be printed"
        raise ConfigError(flag, what, "the profiler's traces cannot name it; take another")
