"""`qwen3-profile COMMAND ...`: one program for all commands; without one it runs a model.

Only the module of the command that is asked for is imported: an export starts without torch, and
a run without what others need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from qwen3_profile.cli.console import leave, run_command
from qwen3_profile.errors import ConfigError, closest
from qwen3_profile.system import signals

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the program: its module and function, and what it does in a line.

    added: flags that stand behind what the user gives.
    """

    module: str
    function: str
    help: str
    added: tuple[str, ...] = ()

    def main(self, argv: Sequence[str]) -> int:
        main: Main = getattr(import_module(f"qwen3_profile.{self.module}"), self.function)
        return main([*argv, *self.added])


COMMANDS = {
    "run": Command("__main__", "main", "profile a model (the default)"),
    "export": Command("export", "main", "split a saved run or trace again"),
    "view": Command("export", "main", "show a run in a browser of this machine", ("--view",)),
    "compare": Command("compare", "main", "hold runs against others, with a verdict"),
    "list": Command("runs", "list_runs", "show the runs of a folder"),
    "rm": Command("runs", "remove_runs", "delete runs and their records"),
}
COMMANDS_HELP = "commands: " + ", ".join(f"{name} ({each.help})" for name, each in COMMANDS.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that argv begins with, or `run`, and returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0].startswith("-"):
        return COMMANDS["run"].main(given)
    word = given.pop(0)
    if word not in COMMANDS:
        return run_command(lambda: _refuse(word))
    return COMMANDS[word].main(given)


def _refuse(word: str) -> NoReturn:
    hint = closest(word, COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
    raise ConfigError(word, "is not a command", hint)


def run() -> NoReturn:
    """The program itself: `main`, and the end of its process."""
    signals.end_at_once()
    code = main()
    # What torch started is ended by Python; all else the system takes back at once.
    if "torch" in sys.modules:
        raise SystemExit(code)
    leave(code)
