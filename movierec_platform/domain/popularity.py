"""How popular each movie is, from the interactions."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.interactions import visible
from movierec_platform.domain.tables import POPULARITY

READ_COLUMNS = ("movie_id", "rating", "seen_at_ms", "retracted_at_ms")
"""What is read of the interactions."""
DAY_MS = 24 * 60 * 60 * 1000


def latest_seen_ms(interactions: Iterable[pa.RecordBatch]) -> int:
    """When a visible pair was last seen (epoch ms); 0 if there is none."""
    latest = (pc.max(batch["seen_at_ms"].filter(visible(batch))).as_py() for batch in interactions)
    return max((at_ms for at_ms in latest if at_ms is not None), default=0)


def popularity(
    movie_ids: npt.NDArray[np.int64],
    interactions: Iterable[pa.RecordBatch],
    now_ms: int,
    half_life_days: float,
    prior_ratings: float,
) -> pa.Table:
    """One row for each of these ids, shape (movies,), ascending, each once; schema POPULARITY.

    Interactions (READ_COLUMNS, in normal form) of other movies are left out. With the visible ratings r of a movie:

    - rating_count n, rating_mean (null without any);
    - bayesian_mean (prior_ratings * C + sum r) / (prior_ratings + n), where C is the mean of all visible ratings: the
      mean after `prior_ratings` imagined average ratings, so that one 5 does not beat a hundred 4.5. It is the weighted
      rating of IMDb's Top 250 list, v / (v + m) R + m / (v + m) C. Null if nothing is rated at all;
    - seen_count: visible pairs; trend: their sum of 2 ** (-(now_ms - seen_at_ms) / half-life).

    The same rows in the same order give the same bits, however they are cut into batches.
    """
    rating_count, seen_count = np.zeros((2, len(movie_ids)), np.int64)
    rating_sum, trend = np.zeros((2, len(movie_ids)))
    for batch in interactions:
        seen = batch.filter(visible(batch))
        movie, known = _positions(movie_ids, seen["movie_id"].to_numpy())
        rating = seen["rating"].to_numpy(zero_copy_only=False)[known]
        age_ms = now_ms - seen["seen_at_ms"].to_numpy()[known]
        rated = ~np.isnan(rating)
        np.add.at(rating_count, movie[rated], 1)
        np.add.at(rating_sum, movie[rated], rating[rated])
        np.add.at(seen_count, movie, 1)
        # One addition a row in the order of the rows: sums of sums would depend on where a batch ends.
        np.add.at(trend, movie, np.exp2(age_ms / (-half_life_days * DAY_MS)))
    ratings = int(rating_count.sum())
    global_mean = rating_sum.sum() / ratings if ratings else 0.0
    weight = prior_ratings + rating_count
    unrated = rating_count == 0
    return pa.table(
        [
            movie_ids,
            rating_count,
            pa.array(rating_sum / np.maximum(rating_count, 1), mask=unrated),
            pa.array((prior_ratings * global_mean + rating_sum) / weight, mask=np.full(len(movie_ids), ratings == 0)),
            seen_count,
            trend,
        ],
        schema=POPULARITY,
    )


def _positions(
    movie_ids: npt.NDArray[np.int64], found: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where the known ones of `found` stand in `movie_ids`, and which of them are known."""
    if len(movie_ids) == 0:
        return np.zeros(0, np.int64), np.zeros(len(found), np.bool_)
    at = np.minimum(np.searchsorted(movie_ids, found), len(movie_ids) - 1)
    known = movie_ids[at] == found
    return at[known], known
