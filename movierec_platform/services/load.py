"""Load a MovieLens set into the lake: stage, check, promote. A set with one bad line changes nothing."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.adapters.lake import Lake, Staged
from movierec_platform.adapters.movielens import Log, Movie, MovieLensSet
from movierec_platform.adapters.movielens.opened import opened
from movierec_platform.config import Settings
from movierec_platform.domain.findings import Finding
from movierec_platform.domain.movielens_checks import (
    MOVIES_CHECKS,
    RATINGS_CHECKS,
    movies_findings,
    rating_figures,
    ratings_findings,
)
from movierec_platform.domain.repeats import COLUMNS, PairKeys, superseded
from movierec_platform.domain.tables import MOVIES, RATINGS
from movierec_platform.errors import UsageError
from movierec_platform.services.promote import BY_LOAD, promote_checked

LEAST_SHARE = 0.5
"""Of the rows that the table has."""
LOG_EVERY_ROWS = 1_000_000


@dataclass(frozen=True)
class Loaded:
    """What is in the lake now."""

    name: str
    digest: str
    movies: int
    ratings: int
    findings: list[Finding]
    untitled_movies: int = 0
    """Movies that the set rates but does not name; they are called `Movie <id>`."""
    repeated_ratings: int = 0
    """Ratings left out because the same user rated the same movie later."""
    unchanged: bool = False
    """Whether the tables were made from this set already: nothing was written, and the two above were not counted."""


def load_archive(
    lake: Lake,
    settings: Settings,
    archive: str,
    now_ms: int,
    log: Log,
    waived: Collection[str] = (),
    least_share: float = LEAST_SHARE,
) -> Loaded:
    """The tables movies and ratings hold this set (a path, a URL, empty for the built-in one) and nothing else.

    They are staged, checked as they were staged, and promoted one after the other once all of the set was read. Raises
    PromotionRefused for a check that fails (it keeps the tables as they were) unless its name is among the waived.
    """
    unknown = sorted(set(waived) - {*MOVIES_CHECKS, *RATINGS_CHECKS})
    if unknown:
        known = ", ".join((*MOVIES_CHECKS, *RATINGS_CHECKS))
        raise UsageError(f"{', '.join(unknown)} is no check that can be waived; there are {known}")
    previous_rows = lake.rows("ratings")
    with opened(archive, settings, log) as found:
        if lake.label("movies") == lake.label("ratings") == found.digest:
            log(f"{found.name}: the tables were made from this set already")
            rows = {name: partial(lake.batches, name) for name in ("movies", "ratings")}
            findings = _findings(rows["movies"], rows["ratings"], previous_rows, now_ms, least_share)
            counts = {"movies": lake.rows("movies"), "ratings": previous_rows}
            return Loaded(found.name, found.digest, **counts, findings=findings, unchanged=True)
        with ExitStack() as on_failure:
            ratings, rated, repeated = _stage_ratings(lake, found, log)
            on_failure.callback(lake.drop_staged, ratings)
            movies, untitled = _stage_movies(lake, found, rated)
            on_failure.callback(lake.drop_staged, movies)
            findings = _findings(
                partial(lake.staged_batches, movies),
                partial(lake.staged_batches, ratings),
                previous_rows,
                now_ms,
                least_share,
            )
            on_failure.pop_all()
    promote_checked(lake, [movies, ratings], findings, waived, BY_LOAD)
    return Loaded(
        found.name,
        found.digest,
        movies=movies.rows,
        ratings=ratings.rows,
        findings=findings,
        untitled_movies=untitled,
        repeated_ratings=repeated,
    )


def _stage_ratings(lake: Lake, found: MovieLensSet, log: Log) -> tuple[Staged, set[int], int]:
    """The set's ratings, one per pair; the ids of the rated movies; how many ratings were left out."""
    keys, rated = PairKeys(), set[int]()
    staged = lake.stage("ratings", _watched(found, keys, rated, log), RATINGS, label=found.digest)
    with ExitStack() as drop:
        drop.callback(lake.drop_staged, staged)
        repeated = keys.repeated()
        lost = superseded(partial(lake.staged_batches, staged, COLUMNS), repeated, staged.rows)
        if not lost.any():
            drop.pop_all()
            return staged, rated, 0
        kept = lake.stage("ratings", _without(lost, lake.staged_batches(staged)), RATINGS, label=found.digest)
    return kept, rated, staged.rows - kept.rows


def _watched(found: MovieLensSet, keys: PairKeys, rated: set[int], log: Log) -> Iterator[pa.RecordBatch]:
    """The set's ratings, and while they go by: their keys, their movies, how many they are."""
    rows = 0
    for batch in found.ratings():
        keys.add(batch)
        rated.update(pc.unique(batch["movie_id"]).to_pylist())
        if (rows + batch.num_rows) // LOG_EVERY_ROWS > rows // LOG_EVERY_ROWS:
            log(f"{found.name}: {rows + batch.num_rows:,} ratings so far")
        rows += batch.num_rows
        yield batch


def _without(lost: npt.NDArray[np.bool_], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    at = 0
    for batch in batches:
        yield batch.filter(pa.array(~lost[at : at + batch.num_rows]))
        at += batch.num_rows


def _stage_movies(lake: Lake, found: MovieLensSet, rated: set[int]) -> tuple[Staged, int]:
    """A row for each movie that the set names or rates; how many it does not name."""
    named = found.movies()
    untitled: dict[int, Movie] = {movie_id: (f"Movie {movie_id}", None, []) for movie_id in rated - named.keys()}
    rows = sorted([*named.items(), *untitled.items()])
    columns = [[movie_id for movie_id, _ in rows], *map(list, zip(*(movie for _, movie in rows), strict=True))]
    return lake.stage("movies", [pa.table(columns, schema=MOVIES)], MOVIES, label=found.digest), len(untitled)


def _findings(
    movies: Callable[[], Iterable[pa.RecordBatch]],
    ratings: Callable[[], Iterable[pa.RecordBatch]],
    previous_rows: int,
    now_ms: int,
    least_share: float,
) -> list[Finding]:
    """What the checks say of these rows, which are read again from where they were written."""
    catalogue = pa.Table.from_batches(movies(), MOVIES)
    figures = rating_figures(ratings, catalogue["movie_id"])
    return [
        *movies_findings(catalogue["movie_id"], catalogue["title"]),
        *ratings_findings(figures, previous_rows, now_ms, least_share),
    ]
