"""Freshness quantiles out of counters."""

from collections import Counter

import pytest

from movierec_platform.domain.freshness import BOUNDS_S, CounterKey, bucket_counts, observe, quantile


def seen(*seconds: float) -> Counter[CounterKey]:
    return sum((observe(one, 1) for one in seconds), Counter())


def test_observations_land_in_the_bucket_that_bounds_them() -> None:
    counts = dict(bucket_counts(seen(0.005, 0.01, 0.011, 1000.0, -3.0)))
    assert (counts[0.01], counts[0.02], counts[float("inf")]) == (3, 1, 1)


def test_the_sum_is_kept_for_the_mean() -> None:
    assert observe(0.25, 3)["movierec_freshness_seconds_sum", ()] == pytest.approx(0.75)


def test_quantiles_are_linear_within_their_bucket() -> None:
    buckets = bucket_counts(observe(0.04, 50) + observe(0.18, 50))
    assert quantile(buckets, 0.5) == pytest.approx(0.05)
    assert quantile(buckets, 0.75) == pytest.approx(0.175)


def test_without_observations_there_is_no_quantile() -> None:
    assert quantile(bucket_counts({}), 0.5) is None


def test_beyond_the_last_bound_the_quantile_is_that_bound() -> None:
    assert quantile(bucket_counts(observe(1e6, 1)), 0.5) == BOUNDS_S[-1]
