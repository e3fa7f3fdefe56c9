"""Days of events that were landed and never compacted, and their backfill, as Dagster's UI launches it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from movierec_platform.adapters.dagster import graphql
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import encode, raw_key, raw_object
from movierec_tests.terminal import until

BACKFILLED = [f"2026-02-0{day}" for day in range(1, 8)]
EVENTS_A_DAY = 20


def land_in_the_past(settings: Settings, movies: int) -> None:
    """Raw objects of seven days in February, as if landed then: too long ago for the sensor of stale days."""
    objects = open_objects(settings)
    for number, day in enumerate(BACKFILLED):
        at_ms = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp() * 1000)
        ratings = [
            {
                "event_id": f"b{day}-{one}",
                "user_id": 1500 + one,
                "movie_id": 1 + (number + one) % movies,
                "rating": 5.0,
                "timestamp": at_ms,
            }
            for one in range(EVENTS_A_DAY)
        ]
        bad = {"user_id": 1500, "movie_id": 1, "rating": 11}
        for token, events in (("a", ratings), ("b", [ratings[0], bad])):
            body = raw_object([encode(one) for one in events], at_ms, source="test")
            objects.put(raw_key(at_ms, token), body)


def backfill(settings: Settings, days: Sequence[str]) -> tuple[str, list[str]]:
    """The status of a backfill of these days of the asset `events` once it has ended, and that of each of its runs."""
    url = settings.dagster_url
    params = {"assetSelection": [{"path": ["events"]}], "partitionNames": list(days)}
    launch = """
    mutation L($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
      __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }
    """
    launched = graphql(url, launch, {"params": params})
    backfill_id = launched["launchPartitionBackfill"]["backfillId"]
    query = """
    query B($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename
      ... on PartitionBackfill { status runs(limit: 50) { status } } } }
    """

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = graphql(url, query, {"id": backfill_id})["partitionBackfillOrError"]
        return found if found["status"].startswith(("COMPLETED", "FAILED")) else None

    found = until(ended, "the backfill's end", within_s=540)
    return found["status"], [run["status"] for run in found["runs"]]
