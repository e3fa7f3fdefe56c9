"""Project the catalogue into the graph: movies with their genres and how they are rated."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake

BATCH_MOVIES = 2_000
_PART = pa.schema({"movie_id": pa.int64(), "pairs": pa.int64(), "rating_count": pa.int64(), "rating_sum": pa.float64()})


def project_catalog(lake: Lake, graph: Graph) -> int:
    """The graph has its constraints and every movie of the lake; returns how many. Doing it again changes nothing."""
    graph.ensure_schema()
    movies = lake.read("movies")
    rated = ratings_by_movie(lake.batches("interactions", columns=["movie_id", "rating"]))
    for rows in catalog_rows(movies, rated):
        graph.merge_movies(rows)
    return int(movies.num_rows)


def ratings_by_movie(interactions: Iterable[pa.RecordBatch]) -> pa.Table:
    """`movie_id, pairs, rating_count, rating_mean` of every movie in these interactions, which are read one by one.

    Count and mean are over visible ratings (interactions in normal form keep no others); the mean of none is None.
    """
    parts = [_PART.empty_table()]
    for batch in interactions:
        rows = pa.Table.from_batches([batch]).group_by("movie_id")
        part = rows.aggregate([([], "count_all"), ("rating", "count"), ("rating", "sum")])
        parts.append(part.select(["movie_id", "count_all", "rating_count", "rating_sum"]).rename_columns(_PART.names))
    whole = pa.concat_tables(part.cast(_PART) for part in parts).group_by("movie_id")
    summed = whole.aggregate([(name, "sum") for name in _PART.names[1:]])
    movie_id, pairs, count, total = (summed[name] for name in ("movie_id", *(f"{one}_sum" for one in _PART.names[1:])))
    # Sums of half stars are exact, so that it does not matter how the rows were split.
    mean = pc.if_else(pc.greater(count, 0), pc.divide(total, pc.cast(count, pa.float64())), None)
    return pa.table({"movie_id": movie_id, "pairs": pairs, "rating_count": count, "rating_mean": mean})


def catalog_rows(movies: pa.Table, rated: pa.Table, batch_movies: int = BATCH_MOVIES) -> Iterator[list[dict[str, Any]]]:
    """The rows of `catalog_table` in batches."""
    for batch in catalog_table(movies, rated).to_batches(max_chunksize=batch_movies):
        yield batch.to_pylist()


def catalog_table(movies: pa.Table, rated: pa.Table) -> pa.Table:
    """`id, title, year, genres, rating_count, rating_mean` of each movie by id; `rated` is of `ratings_by_movie`."""
    rated = rated.combine_chunks()
    movies = movies.sort_by("movie_id")
    at = pc.index_in(movies["movie_id"], value_set=rated["movie_id"])
    return pa.table(
        {
            "id": movies["movie_id"],
            **{name: movies[name] for name in ("title", "year", "genres")},
            "rating_count": pc.fill_null(rated["rating_count"].take(at), 0),
            "rating_mean": rated["rating_mean"].take(at),
        }
    )
