"""Pairs and their registers as columns, and row by row."""

from collections.abc import Iterator

import pyarrow as pa

from movierec_platform.domain.registers import Pair, PairState

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


def pair_states(interactions: pa.Table) -> Iterator[tuple[Pair, PairState]]:
    """The rows of an interactions table as domain values, in its order."""
    for batch in interactions.select(INTERACTIONS.names).to_batches(max_chunksize=65_536):
        for user_id, movie_id, *registers in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield (user_id, movie_id), PairState(*registers)
