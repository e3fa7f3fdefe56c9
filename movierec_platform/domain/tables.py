"""The lake's tables: what each has in a row, and how that changes from release to release.

A release may add columns, which are nullable, and changes neither the name, type nor meaning of one: what differs in
meaning is another column, or another table. So a table, or a partition of one, that an older release wrote is read with
nulls in the columns that it lacks, and an older release, which a deploy may have at work beside a newer one, reads and
writes the columns that it knows. Partition columns (`date`, `version`) are strings.
"""

import pyarrow as pa

MOVIES = pa.schema(
    [
        pa.field("movie_id", pa.int64(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("year", pa.int32()),
        pa.field("genres", pa.list_(pa.string()), nullable=False),
    ]
)
RATINGS = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("movie_id", pa.int64(), nullable=False),
        pa.field("rating", pa.float64(), nullable=False),
        pa.field("rated_at_ms", pa.int64(), nullable=False),
    ]
)
EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("movie_id", pa.int64(), nullable=False),
        pa.field("rating", pa.float64()),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("recommendation_id", pa.string()),
        pa.field("received_at_ms", pa.int64(), nullable=False),
    ]
)
COMPACTIONS = pa.schema(
    [
        pa.field("label", pa.string(), nullable=False),
        pa.field("objects", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("landed", pa.int64(), nullable=False),
        pa.field("accepted", pa.int64(), nullable=False),
        pa.field("duplicates", pa.int64(), nullable=False),
        pa.field("rejected", pa.map_(pa.string(), pa.int64()), nullable=False),
        pa.field("set_aside", pa.map_(pa.string(), pa.string())),
    ]
)
INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("movie_id", pa.int64(), nullable=False),
        pa.field("rating", pa.float64()),
        pa.field("rated_at_ms", pa.int64()),
        pa.field("event_id", pa.string()),
        pa.field("seen_at_ms", pa.int64()),
        pa.field("retracted_at_ms", pa.int64()),
    ]
)
POPULARITY = pa.schema(
    [
        pa.field("movie_id", pa.int64(), nullable=False),
        pa.field("rating_count", pa.int64(), nullable=False),
        pa.field("rating_mean", pa.float64()),
        pa.field("bayesian_mean", pa.float64()),
        pa.field("seen_count", pa.int64(), nullable=False),
        pa.field("trend", pa.float64(), nullable=False),
    ]
)
SIMILARITY = pa.schema(
    [
        pa.field("version", pa.string()),
        pa.field("source_id", pa.int64()),
        pa.field("target_id", pa.int64()),
        pa.field("score", pa.float64()),
        pa.field("rank", pa.int32()),
        pa.field("support", pa.int64()),
    ]
)
LEARNED = pa.schema(
    [
        pa.field("version", pa.string()),
        pa.field("made_at_ms", pa.int64()),
        pa.field("parameters", pa.string()),
        pa.field("edges", pa.int64()),
        pa.field("movies", pa.int64()),
        pa.field("pairs", pa.int64()),
        pa.field("interactions", pa.int64()),
    ]
)
EVALUATION = pa.schema(
    [
        pa.field("version", pa.string(), nullable=False),
        pa.field("evaluated_at_ms", pa.int64(), nullable=False),
        pa.field("published", pa.string()),
        pa.field("passed", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("users", pa.int64(), nullable=False),
        pa.field("ndcg", pa.float64()),
        pa.field("ndcg_low", pa.float64()),
        pa.field("ndcg_high", pa.float64()),
        pa.field("protocol", pa.string(), nullable=False),
        pa.field("models", pa.string(), nullable=False),
        pa.field("rules", pa.string(), nullable=False),
    ]
)
PUBLICATION = pa.schema(
    [
        pa.field("published_at_ms", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("previous", pa.string()),
        pa.field("why", pa.string(), nullable=False),
        pa.field("number", pa.int64()),  # from 1, in the order of the moves: clocks go back
    ]
)

SCHEMAS = {
    "movies": MOVIES,
    "ratings": RATINGS,
    "events": EVENTS,
    "compactions": COMPACTIONS,
    "interactions": INTERACTIONS,
    "popularity": POPULARITY,
    "similarity": SIMILARITY,
    "similarity_versions": LEARNED,
    "evaluations": EVALUATION,
    "publications": PUBLICATION,
}
"""By the table's name."""
