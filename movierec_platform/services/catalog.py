"""Project the catalogue into the graph: movies with their genres and how they are rated."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake

BATCH_MOVIES = 2_000


def project_catalog(lake: Lake, graph: Graph) -> int:
    """The graph has its constraints and every movie of the lake; returns how many. Doing it again changes nothing."""
    graph.ensure_schema()
    movies = lake.read("movies")
    for rows in catalog_rows(movies, lake.read("popularity")):
        graph.merge_movies(rows)
    return int(movies.num_rows)


def catalog_rows(
    movies: pa.Table, popularity: pa.Table, batch_movies: int = BATCH_MOVIES
) -> Iterator[list[dict[str, Any]]]:
    """The rows of `catalog_table` in batches."""
    for batch in catalog_table(movies, popularity).to_batches(max_chunksize=batch_movies):
        yield batch.to_pylist()


def catalog_table(movies: pa.Table, popularity: pa.Table) -> pa.Table:
    """`id, title, year, genres, rating_count, rating_mean` of each movie, by id.

    Count and mean are those of the popularity, of which a movie may lack its row: nothing rated it, the mean is None.
    """
    popularity = popularity.combine_chunks()
    movies = movies.sort_by("movie_id")
    at = pc.index_in(movies["movie_id"], value_set=popularity["movie_id"])
    return pa.table(
        {
            "id": movies["movie_id"],
            **{name: movies[name] for name in ("title", "year", "genres")},
            "rating_count": pc.fill_null(popularity["rating_count"].take(at), 0),
            "rating_mean": popularity["rating_mean"].take(at),
        }
    )
