"""What staged movies and ratings must be like: each check is seen failing."""

from dataclasses import replace
from functools import partial

import pyarrow as pa
import pytest

from movierec_platform.domain.events import EARLIEST_MS
from movierec_platform.domain.findings import refusals
from movierec_platform.domain.movielens_checks import (
    DAY_MS,
    MOVIES_CHECKS,
    RATINGS_CHECKS,
    RatingFigures,
    movies_findings,
    rating_figures,
    ratings_findings,
)
from movierec_platform.domain.tables import MOVIES, RATINGS

NOW_MS = 1_700_000_000_000
GOOD = RatingFigures(rows=100, outside=0, off_step=0, orphans=0, repeated=0, first_ms=EARLIEST_MS, last_ms=NOW_MS)


def failed(figures: RatingFigures, previous_rows: int = 0) -> dict[str, str]:
    findings = ratings_findings(figures, previous_rows, NOW_MS, least_share=0.5)
    assert tuple(one.check for one in findings) == RATINGS_CHECKS
    assert refusals(findings) == [one for one in findings if not one.passed]
    return {one.check: one.detail for one in findings if not one.passed}


@pytest.mark.parametrize(
    ("figures", "previous_rows"),
    [
        (GOOD, 0),
        (GOOD, 200),
        (GOOD, 1),
        (replace(GOOD, last_ms=NOW_MS + DAY_MS), 0),
    ],
)
def test_what_passes(figures: RatingFigures, previous_rows: int) -> None:
    assert failed(figures, previous_rows) == {}


@pytest.mark.parametrize(
    ("figures", "previous_rows", "check", "said"),
    [
        (replace(GOOD, outside=2), 0, "rating_range_and_step", "2 of 100 ratings are not 0.5 to 5, 0 are no half step"),
        (replace(GOOD, off_step=1), 0, "rating_range_and_step", "1 are no half step"),
        (replace(GOOD, orphans=3), 0, "orphan_movies", "3 rated movies are not among the movies"),
        (replace(GOOD, repeated=4), 0, "no_duplicate_pairs", "4 ratings are of a user and movie that have another one"),
        (replace(GOOD, first_ms=EARLIEST_MS - 1), 0, "timestamps_plausible", "rated from 1994-12-31 to 2023-11-14"),
        (replace(GOOD, last_ms=NOW_MS + DAY_MS + 1), 0, "timestamps_plausible", "rated from 1995-01-01 to 2023-11-15"),
        (replace(GOOD, last_ms=2**62), 0, "timestamps_plausible", f"to {2**62} ms"),
        (GOOD, 201, "volume_against_previous", "100 ratings; wanted is at least 50% of the 201 that are there"),
        (replace(GOOD, rows=0, first_ms=None, last_ms=None), 0, "volume_against_previous", "0 ratings"),
    ],
)
def test_each_check_of_the_ratings_fails(figures: RatingFigures, previous_rows: int, check: str, said: str) -> None:
    found = failed(figures, previous_rows)
    assert found.keys() == {check}
    assert said in found[check]


def test_figures_are_those_of_the_rows() -> None:
    rows = [
        (1, 10, 4.0, 50),
        (1, 20, 4.2, 40),
        (1, 30, 5.5, 60),
        (2, 10, float("nan"), 50),
        (2, 40, 0.0, 50),
        (2, 10, 3.0, 45),
        (3, 40, 0.5, 50),
    ]
    batches = pa.table([list(column) for column in zip(*rows, strict=True)], schema=RATINGS).to_batches(max_chunksize=2)
    assert rating_figures(partial(iter, batches), pa.array([10, 20])) == RatingFigures(
        rows=7, outside=3, off_step=1, orphans=2, repeated=1, first_ms=40, last_ms=60
    )
    assert rating_figures(partial(iter, []), pa.array([], pa.int64())) == RatingFigures(0, 0, 0, 0, 0, None, None)


@pytest.mark.parametrize(
    ("ids", "titles", "check", "said"),
    [
        ([1, 2], ["Heat", "Up"], None, ""),
        ([], [], None, ""),
        ([1, 1, 2], ["Heat", "Up", "Heat"], "no_duplicate_ids", "1 of 3 movies have an id that another one has"),
        ([1, 2, 3], ["", " \t", "Up"], "titles_present", "2 of 3 movies have no title"),
        ([1, 2], [None, "Up"], "titles_present", "1 of 2 movies have no title"),
    ],
)
def test_each_check_of_the_movies_fails(ids: list[int], titles: list[str | None], check: str | None, said: str) -> None:
    findings = movies_findings(pa.array(ids, MOVIES.field("movie_id").type), pa.array(titles, pa.string()))
    assert tuple(one.check for one in findings) == MOVIES_CHECKS
    found = {one.check: one.detail for one in findings if not one.passed}
    assert list(found) == ([check] if check else [])
    assert found.get(check or "", "") == said


def test_what_somebody_waived_does_not_block() -> None:
    findings = ratings_findings(replace(GOOD, orphans=1), 1_000, NOW_MS, least_share=0.5)
    assert [one.check for one in refusals(findings)] == ["orphan_movies", "volume_against_previous"]
    assert [one.check for one in refusals(findings, ["volume_against_previous"])] == ["orphan_movies"]
