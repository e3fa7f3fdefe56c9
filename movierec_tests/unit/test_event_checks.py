"""Each check of a day's events fails for what it is named after, and for nothing else."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from movierec_platform.domain.event_checks import (
    CHECKS,
    EventPolicy,
    Landed,
    event_findings,
    figures_of,
    findings_of_days,
)
from movierec_platform.domain.events import RANK_AHEAD_MS
from movierec_platform.domain.findings import Finding
from movierec_platform.domain.set_aside import SetAside
from movierec_platform.domain.tables import EVENTS

POLICY = EventPolicy(volume_factor=4, volume_days=3, ahead_share=0.5, ahead_events=2)
MOVIES = pa.array([10, 20])
LATEST = 5_000 + RANK_AHEAD_MS


def row(user_id: int, **changed: Any) -> dict[str, Any]:
    base = {"event_id": f"e{user_id}", "event_type": "rating", "movie_id": 10, "rating": 4.5, "timestamp_ms": 5_000}
    return {**base, "user_id": user_id, "received_at_ms": 5_000, **changed}


GOOD = [row(1), row(2, movie_id=20, rating=0.5), row(3, event_type="view", rating=None)]


def failed(rows: list[dict[str, Any]], batch_rows: int = 100, **given: Any) -> list[str]:
    """The names of the checks that fail for these rows, of which the lake had counted as many lines."""
    batches = pa.Table.from_pylist(rows, schema=EVENTS).to_batches(max_chunksize=batch_rows)
    landed = given.pop("landed", Landed(len(rows), len(rows), 0, 0))
    figures = figures_of(batches, MOVIES)
    findings = event_findings(
        figures,
        landed,
        earlier=given.pop("earlier", []),
        is_over=given.pop("is_over", True),
        strangers=given.pop("strangers", []),
        set_aside=given.pop("set_aside", []),
        policy=POLICY,
    )
    assert {one.check: one.blocking for one in findings} == CHECKS
    return [one.check for one in findings if not one.passed]


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
@pytest.mark.parametrize(
    ("rows", "checks"),
    [
        ([], []),
        (GOOD, []),
        ([*GOOD, row(4, rating=4.2)], ["rating_range_and_step"]),
        ([*GOOD, row(4, rating=5.5)], ["rating_range_and_step"]),
        ([*GOOD, row(4, rating=None)], ["rating_range_and_step"]),
        ([*GOOD, row(4, event_type="view")], ["rating_range_and_step"]),
        ([*GOOD, row(4, movie_id=30)], ["orphan_movies"]),
        (
            [*GOOD, row(3, event_type="view", rating=None, received_at_ms=6_000)],
            ["no_duplicate_events", "conflicting_event_ids"],
        ),
        ([GOOD[0], row(1, rating=1.0), row(1, received_at_ms=9)], ["no_duplicate_events", "conflicting_event_ids"]),
        ([GOOD[1], GOOD[0], GOOD[2]], ["no_duplicate_events"]),
        ([row(1), row(1, timestamp_ms=4_000, event_id="f")], ["no_duplicate_events"]),
        ([row(1), row(1, rating=1.0)], ["conflicting_event_ids"]),
        ([row(1), row(2, event_id="e1")], ["conflicting_event_ids"]),
        ([row(1, timestamp_ms=LATEST), row(2, timestamp_ms=LATEST), row(3)], ["timestamps_skew"]),
        ([row(1, timestamp_ms=LATEST), row(2)], []),
        ([row(1, timestamp_ms=LATEST - 1), row(2, timestamp_ms=LATEST - 1)], []),
        ([row(1, timestamp_ms=LATEST)], []),
    ],
)
def test_rows_fail_the_check_named_after_what_is_wrong(
    rows: list[dict[str, Any]], checks: list[str], batch_rows: int
) -> None:
    assert failed(rows, batch_rows) == checks


@pytest.mark.parametrize(
    "landed", [Landed(4, 3, 0, 0), Landed(3, 3, 1, 0), Landed(3, 3, 0, 1), Landed(3, 2, 1, 0), Landed(2, 3, 0, 0)]
)
def test_a_line_that_is_not_accounted_for_is_found(landed: Landed) -> None:
    assert failed(GOOD, landed=landed) == ["accepted_plus_rejected_is_landed"]
    assert failed(GOOD, landed=Landed(6, 3, 2, 1)) == []


@pytest.mark.parametrize(
    ("earlier", "is_over", "checks"),
    [
        ([1000, 1000], True, []),
        ([12, 12, 1000], True, []),
        ([13, 13, 0], True, ["volume_against_trailing_median"]),
        ([13, 13, 0], False, []),
        ([1, 1, 1, 0.5, 0.5], True, []),
        ([0, 0, 1000], False, ["volume_against_trailing_median"]),
    ],
)
def test_a_day_is_compared_with_the_median_of_those_before(
    earlier: list[int], is_over: bool, checks: list[str]
) -> None:
    assert failed(GOOD, earlier=earlier, is_over=is_over) == checks


def test_a_name_among_the_raw_objects_that_is_no_day_is_found() -> None:
    assert failed(GOOD, strangers=["raw/stray.gz"]) == ["no_objects_outside_days"]
    assert failed(GOOD, set_aside=[SetAside("raw/date=2026-03-01/x", "not gzip")]) == ["no_objects_set_aside"]


def test_the_findings_of_days_name_the_days_at_fault() -> None:
    fine = [Finding(check, True, "fine", blocking) for check, blocking in CHECKS.items()]
    bad = [replace(one, passed=one.check != "orphan_movies", detail="bad") for one in fine]
    merged = {one.check: one for one in findings_of_days({"2026-01-01": fine, "2026-01-02": bad})}
    assert merged["orphan_movies"] == Finding("orphan_movies", False, "2026-01-02: bad")
    assert merged["timestamps_skew"].passed
    assert {name: one.blocking for name, one in merged.items()} == CHECKS
