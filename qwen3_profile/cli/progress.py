"""What a run is doing, over all of its work: a bar on a terminal, else a plain line now and then.

Nothing is drawn between two steps, so that no thread of ours runs beside what is measured.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from qwen3_profile.errors import VERBOSITY, tell
from qwen3_profile.views.terminal.screen import screen_of
from qwen3_profile.words import said

if TYPE_CHECKING:
    from tqdm import tqdm

# So long nothing is told where there is no bar, nor of a short run how long it may take.
_QUIET_SECONDS = 20.0
_LONG_SECONDS = 30.0
WARM_UP = "warm-up"


class Progress:
    """The steps of a run. Each is told when it begins.

    total: how many there are, once it is known.
    """

    def __init__(self) -> None:
        self.total = 0
        self._begun = 0
        self._started_s = self._told_s = self._step_s = time.monotonic()
        self._what = ""
        self._estimated = False
        self._bar: tqdm[None] | None = None
        if VERBOSITY.get() == 0 and sys.stderr is not None and sys.stderr.isatty():
            self._bar = _new_bar()

    def step(self, what: str) -> None:
        """Ends the step before, and begins one."""
        now_s = time.monotonic()
        self._estimate(now_s - self._step_s)
        self._begun += 1
        self._what, self._step_s = what, now_s
        if self._bar is not None:
            self._bar.total = self.total or self._begun + 1
            self._bar.n = self._begun
            self._bar.set_description_str(said(what))
        elif VERBOSITY.get() > 0 or self._is_silent(now_s):
            self._tell(what, now_s)

    def pause(self) -> None:
        """Takes the bar away, for what is printed; the next step draws it again."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        if VERBOSITY.get() > 0:
            self._tell("done", time.monotonic())
        if self._bar is not None:
            self._bar.close()

    def _is_silent(self, now_s: float) -> bool:
        return VERBOSITY.get() == 0 and now_s - self._told_s > _QUIET_SECONDS

    def _tell(self, what: str, now_s: float) -> None:
        self._told_s = now_s
        of = said(f"step {self._begun} of {self.total}: ") if self.total else ""
        tell(f"[{now_s - self._started_s:6.1f} s] {of}{said(what)}")

    def _estimate(self, seconds: float) -> None:
        """Tells after the first warm-up how long the rest may take, if that is long.

        No more than a pace: the first pass of all makes what the others find made, and configs
        differ in size.
        """
        if self._estimated or not self._what.endswith(WARM_UP) or VERBOSITY.get() < 0:
            return
        self._estimated = True
        rest_s = seconds * (self.total - self._begun)
        if rest_s > _LONG_SECONDS:
            self.pause()
            tell(
                f"a warm-up pass took {seconds:.1f} s: at this pace {_duration(rest_s)} to go; "
                "--num-runs 1, --num-layers 2 or a smaller --input-len make it shorter"
            )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _new_bar() -> tqdm[None]:
    from tqdm import tqdm  # only where there is a terminal

    form = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}]"
    # By itself it draws nothing on a terminal that does not know its size, as in a container.
    width = screen_of(sys.stderr).width - 1
    return tqdm(
        total=1, leave=False, bar_format=form, ncols=width, nrows=9, mininterval=0, file=sys.stderr
    )
