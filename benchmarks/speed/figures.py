"""Medians, spreads and percentiles. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several rounds: its median, and the least and the greatest."""

    median: float
    least: float
    greatest: float

    def text(self, digits: int = 2) -> str:
        """`4,700 (4,500 to 4,900)`."""
        shown = [f"{value:,.{digits}f}" for value in (self.median, self.least, self.greatest)]
        return shown[0] if len({*shown}) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def ratios(of: Sequence[float], to: Sequence[float]) -> Spread:
    """Round by round, since what else the machine does changes between rounds more than within one."""
    return spread([one / other for one, other in zip(of, to, strict=True)])


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed (nearest rank)."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]
