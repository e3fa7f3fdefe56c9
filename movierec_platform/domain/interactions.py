"""Interactions in columns: the registers of `domain.registers`, for millions of pairs at once.

A *fact* is a row of the same schema: the registers that one rating or one event alone gives its pair. Folding is a
maximum over a total order (see `domain.registers`), so what was folded can be folded again with more facts.
"""

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.events import RANK_AHEAD_MS
from movierec_platform.domain.registers import BUCKETS, Pair, PairState
from movierec_platform.domain.tables import INTERACTIONS

EVENT_COLUMNS = ("event_id", "event_type", "user_id", "movie_id", "rating", "timestamp_ms", "received_at_ms")
"""What `facts_of_events` reads."""
_PAIR = ("user_id", "movie_id")
_RATING = ("rating", "rated_at_ms", "event_id")
_TIMES = ("rated_at_ms", "seen_at_ms", "retracted_at_ms")
HARDLY_REPEATED = ("rated_at_ms", "event_id", "seen_at_ms")
"""Columns of so many different values that a file is smaller, and written in half the time, without a list of them."""
_NEVER = np.iinfo(np.int64).min

Ints = npt.NDArray[np.int64]


def facts_of_ratings(ratings: pa.RecordBatch) -> pa.RecordBatch:
    """One row per bulk rating (user_id, movie_id, rating, rated_at_ms), schema INTERACTIONS."""
    return pa.record_batch(
        [
            *(ratings[name] for name in (*_PAIR, "rating", "rated_at_ms")),
            imported_rating_ids(ratings),
            ratings["rated_at_ms"],
            pa.nulls(ratings.num_rows, pa.int64()),
        ],
        schema=INTERACTIONS,
    )


def facts_of_events(events: pa.RecordBatch) -> pa.RecordBatch:
    """One row per accepted event (EVENT_COLUMNS), schema INTERACTIONS.

    The times of events that a release accepted which did not rank them yet are ranked here.
    """
    rated = pc.equal(events["event_type"], "rating")
    retracted = pc.equal(events["event_type"], "retract")
    at_ms, never = ranked_times(events), pa.scalar(None, pa.int64())
    return pa.record_batch(
        [
            *(events[name] for name in (*_PAIR, "rating")),
            pc.if_else(rated, at_ms, never),
            pc.if_else(rated, events["event_id"], pa.scalar(None, pa.string())),
            pc.if_else(retracted, never, at_ms),
            pc.if_else(retracted, at_ms, never),
        ],
        schema=INTERACTIONS,
    )


def ranked_times(events: pa.Table | pa.RecordBatch) -> pa.ChunkedArray | pa.Array:
    """The times at which these events (`timestamp_ms`, `received_at_ms`) rank, as `domain.events.ranked` has it."""
    latest_ms = pc.add(events["received_at_ms"], pa.scalar(RANK_AHEAD_MS, pa.int64()))
    return pc.min_element_wise(events["timestamp_ms"], latest_ms)


def imported_rating_ids(ratings: pa.RecordBatch | pa.Table) -> pa.Array | pa.ChunkedArray:
    """The event ids of bulk ratings, `ml-<user_id>-<movie_id>`: importing a rating again is the same event again."""
    user, movie = (pc.cast(ratings[name], pa.string()) for name in _PAIR)
    return pc.binary_join_element_wise("ml", user, movie, "-")


def fold_facts(facts: pa.Table) -> pa.Table:
    """One row per pair of these facts with its registers in normal form, schema INTERACTIONS, by user and movie."""
    facts = facts.combine_chunks()
    user_id, movie_id = (facts[name].to_numpy() for name in _PAIR)
    if np.all((user_id[1:] > user_id[:-1]) | ((user_id[1:] == user_id[:-1]) & (movie_id[1:] > movie_id[:-1]))):
        return facts  # A fact alone is its own fold; so is each MovieLens set, which comes in this order.
    order = _by_pair(user_id, movie_id)
    user_id, movie_id = user_id[order], movie_id[order]
    changes = (user_id[1:] != user_id[:-1]) | (movie_id[1:] != movie_id[:-1])
    first = np.flatnonzero(np.concatenate(([True], changes)))
    times = {name: pc.fill_null(facts[name], _NEVER).to_numpy()[order] for name in _TIMES}
    latest = {name: np.maximum.reduceat(times[name], first) for name in _TIMES}
    # In normal form a rating that a retract hides is no rating. Without any rating this compares _NEVER: it is false.
    shown = latest["rated_at_ms"] > latest["retracted_at_ms"]
    winner = _winning_rows(facts, order, first, times["rated_at_ms"], latest["rated_at_ms"])
    won = pa.array(winner, mask=~shown)
    return pa.table(
        [
            user_id[first],
            movie_id[first],
            *(facts[name].take(won) for name in _RATING),
            *(pa.array(latest[name], mask=latest[name] == _NEVER) for name in ("seen_at_ms", "retracted_at_ms")),
        ],
        schema=INTERACTIONS,
    )


def _by_pair(user_id: Ints, movie_id: Ints) -> Ints:
    """Row numbers by user and movie. Sorting one number that holds both is eight times as fast as sorting by two."""
    movies = int(movie_id.max()) + 1
    if (int(user_id.max()) + 1) * movies < 2**63:
        return np.argsort(user_id * movies + movie_id)
    return np.lexsort((movie_id, user_id))


def _winning_rows(facts: pa.Table, order: Ints, first: Ints, rated_at_ms: Ints, latest_ms: Ints) -> Ints:
    """For each pair the row of facts that has its latest rating; 0 for a pair without one.

    At the same instant the greater event id wins, then the greater rating, as in `domain.registers`: Arrow compares the
    bytes of UTF-8, whose order is Python's order of strings.
    """
    pair = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
    at_latest = np.flatnonzero((rated_at_ms == latest_ms[pair]) & (rated_at_ms != _NEVER))
    pair, rows = pair[at_latest], order[at_latest]
    winner = np.zeros(len(first), np.int64)
    winner[pair] = rows
    tied = np.bincount(pair, minlength=len(first))[pair] > 1
    if tied.any():
        ties = facts.select(["event_id", "rating"]).take(rows[tied])
        ties = ties.append_column("pair", pa.array(pair[tied])).append_column("row", pa.array(rows[tied]))
        ties = ties.sort_by([(name, "ascending") for name in ("pair", "event_id", "rating")])
        winner[ties["pair"].to_numpy()] = ties["row"].to_numpy()  # of values for one place the last stays
    return winner


def in_buckets(rows: pa.RecordBatch, buckets: Collection[int]) -> pa.RecordBatch:
    """The rows of users whose `bucket_of` is among these."""
    return rows.filter(pa.array(np.isin(rows["user_id"].to_numpy() % BUCKETS, list(buckets))))


def visible(interactions: pa.Table | pa.RecordBatch) -> pa.ChunkedArray | pa.Array:
    """For each row, whether the pair counts as seen: seen_at_ms > retracted_at_ms, as PairState.visible."""
    never_retracted = pc.fill_null(interactions["retracted_at_ms"], -1)
    return pc.fill_null(pc.greater(interactions["seen_at_ms"], never_retracted), False)


def pair_states(interactions: pa.Table) -> Iterator[tuple[Pair, PairState]]:
    """The rows of an interactions table as domain values, in its order."""
    for batch in interactions.select(INTERACTIONS.names).to_batches(max_chunksize=65_536):
        for user_id, movie_id, *registers in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield (user_id, movie_id), PairState(*registers)
