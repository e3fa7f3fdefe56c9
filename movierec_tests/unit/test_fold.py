"""The fold of columns equals the fold of the domain, event by event."""

import random
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.adapters.movielens import RATINGS
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge
from movierec_platform.domain.interactions import INTERACTIONS, pair_states
from movierec_platform.domain.registers import PairState, fold
from movierec_platform.services.fold import folded_interactions

START_MS = 1_600_000_000_000
BulkRating = tuple[int, int, float, int]

halves = st.integers(1, 10).map(lambda doubled: doubled / 2)
times_ms = st.integers(START_MS, START_MS + 4)
bulk = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2), halves, times_ms), max_size=8)
ids = st.sampled_from(["a", "b", "ml-1-1", "\u00e9", "\uffff", "\U0001f3ac"])
pair = {"user_id": st.integers(1, 2), "movie_id": st.integers(1, 3), "timestamp": times_ms}
unrated = st.sampled_from(["view", "retract"])
events = st.lists(
    st.fixed_dictionaries({**pair, "rating": halves}, optional={"event_id": ids})
    | st.fixed_dictionaries({**pair, "event_type": unrated})
    | st.fixed_dictionaries({**pair, "event_type": unrated, "rating": halves}),
    max_size=25,
)


def ratings_table(rows: list[BulkRating]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[], [], [], []], schema=RATINGS)


def columns_fold(rows: list[BulkRating], landed: list[Any], movie_ids: list[int]) -> dict[tuple[int, int], PairState]:
    table = folded_interactions(
        ratings_table(rows), pa.chunked_array([movie_ids], pa.int64()), [(event, START_MS) for event in landed]
    )
    assert table.schema.equals(INTERACTIONS)
    pairs = list(pair_states(table))
    assert [pair for pair, _ in pairs] == sorted({pair for pair, _ in pairs})
    return dict(pairs)


def domain_fold(rows: list[BulkRating], landed: list[Any], movie_ids: list[int]) -> dict[tuple[int, int], PairState]:
    accepted = [verdict for event in landed if isinstance(verdict := judge(event, START_MS), Event)]
    imported = [Event(f"ml-{user}-{movie}", "rating", user, movie, rating, at) for user, movie, rating, at in rows]
    return fold(event for event in [*imported, *accepted] if event.movie_id in movie_ids)


@given(rows=bulk, landed=events, movie_ids=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_columns_fold_as_the_domain_does(rows: list[BulkRating], landed: list[Any], movie_ids: list[int]) -> None:
    assert columns_fold(rows, landed, movie_ids) == domain_fold(rows, landed, movie_ids)


@given(rows=bulk, landed=events, seed=st.integers(0, 99))
def test_order_and_repetition_do_not_matter(rows: list[BulkRating], landed: list[Any], seed: int) -> None:
    shuffled_rows, shuffled = rows * 2, landed * 3
    random.Random(seed).shuffle(shuffled_rows)
    random.Random(seed).shuffle(shuffled)
    assert columns_fold(shuffled_rows, shuffled, [1, 2, 3, 4]) == columns_fold(rows, landed, [1, 2, 3, 4])


def test_a_retract_hides_the_import_and_a_later_rating_shows() -> None:
    later, last = START_MS + 1000, START_MS + 2000
    retract = {"event_type": "retract", "user_id": 1, "movie_id": 1, "timestamp": later}
    rate = {"event_id": "again", "user_id": 1, "movie_id": 1, "rating": 2.0, "timestamp": last}
    imported = [(1, 1, 5.0, START_MS)]
    assert columns_fold(imported, [retract], [1])[1, 1] == PairState(None, None, None, START_MS, later)
    at_once = {**retract, "timestamp": START_MS}
    assert columns_fold(imported, [at_once], [1])[1, 1] == PairState(None, None, None, START_MS, START_MS)
    assert columns_fold(imported, [rate, retract], [1])[1, 1] == PairState(2.0, last, "again", last, later)


def test_rejected_events_and_unknown_movies_are_left_out() -> None:
    landed = [
        {"user_id": 1, "movie_id": 1, "rating": 9.0},
        ["not", "an", "object"],
        {"user_id": 1, "movie_id": 99, "rating": 3.0},
        {"event_type": "view", "user_id": 1, "movie_id": 2},
    ]
    assert columns_fold([(1, 98, 3.0, START_MS)], landed, [1, 2]) == {(1, 2): PairState(seen_at_ms=START_MS)}


def test_nothing_folds_to_nothing() -> None:
    assert columns_fold([], [], [1]) == {}
