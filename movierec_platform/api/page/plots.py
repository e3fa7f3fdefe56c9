"""Plots as the coordinates of their marks, which a template draws as <svg>.

There is no style in it: our Content-Security-Policy allows none in place, which is what drawing libraries write.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from movierec_platform.services.versions import Evaluated

WIDTH, HEIGHT = 720.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 48.0, 12.0, 34.0
MOST_LABELS = 4


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across, or a label below."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A value with its interval: x, and y of value, low and high, in the plot's units; y grows downwards."""

    x: float
    y: float
    y_low: float
    y_high: float
    version: str
    value: float
    low: float
    high: float
    passed: bool
    published: bool


@dataclass(frozen=True, slots=True)
class QualityPlot:
    """NDCG@10 of each version with its 95 % interval, the oldest version first."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    marks: Sequence[Mark]
    rows: Sequence[Tick]
    columns: Sequence[Tick]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bucket of a histogram: its place, and its share of the highest."""

    x: float
    width: float
    y: float
    height: float
    label: str
    count: float


@dataclass(frozen=True, slots=True)
class AgesPlot:
    """How many events took how long."""

    width: float
    height: float
    bottom: float
    bars: Sequence[Bar]


def quality_plot(evaluated: Sequence[Evaluated], published: str | None) -> QualityPlot | None:
    """The plot of those that were scored; None where none was."""
    scored = [one for one in evaluated if one.ndcg is not None]
    if not scored:
        return None
    step = _step(max(one.ndcg_high or one.ndcg or 0.0 for one in scored))
    lines = math.floor(max(one.ndcg_high or one.ndcg or 0.0 for one in scored) / step) + 1
    bottom = HEIGHT - BOTTOM

    def y(value: float) -> float:
        return round(bottom - (bottom - TOP) * value / (lines * step), 1)

    room = (WIDTH - LEFT - RIGHT) / len(scored)
    marks = []
    for place, one in enumerate(scored):
        value = one.ndcg or 0.0
        low, high = (value if end is None else end for end in (one.ndcg_low, one.ndcg_high))
        x = round(LEFT + room * (place + 0.5), 1)
        marks.append(
            Mark(x, y(value), y(low), y(high), one.version, value, low, high, one.passed, one.version == published)
        )
    every = math.ceil(len(marks) / MOST_LABELS)
    return QualityPlot(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=bottom,
        marks=marks,
        rows=[Tick(y(step * line), f"{step * line:.{_decimals(step)}f}") for line in range(lines + 1)],
        columns=[Tick(mark.x, _day(mark.version)) for mark in marks[::-1][::every]],
    )


def ages_plot(buckets: Sequence[tuple[float, float]]) -> AgesPlot | None:
    """The plot of (upper bound in s, events in that bucket alone), from the first bucket with events to the last."""
    full = [place for place, (_, count) in enumerate(buckets) if count]
    if not full:
        return None
    shown = buckets[max(0, full[0] - 1) : full[-1] + 2]
    room, bottom = WIDTH / len(shown), HEIGHT - BOTTOM
    highest = max(count for _, count in shown)
    return AgesPlot(
        width=WIDTH,
        height=HEIGHT,
        bottom=bottom,
        bars=[
            Bar(
                x=round(room * place + 3, 1),
                width=round(room - 6, 1),
                y=round(bottom - (bottom - TOP) * count / highest, 1),
                height=round((bottom - TOP) * count / highest, 1),
                label=_seconds(bound),
                count=count,
            )
            for place, (bound, count) in enumerate(shown)
        ],
    )


def _step(highest: float) -> float:
    """1, 2 or 5 times a power of ten, of which the highest value has three to eight."""
    power = 10.0 ** math.floor(math.log10(highest / 3)) if highest > 0 else 0.1
    return next(power * factor for factor in (5, 2, 1) if highest <= 0 or power * factor <= highest / 3)


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step)))


def _day(version: str) -> str:
    """Versions begin with the moment at which they were made."""
    try:
        return datetime.strptime(version[:13], "%Y%m%dT%H%M").strftime("%m-%d %H:%M")  # noqa: DTZ007
    except ValueError:
        return version[:12]


def _seconds(bound: float) -> str:
    if math.isinf(bound):
        return "> 5 min"
    return f"{bound * 1000:g} ms" if bound < 1 else f"{bound:g} s"
