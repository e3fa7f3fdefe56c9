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

ROWS = {
    "movies": "a movie of the loaded set",
    "ratings": "a rating of the loaded set",
    "events": "an accepted event of a known movie; partitioned by `date`, the day it was received (UTC)",
    "compactions": "a compacted day with its counts",
    "interactions": "a (user, movie) pair with its three registers, folded from the ratings and all events",
    "popularity": "a movie with what its viewers say of it",
    "similarity": "a directed edge between two movies, of one version of the similarity",
    "similarity_versions": "a version of the similarity and how it was learned",
    "evaluations": "a test of a version, with the verdict that decides whether it may be published",
    "publications": "a moment at which readers were given a version",
}
"""What a row is, by the table's name."""

COLUMNS = {
    "movie_id": "the movie",
    "user_id": "the user",
    "title": "title without the year",
    "year": "year of release",
    "genres": "genres in the order of the source",
    "rating": "0.5 to 5.0 in steps of 0.5; null for a pair that was seen and not rated",
    "rated_at_ms": "when the rating was given",
    "event_id": "id of the event; in `interactions`, of the one that gave the rating",
    "event_type": "rating, view or retract",
    "timestamp_ms": "when it happened, as the client says",
    "session_id": "the client's session",
    "recommendation_id": "the answer that led to it, as the client says",
    "received_at_ms": "when the platform received it",
    "label": "the day, with the digest of the raw objects that it was made from",
    "objects": "raw objects read",
    "bytes": "their size, compressed",
    "landed": "events in them",
    "accepted": "events that the gate accepts",
    "duplicates": "events left out because an equal one is kept",
    "rejected": "events refused, by reason code",
    "set_aside": "raw objects, or lines of them, that could not be read",
    "seen_at_ms": "latest time the pair was seen or rated",
    "retracted_at_ms": "latest time the pair was retracted; the pair is visible if it was seen later",
    "rating_count": "number of ratings",
    "rating_mean": "their mean",
    "bayesian_mean": "their mean with `MOVIEREC_RATING_PRIOR_WEIGHT` average ratings added",
    "seen_count": "users who saw it",
    "trend": "views, each halved every `MOVIEREC_TREND_HALF_LIFE_DAYS`",
    "version": "version of the similarity: when it was made, and a digest",
    "source_id": "a movie that a user has seen",
    "target_id": "the movie that it leads to",
    "score": "weight of the edge",
    "rank": "position among the edges into the target, 1 for the strongest",
    "support": "users who saw both movies",
    "made_at_ms": "when it was learned",
    "parameters": "method and parameters",
    "edges": "number of edges",
    "movies": "movies that have an edge",
    "pairs": "(user, movie) pairs it was learned from",
    "interactions": "version of the table `interactions` that held them",
    "evaluated_at_ms": "when the test was made",
    "published": "the version that readers had then, which it was compared with",
    "passed": "whether it may be published",
    "reason": "why, or why not",
    "users": "users in the test",
    "ndcg": "NDCG@10 of the version's parameters on the test",
    "ndcg_low": "lower end of its 95 % interval",
    "ndcg_high": "upper end of its 95 % interval",
    "protocol": "how the test was split",
    "models": "every metric of every model, as JSON",
    "rules": "what each rule of the verdict found, as JSON",
    "published_at_ms": "when readers were given it",
    "previous": "the version that readers had before",
    "why": "what published it",
    "number": "publications before it",
}
"""What a column means; one name means the same in every table."""
