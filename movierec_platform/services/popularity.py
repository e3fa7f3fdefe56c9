"""Compute how popular each movie is from the interactions, and keep it in the lake."""

import numpy as np

from movierec_platform.adapters.lake import Lake
from movierec_platform.domain.popularity import READ_COLUMNS, latest_seen_ms, popularity

TABLE = "popularity"


def compute_popularity(lake: Lake, half_life_days: float, prior_ratings: float) -> int:
    """The lake's popularity is that of its interactions and movies; returns how many movies.

    The trend is as of the last time that anybody saw anything, not as of now: doing it again gives the same bytes.
    """
    movie_ids = np.sort(lake.read("movies", columns=["movie_id"])["movie_id"].to_numpy())
    now_ms = latest_seen_ms(lake.batches("interactions", ["seen_at_ms", "retracted_at_ms"]))
    rows = lake.batches("interactions", READ_COLUMNS)
    return lake.write(TABLE, popularity(movie_ids, rows, now_ms, half_life_days, prior_ratings))
