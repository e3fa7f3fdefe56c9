"""What must hold of movies and ratings before they are promoted: figures of the rows in, findings out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.events import EARLIEST_MS
from movierec_platform.domain.findings import Finding
from movierec_platform.domain.repeats import PairKeys, superseded

DAY_MS = 86_400_000
MOVIES_CHECKS = ("no_duplicate_ids", "titles_present")
RATINGS_CHECKS = (
    "rating_range_and_step",
    "orphan_movies",
    "no_duplicate_pairs",
    "timestamps_plausible",
    "volume_against_previous",
)


@dataclass(frozen=True, slots=True)
class RatingFigures:
    """What was counted over all rows of ratings."""

    rows: int
    outside: int
    """Ratings that are not 0.5 to 5, or not a number."""
    off_step: int
    """Ratings within that which are no half star."""
    orphans: int
    """Different movies that are rated and not among the movies."""
    repeated: int
    """Rows whose pair has another row that counts."""
    first_ms: int | None
    last_ms: int | None


def rating_figures(batches: Callable[[], Iterable[pa.RecordBatch]], movie_ids: pa.Array) -> RatingFigures:
    """The figures of these rows (schema of the table ratings), read once, and again only if pairs may repeat."""
    rows = outside = off_step = 0
    times: list[int] = []
    rated: set[int] = set()
    keys = PairKeys()
    for batch in batches():
        rating = batch["rating"].to_numpy(zero_copy_only=False)
        inside = (rating >= 0.5) & (rating <= 5.0)
        rows += batch.num_rows
        outside += int(np.count_nonzero(~inside))
        off_step += int(np.count_nonzero(inside & (rating * 2 != np.floor(rating * 2))))
        rated.update(pc.unique(batch["movie_id"]).to_pylist())
        extremes = pc.min_max(batch["rated_at_ms"]).as_py()
        times += [time for time in extremes.values() if time is not None]
        keys.add(batch)
    repeated = keys.repeated()
    lost = superseded(batches, repeated, rows) if len(repeated) else np.zeros(0, np.bool_)
    return RatingFigures(
        rows=rows,
        outside=outside,
        off_step=off_step,
        orphans=len(rated.difference(movie_ids.to_pylist())),
        repeated=int(np.count_nonzero(lost)),
        first_ms=min(times, default=None),
        last_ms=max(times, default=None),
    )


def ratings_findings(figures: RatingFigures, previous_rows: int, now_ms: int, least_share: float) -> list[Finding]:
    """One finding for each of RATINGS_CHECKS.

    `previous_rows` is what the table holds now (0: nothing yet). It is compared whatever set that was: to replace a set
    by one with less than `least_share` of its rows is more often a mistake than wished for, and can be waived.
    """
    first, last = (_day(moment) for moment in (figures.first_ms, figures.last_ms))
    plausible = figures.first_ms is None or (
        figures.first_ms >= EARLIEST_MS and (figures.last_ms or 0) <= now_ms + DAY_MS
    )
    found = (
        (
            figures.outside == 0 == figures.off_step,
            f"{figures.outside:,} of {figures.rows:,} ratings are not 0.5 to 5, {figures.off_step:,} are no half step",
        ),
        (figures.orphans == 0, f"{figures.orphans:,} rated movies are not among the movies"),
        (figures.repeated == 0, f"{figures.repeated:,} ratings are of a user and movie that have another one"),
        (plausible, f"rated from {first} to {last}; allowed is 1995-01-01 to a day from now"),
        (
            figures.rows > 0 and figures.rows >= least_share * previous_rows,
            f"{figures.rows:,} ratings; wanted is at least {least_share:.0%} of the {previous_rows:,} that are there",
        ),
    )
    return [Finding(name, *outcome) for name, outcome in zip(RATINGS_CHECKS, found, strict=True)]


def movies_findings(movie_ids: pa.Array, titles: pa.Array) -> list[Finding]:
    """One finding for each of MOVIES_CHECKS, of the columns movie_id and title."""
    repeated = len(movie_ids) - pc.count_distinct(movie_ids, mode="all").as_py()
    blank = pc.sum(pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(titles)), 0), True)).as_py() or 0
    found = (
        (repeated == 0, f"{repeated:,} of {len(movie_ids):,} movies have an id that another one has"),
        (blank == 0, f"{blank:,} of {len(titles):,} movies have no title"),
    )
    return [Finding(name, *outcome) for name, outcome in zip(MOVIES_CHECKS, found, strict=True)]


def _day(moment_ms: int | None) -> str:
    if moment_ms is None:
        return "never"
    try:
        return datetime.fromtimestamp(moment_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{moment_ms} ms"
