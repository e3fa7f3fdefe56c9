"""The last rating of a pair is found whatever the order, the ids and the size of the batches."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain import repeats
from movierec_platform.domain.repeats import PairKeys, pair_keys, superseded
from movierec_platform.domain.tables import RATINGS

Row = tuple[int, int, float, int]
INT64_MAX = 2**63 - 1

ids = st.integers(1, 4) | st.integers(INT64_MAX - 2, INT64_MAX) | st.sampled_from([2**32, 2**32 + 1])
rows = st.lists(st.tuples(ids, ids, st.sampled_from([0.5, 3.0, 5.0]), st.integers(1, 3)), max_size=60)


def batches_of(given_rows: Sequence[Row], size: int) -> list[pa.RecordBatch]:
    columns = [list(column) for column in zip(*given_rows, strict=True)] or [[], [], [], []]
    return list(pa.table(columns, schema=RATINGS).to_batches(max_chunksize=size))


def lost_rows(given_rows: Sequence[Row], size: int, keys_at_once: int = 2, rows_held: int = 3) -> list[int]:
    batches = batches_of(given_rows, size)
    keys = PairKeys()
    for batch in batches:
        keys.add(batch)
    lost = superseded(partial(iter, batches), keys.repeated(), len(given_rows), keys_at_once, rows_held)
    return list(np.flatnonzero(lost))


@given(rows, st.integers(1, 9), st.integers(1, 5), st.integers(0, 9))
def test_all_but_the_row_that_counts_are_superseded(
    given_rows: list[Row], size: int, keys_at_once: int, rows_held: int
) -> None:
    counts: dict[tuple[int, int], tuple[int, float, int]] = {}
    for position, (user, movie, rating, rated_at_ms) in enumerate(given_rows):
        mine = (rated_at_ms, rating, position)
        counts[user, movie] = max(counts.get((user, movie), mine), mine)
    kept = {position for _, _, position in counts.values()}
    assert lost_rows(given_rows, size, keys_at_once, rows_held) == [
        at for at in range(len(given_rows)) if at not in kept
    ]


def test_different_pairs_of_one_key_are_told_apart() -> None:
    user, movie = int(repeats._USER), int(repeats._MOVIE)
    back = pow(movie, -1, 2**64)
    other = next(
        (one, meets)
        for one in range(2, 100)
        if 0 < (meets := (7 * movie ^ 1 * user ^ one * user) % 2**64 * back % 2**64) <= INT64_MAX
    )
    met: list[Row] = [(1, 7, 3.0, 5), (*other, 4.0, 6), (1, 8, 3.0, 5), (*other, 4.0, 7)]
    first, second, third, _ = (int(key) for key in pair_keys(batches_of(met, 9)[0]))
    assert first == second != third
    assert lost_rows(met, 9) == [1]


def test_small_ids_have_keys_of_their_own() -> None:
    users, movies = (one.ravel() for one in np.meshgrid(np.arange(1, 1_001), np.arange(1, 301)))
    columns = [users, movies, np.ones(len(users)), np.ones(len(users), np.int64)]
    keys = pair_keys(pa.table(columns, schema=RATINGS).to_batches()[0])
    assert len(np.unique(keys)) == len(keys)
