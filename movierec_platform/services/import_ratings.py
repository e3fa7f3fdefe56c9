"""Import the lake's bulk ratings into the graph, whole users at a time."""

from collections.abc import Callable, Iterator

import pyarrow as pa

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.domain.interactions import imported_rating_ids
from movierec_platform.domain.registers import Pair, PairState
from movierec_platform.errors import CheckFailed

BATCH_PAIRS = 5_000


def import_ratings(
    lake: Lake, graph: Graph, progress: Callable[[int, int], None], batch_pairs: int = BATCH_PAIRS
) -> int:
    """Every bulk rating is merged into the graph; returns how many. Importing again changes nothing.

    By merging, and not by the way of a rebuild: the ingest may write the same users meanwhile. `progress(done, total)`
    is called after each transaction. Raises CheckFailed if the graph lacks rated movies.
    """
    ratings = lake.read("ratings")
    done = 0
    for batch in user_batches(ratings, batch_pairs):
        unknown = graph.load_users(batch)
        if unknown:
            raise CheckFailed(f"the graph lacks {len(unknown)} rated movies, such as {min(unknown)}: run catalog_graph")
        done += len(batch)
        progress(done, ratings.num_rows)
    return done


def user_batches(ratings: pa.Table, batch_pairs: int) -> Iterator[dict[Pair, PairState]]:
    """The registers of all ratings by user id; a batch holds whole users, and ends with the one that fills it."""
    with_ids = ratings.append_column("event_id", imported_rating_ids(ratings))
    in_order = with_ids.sort_by([("user_id", "ascending"), ("movie_id", "ascending")])
    pairs: dict[Pair, PairState] = {}
    last_user = None
    for rows in in_order.to_batches(max_chunksize=65_536):
        columns = (rows[name].to_pylist() for name in ("user_id", "movie_id", "rating", "rated_at_ms", "event_id"))
        for user_id, movie_id, rating, rated_at_ms, event_id in zip(*columns, strict=True):
            if user_id != last_user and len(pairs) >= batch_pairs:
                yield pairs
                pairs = {}
            last_user = user_id
            pairs[user_id, movie_id] = PairState(rating, rated_at_ms, event_id, seen_at_ms=rated_at_ms)
    if pairs:
        yield pairs
