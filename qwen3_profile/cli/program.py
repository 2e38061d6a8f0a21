"""`qwen3-profile COMMAND ...`: one program for all commands; without one it runs a model.

Only the module of the command that is asked for is imported: an export starts without torch, and
a run without what others need.
"""

from __future__ import annotations

import argparse
import atexit
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from qwen3_profile.cli.console import leave, run_command, show
from qwen3_profile.errors import EXIT_OK, ConfigError, closest
from qwen3_profile.system import signals
from qwen3_profile.system.launched import is_first
from qwen3_profile.words import use_language_of

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the program, and what it does in a line.

    place, parser: its function, and the one that builds its parser, as `module:function`.
    """

    place: str
    parser: str
    help: str

    def main(self, argv: Sequence[str]) -> int:
        main: Main = _find(self.place)
        return main(argv)

    def build_parser(self) -> argparse.ArgumentParser:
        found: argparse.ArgumentParser = _find(self.parser)()
        return found


def _find(place: str) -> Any:
    module, _, function = place.partition(":")
    return getattr(import_module(f"qwen3_profile.{module}"), function)


COMMANDS = {
    "run": Command("__main__:main", "cli.run_flags:build_parser", "profile a model (the default)"),
    "export": Command(
        "export:main", "cli.export_options:build_parser", "split a saved run or trace again"
    ),
    "view": Command(
        "export:view",
        "cli.export_options:build_view_parser",
        "show a run in a browser of this machine",
    ),
    "compare": Command(
        "compare:main",
        "cli.compare_options:build_parser",
        "compare runs with others, with a verdict",
    ),
    "list": Command(
        "cli.runs:list_runs", "cli.runs_options:build_list_parser", "show the runs of a folder"
    ),
    "rm": Command(
        "cli.runs:remove_runs",
        "cli.runs_options:build_remove_parser",
        "delete runs and their records",
    ),
}
COMMANDS_HELP = "commands: " + ", ".join(f"{name} ({each.help})" for name, each in COMMANDS.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that argv begins with, or `run`, and returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["--print-completion"]:
        return run_command(lambda: _print_completion(given[1:]))
    if not given or given[0].startswith("-"):
        return COMMANDS["run"].main(given)
    word = given.pop(0)
    if word not in COMMANDS:
        return run_command(lambda: _refuse(word, given))
    return COMMANDS[word].main(given)


def _print_completion(words: Sequence[str]) -> int:
    """Prints what makes a shell complete the commands and their flags."""
    import shtab  # only this needs it

    shell = words[0] if words else "none"
    if shell not in shtab.SUPPORTED_SHELLS:
        do = f"give one of {', '.join(shtab.SUPPORTED_SHELLS)}"
        raise ConfigError("--print-completion", f"{shell} is not a known shell", do)
    every = {name: command.build_parser() for name, command in COMMANDS.items()}
    for action in (action for each in every.values() for action in each._actions):
        if action.type is Path or action.metavar in ("PATH", "RUN", "FILE", "DIR"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    # Without a command it is `run`.
    parser = argparse.ArgumentParser(
        prog="qwen3-profile", parents=[every["run"]], conflict_handler="resolve"
    )
    commands = parser.add_subparsers(parser_class=argparse.ArgumentParser)
    for name, mine in every.items():
        commands.add_parser(
            name, parents=[mine], help=COMMANDS[name].help, conflict_handler="resolve"
        )
    show(shtab.complete(parser, shell))
    return EXIT_OK


def _refuse(word: str, rest: Sequence[str]) -> NoReturn:
    use_language_of(rest)
    hint = closest(word, COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
    if Path(word).exists():
        hint = f"did you mean qwen3-profile export {word}?"
    raise ConfigError(word, "is not a command", hint)


def run(command: str = "") -> NoReturn:
    """The program itself: `main`, and the end of its process.

    Args:
        command: what a program of its own does; empty where argv says it.
    """
    signals.end_at_once(tells=is_first())
    codes: list[int] = []
    # Registered first and so called last, when what torch and others started has been ended: for
    # Python to take torch's modules down one by one takes a second.
    atexit.register(lambda: leave(*codes) if codes else None)
    code = COMMANDS[command].main(sys.argv[1:]) if command else main()
    signals.end_with(code)
    # The processes of mpi4py end together, in Python's own way, or mpiexec takes it for a crash.
    if "mpi4py" not in sys.modules:
        if "torch" not in sys.modules:
            leave(code)
        codes.append(code)
    raise SystemExit(code)
