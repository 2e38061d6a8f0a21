"""Student's t distribution, without scipy: exporting needs numpy alone, and starts in no time."""

from __future__ import annotations

from math import atan, cos, pi, sin, sqrt


def two_sided(t: float, degrees: int) -> float:
    """How likely Student's t lies as far from 0, on either side.

    The finite sums for whole degrees of freedom: Abramowitz and Stegun, 26.7.3 and 26.7.4. Their
    difference from 1 leaves 15 digits behind the point, which is far below any rate that is asked
    for.

    Args:
        degrees: of freedom; 1 at least.
    """
    angle = atan(abs(t) / sqrt(degrees))
    square = cos(angle) ** 2
    term = cos(angle) if degrees % 2 else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(degrees % 2 + 2, degrees, 2):
        term *= square * (k - 1) / k
        total += term
    inside = sin(angle) * total
    if degrees % 2:
        inside = 2 / pi * (angle + inside)
    return max(0.0, 1.0 - inside)
