"""What is said of a pass, of a part, or of what is odd in it, in a form that a script can check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is said, with what it rests on.

    subject: the phase, the name of a part, or what is odd.
    verdict: see `part_verdicts`, `phase_verdict`, `odd_ones`.
    sentence: empty where nothing is said of what is odd, and `withheld` tells why.
    rests_on: the figures that it follows from; the unit is in each name.
    gain_ns: what could be gained at most; None where nothing is claimed.
    advice: what people usually do about it.
    withheld: why nothing is claimed; else empty.
    """

    subject: str
    verdict: str
    sentence: str
    rests_on: dict[str, float]
    gain_ns: float | None = None
    advice: str = ""
    withheld: str = ""
