"""What of a file's events cannot be used, or only in part: counted, with the first ones by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qwen3_profile.errors import TraceError

# So many are told of by name.
_MOST_TOLD = 2


@dataclass(frozen=True, slots=True)
class Loss:
    """How many events of a file something happened to, and what to the first ones."""

    count: int = 0
    first: tuple[str, ...] = ()

    def and_one(self, what: str) -> Loss:
        first = self.first if len(self.first) == _MOST_TOLD else (*self.first, what)
        return Loss(self.count + 1, first)


@dataclass(frozen=True, slots=True)
class LossCounts:
    """lost: events that are left out. mended: those whose name could not be read as it stands.

    needless: what is odd and needed by nobody.
    """

    lost: Loss = Loss()
    mended: Loss = Loss()
    needless: Loss = Loss()


class Losses:
    """Gathers them.

    Args:
        accept: whether events may be lost or mended.
    """

    def __init__(self, *, accept: bool = False) -> None:
        self.accept = accept
        self.counts = LossCounts()

    def __bool__(self) -> bool:
        return self.counts != LossCounts()

    def lose(self, error: TraceError) -> None:
        """Counts an event that is left out.

        Raises:
            TraceError: `error`, where that is not accepted.
        """
        self._refuse(error)
        self.counts = replace(self.counts, lost=self.counts.lost.and_one(error.what))

    def mend(self, error: TraceError) -> None:
        """Counts an event that is read under a mended name.

        Raises:
            TraceError: `error`, where that is not accepted.
        """
        self._refuse(error)
        self.counts = replace(self.counts, mended=self.counts.mended.and_one(error.what))

    def pass_over(self, what: str) -> None:
        self.counts = replace(self.counts, needless=self.counts.needless.and_one(what))

    def _refuse(self, error: TraceError) -> None:
        if not self.accept:
            raise error
