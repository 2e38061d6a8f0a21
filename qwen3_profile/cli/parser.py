"""What both command lines parse their arguments with; it needs nothing else of the package."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from qwen3_profile.errors import ConfigError, closest

# A file that is being written has a longer name for a while, and systems allow 255 bytes.
_LONGEST_NAME_BYTES = 240


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one line, and the nearest right flag."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0]
            flags = [flag for action in self._actions for flag in action.option_strings]
            hint = closest(word.partition("=")[0], flags) or "see --help"
            raise ConfigError(word, "is not a known argument", hint)
        flag, found, what = message.removeprefix("argument ").partition(": ")
        if not found:
            raise ConfigError(self.prog, message, "see --help")
        raise ConfigError(flag, what, "see --help")


def output_file_name(text: str) -> str:
    """`text`, if it names a file and not a path."""
    if not text or Path(text).name != text:
        raise ConfigError(
            "--output-file", f"{text!r} is not a file's name", "give its folder as --output-dir"
        )
    if len(os.fsencode(text)) > _LONGEST_NAME_BYTES:
        raise ConfigError("--output-file", "is too long a name", "take a shorter one")
    return text


def check_trace_place(flag: str, text: str) -> None:
    """Refuses what the profiler would write into its trace as it is, and so make it no JSON."""
    if not text.isprintable() or '"' in text or "\\" in text:
        what = f"{text!a} has a quote, a backslash or a character that cannot be printed"
        raise ConfigError(flag, what, "the profiler's traces cannot name it; take another")
