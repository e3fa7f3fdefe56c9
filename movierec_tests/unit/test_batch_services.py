"""What the batch services decide before they touch a store."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.config import load_settings
from movierec_platform.domain.interactions import visible
from movierec_platform.domain.registers import PairState
from movierec_platform.domain.tables import INTERACTIONS, MOVIES, RATINGS
from movierec_platform.errors import DagsterUnavailable
from movierec_platform.services.catalog import catalog_rows
from movierec_platform.services.import_ratings import user_batches
from movierec_platform.services.launch import launch_and_wait
from movierec_platform.services.similarity import next_version

NOON = datetime(2024, 5, 1, 12, 0, 0, tzinfo=timezone.utc)
AT_MS = 1_600_000_000_000


def test_catalogue_rows_say_how_movies_are_rated() -> None:
    movies = [(1, "Heat", 1995, ["Crime"]), (2, "Alien", None, []), (3, "Up", 2009, ["Comedy"])]
    movies_table = pa.table([list(column) for column in zip(*movies, strict=True)], schema=MOVIES)
    popularity = pa.table({"movie_id": [3, 1, 9], "rating_count": [1, 2, 0], "rating_mean": [4.0, 3.5, None]})
    assert list(catalog_rows(movies_table, popularity, batch_movies=2)) == [
        [
            {"id": 1, "title": "Heat", "year": 1995, "genres": ["Crime"], "rating_count": 2, "rating_mean": 3.5},
            {"id": 2, "title": "Alien", "year": None, "genres": [], "rating_count": 0, "rating_mean": None},
        ],
        [{"id": 3, "title": "Up", "year": 2009, "genres": ["Comedy"], "rating_count": 1, "rating_mean": 4.0}],
    ]


@given(users=st.lists(st.integers(1, 6), max_size=40), size=st.integers(1, 12))
def test_batches_hold_whole_users_in_order(users: list[int], size: int) -> None:
    rows = [(user, movie, 3.0, AT_MS + movie) for movie, user in enumerate(users, start=1)]
    table = pa.table([list(column) for column in zip(*rows, strict=True)] or [[], [], [], []], schema=RATINGS)
    batches = list(user_batches(table, size))
    assert [pair for batch in batches for pair in batch] == sorted((row[0], row[1]) for row in rows)
    users_of = [{user for user, _ in batch} for batch in batches]
    assert sum(map(len, users_of)) == len(set(users)), "a user is split over two batches"
    assert all(len(batch) >= size for batch in batches[:-1])
    for batch in batches:
        last = max(users_of[batches.index(batch)])
        assert sum(user != last for user, _ in batch) < size, "a full batch was not closed"


def test_an_imported_rating_is_an_event_with_an_id_of_its_own() -> None:
    table = pa.table([[7], [9], [4.5], [AT_MS]], schema=RATINGS)
    assert list(user_batches(table, 10)) == [{(7, 9): PairState(4.5, AT_MS, "ml-7-9", AT_MS, None)}]


@pytest.mark.parametrize(
    ("newest", "version"),
    [
        (None, "20240501T120000Z-abcdef01"),
        ("20240430T030000Z-00000000", "20240501T120000Z-abcdef01"),
        ("20240430T030000Z-abcdef01", "20240430T030000Z-abcdef01"),
        ("20240501T120000Z-ffffffff", "20240501T120001Z-abcdef01"),
        ("20250101T000000Z-ffffffff", "20250101T000001Z-abcdef01"),
    ],
)
def test_a_version_says_when_and_what_and_comes_after_the_newest(newest: str | None, version: str) -> None:
    assert next_version("abcdef0123456789", newest, NOON) == version
    assert next_version("abcdef0123456789", newest, NOON.astimezone(timezone(timedelta(hours=5)))) == version


@given(st.lists(st.tuples(*[st.none() | st.integers(1, 3)] * 2), max_size=9))
def test_visible_is_what_the_domain_says(times: list[tuple[int | None, int | None]]) -> None:
    columns: dict[str, Any] = {
        field.name: [1] * len(times) if not field.nullable else [None] * len(times) for field in INTERACTIONS
    }
    columns["seen_at_ms"] = [seen for seen, _ in times]
    columns["retracted_at_ms"] = [retracted for _, retracted in times]
    expected = [PairState(seen_at_ms=seen, retracted_at_ms=retracted).visible for seen, retracted in times]
    assert visible(pa.table(columns, schema=INTERACTIONS)).to_pylist() == expected


def test_a_dagster_that_is_not_there_is_said_to_be_so() -> None:
    settings = load_settings({"dagster_url": "http://127.0.0.1:9"})
    with pytest.raises(DagsterUnavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        launch_and_wait(settings, "nightly", {}, lambda *_: None)
