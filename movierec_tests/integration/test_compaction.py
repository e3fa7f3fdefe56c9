"""A day's raw objects become its partition of `events`, on a real S3; what is landed later makes the day stale."""

from typing import Any

import pyarrow as pa
import pytest

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import encode, raw_key, raw_object
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge
from movierec_platform.domain.landed import EVENTS
from movierec_platform.services.compact import (
    Catalogue,
    DayReport,
    compact_day,
    landed_events,
    read_catalogue,
    stale_days,
)

DAY, NEXT = "2026-03-01", "2026-03-02"
AT_MS = 1_772_323_200_000
"""2026-03-01T00:00:00Z"""
DAY_MS = 86_400_000
GOOD = {"event_id": "e1", "user_id": 7, "movie_id": 10, "rating": 4.5, "timestamp": AT_MS + 5}
MOVIES = pa.table({"movie_id": [10, 20, 30]})


class Compaction:
    """A lake of three movies and its raw objects."""

    def __init__(self, settings: Settings) -> None:
        self.lake, self.objects = Lake(settings), open_objects(settings)
        self.lake.write("movies", MOVIES)
        self.policy = EventPolicy()
        self._landed = 0

    def land(self, *events: Any, at_ms: int = AT_MS + 1000) -> str:
        self._landed += 1
        key = raw_key(at_ms, f"{self._landed:04d}")
        self.objects.put(key, raw_object([encode(event) for event in events], at_ms, "test"))
        return key

    def compact(self, day: str = DAY, **changed: Any) -> DayReport:
        given = {"catalogue": read_catalogue(self.lake), "policy": self.policy, "now_ms": AT_MS + 9 * DAY_MS, **changed}
        return compact_day(self.lake, self.objects, day, **given)

    def stale(self, *days: str) -> list[str]:
        return list(stale_days(self.lake, self.objects, days or (DAY, NEXT), read_catalogue(self.lake)))

    def events(self, day: str = DAY) -> list[dict[str, Any]]:
        """The rows of the partition in the order of its file."""
        rows = self.lake.read("events", EVENTS.names, [("date", "=", day)]).to_pylist()
        return rows

    def landed(self, **given: Any) -> list[dict[str, Any]]:
        catalogue = given.pop("catalogue", None) or read_catalogue(self.lake)
        batches = list(landed_events(self.lake, self.objects, catalogue, **given))
        assert all(batch.schema.equals(EVENTS) for batch in batches)
        return [row for batch in batches for row in batch.to_pylist()]

    def ledger(self) -> dict[str, dict[str, Any]]:
        return {row["date"]: row for row in self.lake.read("compactions").to_pylist()}


@pytest.fixture
def platform(fresh_settings: Settings) -> Compaction:
    return Compaction(fresh_settings)


def content(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(row.values())[:-1] for row in rows}


def test_a_day_becomes_its_partition_and_what_was_counted(platform: Compaction) -> None:
    view = {"event_id": "e2", "event_type": "view", "user_id": 3, "movie_id": 20}
    keys = [
        platform.land(GOOD, view, {**GOOD, "rating": 9}, "no object"),
        platform.land(GOOD, {**GOOD, "movie_id": 99}, {"user_id": 1, "item_id": 30, "rating": 1}, at_ms=AT_MS + 2000),
    ]
    platform.land(GOOD, at_ms=AT_MS + DAY_MS)
    report = platform.compact()
    hashed = judge({"user_id": 1, "movie_id": 30, "rating": 1}, AT_MS + 2000)
    assert isinstance(hashed, Event)
    assert [(row["user_id"], row["movie_id"], row["event_id"], row["received_at_ms"]) for row in platform.events()] == [
        (1, 30, hashed.event_id, AT_MS + 2000),
        (3, 20, "e2", AT_MS + 1000),
        (7, 10, "e1", AT_MS + 1000),
    ]
    rejected = {"not_an_object": 1, "rating_out_of_range": 1, "unknown_movie": 1}
    counted = {"objects": 2, "landed": 7, "accepted": 3, "duplicates": 1}
    sizes = sum(one.size for one in platform.objects.listing("raw/") if one.key in keys)
    assert all(finding.passed for finding in report.findings)
    assert report == DayReport(DAY, bytes=sizes, rejected=rejected, findings=report.findings, **counted)
    row = platform.ledger()[DAY]
    assert {**row, "rejected": dict(row["rejected"])} == {
        "label": f"{platform.lake.labels('events', 'date')[DAY]}",
        "bytes": sizes,
        "rejected": rejected,
        "date": DAY,
        **counted,
    }
    assert platform.stale() == [NEXT]


def test_landed_events_are_the_same_compacted_or_not(platform: Compaction) -> None:
    for number in range(30):
        day_ms = AT_MS + number % 3 * DAY_MS
        platform.land(
            *({**GOOD, "event_id": f"{number}-{k}", "user_id": k + 1, "movie_id": (k + 1) * 10} for k in range(4)),
            at_ms=day_ms + number,
        )
    raw = platform.landed()
    assert len(raw) == 90
    platform.compact()
    mixed = platform.landed()
    assert sorted(map(repr, mixed)) == sorted(map(repr, raw))
    platform.compact(NEXT)
    assert platform.stale() == []
    assert content(platform.landed()) == content(raw)
    early = [row for row in raw if row["received_at_ms"] <= AT_MS + DAY_MS + 4]
    assert content(platform.landed(until_ms=AT_MS + DAY_MS + 4)) == content(early)
    assert 0 < len(early) < 90
    fewer = Catalogue.of([20])
    assert {row["movie_id"] for row in platform.landed(catalogue=fewer)} == {20}
    assert len(platform.landed(catalogue=Catalogue.of([10, 20, 30, 40]))) == 120
