"""Durations as Prometheus histograms in counters. Freshness: from receiving an event to committing it in the graph."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from math import inf

NAME = "movierec_freshness_seconds"
GATE = "movierec_gate_seconds"
"""From receiving an event to its verdict being in a queue."""
COMPACTION = "movierec_compaction_seconds"
"""A run that compacts, whatever the number of its days."""
DURATIONS = (NAME, GATE, COMPACTION)
BOUNDS_S = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 30, 60, 300)
"""Upper bounds of the buckets; a last one has no bound."""

Labels = tuple[tuple[str, str], ...]
CounterKey = tuple[str, Labels]
"""(metric name, its labels in order)"""


def observe(seconds: float, events: int, name: str = NAME) -> Counter[CounterKey]:
    """What to add to the counters for so many events of this age; a clock that went back counts as 0 s.

    Buckets are stored apart, not cumulated as Prometheus shows them.
    """
    at_least_zero = max(seconds, 0.0)
    counts = Counter({_bucket(name, bisect_left(BOUNDS_S, at_least_zero)): events})
    counts[name + "_sum", ()] = events * at_least_zero  # type: ignore[assignment]  # a float sum beside the counts
    return counts


def bucket_counts(counters: Mapping[CounterKey, float], name: str = NAME) -> list[tuple[float, float]]:
    """(upper bound in s, observations in that bucket alone), the last bound infinite."""
    return [(bound, counters.get(_bucket(name, index), 0.0)) for index, bound in enumerate((*BOUNDS_S, inf))]


def quantile(buckets: Iterable[tuple[float, float]], q: float) -> float | None:
    """The q-quantile in seconds, linear within its bucket as Prometheus' histogram_quantile; None without observations.

    In the unbounded bucket it is that bucket's lower bound.
    """
    counted = list(buckets)
    rank = q * sum(count for _, count in counted)
    if rank == 0:
        return None
    below, lower = 0.0, 0.0
    for upper, count in counted:
        if count and below + count >= rank:
            return lower if upper == inf else lower + (upper - lower) * (rank - below) / count
        below, lower = below + count, upper
    return lower


@cache
def _bucket(name: str, index: int) -> CounterKey:
    bound = "+Inf" if index == len(BOUNDS_S) else f"{BOUNDS_S[index]:g}"
    return name + "_bucket", (("le", bound),)
