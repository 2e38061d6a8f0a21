"""How each program begins: no moment of it answers Ctrl-C with a traceback.

Nothing is imported here that takes time: until these functions run, what a signal does is Python's.
"""

from __future__ import annotations

# Part of every interpreter; `signal` takes longer to import than all else here.
import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> NoReturn:
    """`qwen3-profile`, and `python -m qwen3_profile`."""
    _end_silently()
    from qwen3_profile.cli import program

    program.run()


def export() -> NoReturn:
    """`qwen3-profile-export`, and `python -m qwen3_profile.export`."""
    _end_silently()
    from qwen3_profile.cli import program

    program.run("export")


def compare() -> NoReturn:
    """`python -m qwen3_profile.compare`."""
    _end_silently()
    from qwen3_profile.cli import program

    program.run("compare")


def _end_silently() -> None:
    """Lets Ctrl-C end the process as SIGTERM does, until there is code that tells of it."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
