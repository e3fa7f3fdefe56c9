"""The fold of columns equals the fold of the domain, event by event, in memory and through files."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.events import RANK_AHEAD_MS, Event, ranked
from movierec_platform.domain.interactions import (
    EVENT_COLUMNS,
    facts_of_events,
    facts_of_ratings,
    in_buckets,
    pair_states,
)
from movierec_platform.domain.registers import PairState, bucket_of, fold
from movierec_platform.domain.tables import INTERACTIONS, RATINGS
from movierec_platform.services.fold import fold_batches

START_MS = 1_600_000_000_000
FARTHEST_ID = 2**63 - 1
BulkRating = tuple[int, int, float, int]
EVENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("event_type", pa.string()),
        *((n, pa.int64()) for n in ("user_id", "movie_id")),
        ("rating", pa.float64()),
        ("timestamp_ms", pa.int64()),
        ("received_at_ms", pa.int64()),
    ]
)
LATEST_MS = START_MS + 2
"""Events that claim a later time rank here, as the release before kept them: with the time that they claim."""

halves = st.integers(1, 10).map(lambda doubled: doubled / 2)
times_ms = st.integers(START_MS, START_MS + 4)
users = st.sampled_from([1, 2, 3, 257, FARTHEST_ID])
movies = st.sampled_from([1, 2, 3, FARTHEST_ID])
ids = st.sampled_from(["a", "b", "ml-1-1", "\u00e9", "\uffff", "\U0001f3ac"])
bulk = st.lists(st.tuples(users, movies, halves, times_ms), max_size=12)
unrated = st.builds(Event, ids, st.sampled_from(["view", "retract"]), users, movies, st.none(), times_ms)
events = st.lists(st.builds(Event, ids, st.just("rating"), users, movies, halves, times_ms) | unrated, max_size=25)


def facts(rows: list[BulkRating], happened: list[Event], batch_rows: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), batch_rows):
        columns = [list(column) for column in zip(*rows[start : start + batch_rows], strict=True)]
        yield facts_of_ratings(pa.record_batch(columns, schema=RATINGS))
    for start in range(0, len(happened), batch_rows):
        part = happened[start : start + batch_rows]
        columns = [[getattr(one, name) for one in part] for name in EVENT_COLUMNS[:-1]]
        yield facts_of_events(pa.record_batch([*columns, [LATEST_MS - RANK_AHEAD_MS] * len(part)], schema=EVENTS))


def columns_fold(
    batches: Iterator[pa.RecordBatch], movie_ids: list[int], run_bytes: int = 1 << 20, **sizes: int
) -> list[tuple[tuple[int, int], PairState]]:
    tables = list(fold_batches(batches, pa.array(movie_ids, pa.int64()), run_bytes, **sizes))
    assert all(table.schema.equals(INTERACTIONS) and table.num_rows for table in tables)
    held = [set(table["user_id"].to_pylist()) for table in tables]
    assert sum(map(len, held)) == len(set().union(*held)), "a user is in two tables"
    return [state for table in tables for state in pair_states(table)]


def domain_fold(
    rows: list[BulkRating], happened: list[Event], movie_ids: list[int]
) -> list[tuple[tuple[int, int], PairState]]:
    imported = [Event(f"ml-{user}-{movie}", "rating", user, movie, rating, at) for user, movie, rating, at in rows]
    landed = [ranked(event, LATEST_MS - RANK_AHEAD_MS) for event in happened]
    return sorted(fold(event for event in [*imported, *landed] if event.movie_id in movie_ids).items())


@given(
    rows=bulk,
    happened=events,
    movie_ids=st.lists(movies, min_size=1, max_size=4),
    batch_rows=st.integers(1, 30),
    run_bytes=st.sampled_from([1, 300, 1 << 20]),
    merged_rows=st.sampled_from([1, 3, 1 << 20]),
    table_rows=st.sampled_from([1, 5, 1 << 20]),
    chance=st.randoms(use_true_random=False),
)
def test_columns_fold_as_the_domain_does_in_any_order_with_any_repetition(
    rows: list[BulkRating],
    happened: list[Event],
    movie_ids: list[int],
    batch_rows: int,
    run_bytes: int,
    merged_rows: int,
    table_rows: int,
    chance: random.Random,
) -> None:
    again_rows = rows + [chance.choice(rows) for _ in rows]
    again = happened + [chance.choice(happened) for _ in happened]
    chance.shuffle(again_rows)
    chance.shuffle(again)
    batches = list(facts(again_rows, again, batch_rows))
    chance.shuffle(batches)
    folded = columns_fold(iter(batches), movie_ids, run_bytes, batch_rows=merged_rows, table_rows=table_rows)
    assert folded == domain_fold(rows, happened, movie_ids)


@given(rows=bulk, happened=events, buckets=st.sets(st.sampled_from([0, 1, 2, 3, 255])))
def test_the_fold_of_some_buckets_is_that_part_of_the_fold(
    rows: list[BulkRating], happened: list[Event], buckets: set[int]
) -> None:
    some = (in_buckets(batch, buckets) for batch in facts(rows, happened, 4))
    whole = domain_fold(rows, happened, [1, 2, 3])
    assert columns_fold(some, [1, 2, 3]) == [row for row in whole if bucket_of(row[0][0]) in buckets]


def test_one_user_with_very_many_facts_is_folded_through_files() -> None:
    rows = [(7, movie, 3.0, START_MS + again) for again in range(50) for movie in range(1, 41)]
    random.Random(0).shuffle(rows)
    happened = [Event("r", "retract", 7, 1, None, START_MS + 99), Event("v", "view", 8, 1, None, START_MS)]
    folded = columns_fold(facts(rows, happened, 100), list(range(1, 41)), run_bytes=2_000, batch_rows=10)
    assert folded == domain_fold(rows, happened, list(range(1, 41)))


def test_a_retract_hides_the_import_and_a_later_rating_shows() -> None:
    later, last = START_MS + 1, LATEST_MS
    retract, rate = Event("r", "retract", 1, 1, None, later), Event("again", "rating", 1, 1, 2.0, last)
    imported = [(1, 1, 5.0, START_MS)]

    def state(*happened: Event) -> PairState:
        return dict(columns_fold(facts(imported, list(happened), 10), [1]))[1, 1]

    assert state(retract) == PairState(None, None, None, START_MS, later)
    assert state(Event("r", "retract", 1, 1, None, START_MS)) == PairState(None, None, None, START_MS, START_MS)
    assert state(rate, retract) == PairState(2.0, last, "again", last, later)


def test_nothing_folds_to_nothing() -> None:
    assert columns_fold(facts([], [], 1), [1]) == []
    assert columns_fold(facts([(1, 5, 1.0, START_MS)], [], 1), [1]) == []


@pytest.fixture
def spills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the temporary directory is."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_was_spilled_is_gone_at_the_end_and_also_after_an_error(spills: Path) -> None:
    rows = [(user, 1, 3.0, START_MS) for user in range(1, 30)]

    def broken() -> Iterator[pa.RecordBatch]:
        yield from facts(rows, [], 3)
        raise OSError("the source ended early")

    def folded(batches: Iterator[pa.RecordBatch]) -> Iterator[Any]:
        return fold_batches(batches, pa.array([1]), run_bytes=1, table_rows=1)

    whole = folded(facts(rows, [], 3))
    rows_first = next(whole).num_rows
    assert len(list(spills.rglob("*.arrow"))) == 9
    assert rows_first + sum(table.num_rows for table in whole) == 29
    assert list(spills.iterdir()) == []
    with pytest.raises(OSError, match="ended early"):
        next(folded(broken()))
    abandoned = folded(facts(rows, [], 3))
    next(abandoned)
    abandoned.close()
    assert list(spills.iterdir()) == []
