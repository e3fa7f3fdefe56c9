"""The columns of popularity equal what a plain loop over the pairs counts."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.popularity import DAY_MS, READ_COLUMNS, latest_seen_ms, popularity
from movierec_platform.domain.tables import POPULARITY

START_MS = 1_600_000_000_000
SCHEMA = pa.schema(
    [("movie_id", pa.int64()), ("rating", pa.float64()), ("seen_at_ms", pa.int64()), ("retracted_at_ms", pa.int64())]
)
Row = tuple[int, float | None, int | None, int | None]

times_ms = st.none() | st.integers(0, 400).map(lambda days: START_MS + days * DAY_MS // 7)
rows_given = st.lists(
    st.tuples(st.integers(1, 6), st.none() | st.integers(1, 10).map(lambda d: d / 2), times_ms, times_ms).map(
        # In normal form: a rating makes the movie seen, and no retract hides it.
        lambda row: row if row[1] is None or (row[2] or 0) > (row[3] or 0) else (row[0], None, *row[2:])
    ),
    max_size=30,
)


def batches(rows: list[Row], size: int = 100) -> list[pa.RecordBatch]:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in READ_COLUMNS]
    return pa.table(columns, schema=SCHEMA).to_batches(max_chunksize=size)


def columns(rows: list[Row], movie_ids: list[int], size: int = 100, prior: float = 4.0) -> pa.Table:
    now_ms = latest_seen_ms(batches(rows, size))
    return popularity(np.array(movie_ids, np.int64), batches(rows, size), now_ms, 30.0, prior)


@given(rows=rows_given, movie_ids=st.sets(st.integers(1, 6)).map(sorted))
def test_it_is_what_a_plain_loop_counts(rows: list[Row], movie_ids: list[int]) -> None:
    seen = [row for row in rows if row[2] is not None and (row[3] is None or row[2] > row[3])]
    now_ms = max((at_ms for _, _, at_ms, _ in seen), default=0)
    ratings: dict[int, list[float]] = defaultdict(list)
    trend: dict[int, list[float]] = defaultdict(list)
    for movie_id, rating, at_ms, _ in seen:
        trend[movie_id].append(0.5 ** ((now_ms - (at_ms or 0)) / (30 * DAY_MS)))
        if rating is not None:
            ratings[movie_id].append(rating)
    given_ratings = [rating for movie_id in movie_ids for rating in ratings[movie_id]]
    mean = sum(given_ratings) / len(given_ratings) if given_ratings else None
    table = columns(rows, movie_ids)
    assert table.schema.equals(POPULARITY)
    assert [row["movie_id"] for row in table.to_pylist()] == movie_ids
    for row in table.to_pylist():
        own = ratings[row["movie_id"]]
        assert (row["rating_count"], row["seen_count"]) == (len(own), len(trend[row["movie_id"]]))
        assert row["rating_mean"] == (sum(own) / len(own) if own else None)
        assert row["bayesian_mean"] == (None if mean is None else pytest.approx((4 * mean + sum(own)) / (4 + len(own))))
        assert row["trend"] == pytest.approx(sum(trend[row["movie_id"]]))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_how_it_is_cut_into_batches_changes_no_bit(size: int) -> None:
    rows: list[Row] = [(number % 3, 3.5, START_MS + number * 7_919_000, None) for number in range(300)]
    assert columns(rows, [0, 1, 2], size).equals(columns(rows, [0, 1, 2]))


def test_one_best_rating_does_not_beat_many_good_ones() -> None:
    rows: list[Row] = [(1, 5.0, START_MS, None), *[(2, 4.5, START_MS, None)] * 20, *[(3, 2.0, START_MS, None)] * 20]
    one, many, bad = columns(rows, [1, 2, 3])["bayesian_mean"].to_pylist()
    assert bad < one < many


def test_a_view_counts_half_after_a_half_life_and_a_quarter_after_two() -> None:
    rows: list[Row] = [(movie, None, START_MS - movie * 30 * DAY_MS, None) for movie in range(3)]
    assert columns(rows, [0, 1, 2])["trend"].to_pylist() == [1.0, 0.5, 0.25]
