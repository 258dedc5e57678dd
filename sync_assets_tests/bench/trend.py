"""Does a series grow? The slope of a straight line through it, with its bound. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

Verdict = Literal["does not grow", "grows", "undecided"]
FEW = 5


class Trend(NamedTuple):
    """Change of y for each unit of x; with 95 % confidence it lies within `bound` of `slope`.

    The bound takes the points as independent of each other. Those of a series of memory are not, so that a step (a
    cache that fills, an arena more) can look like growth in a short time.
    """

    slope: float
    bound: float

    def verdict(self, most: float) -> Verdict:
        """most: the slope up to which the series counts as level."""
        if self.slope - self.bound > most:
            return "grows"
        return "does not grow" if self.slope + self.bound <= most else "undecided"


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Return the trend of (x, y). With fewer than FEW points nothing is known: the bound is infinite."""
    if len(points) < FEW:
        return Trend(0.0, math.inf)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    slope, intercept = statistics.linear_regression(xs, ys)
    freedom, middle = len(points) - 2, statistics.fmean(xs)
    rest = sum((y - slope * x - intercept) ** 2 for x, y in points)
    error = math.sqrt(rest / freedom / sum((x - middle) ** 2 for x in xs))
    return Trend(slope, (1.96 + 2.8 / freedom) * error)  # Student's t within a tenth from 3 degrees of freedom on


def second_half(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return the points of the second half: what fills at the start is full by then, if it is bounded."""
    return points[len(points) // 2 :]
