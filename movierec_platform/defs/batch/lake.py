"""What the lake derives from the imports and from everything that was ever posted."""

import time
from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg
from pydantic import Field

from movierec_platform.defs.batch.checks import check_results, check_specs
from movierec_platform.defs.batch.resources import LakeResource, ObjectStoreResource
from movierec_platform.defs.batch.retries import retried
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.domain.interaction_checks import CHECKS
from movierec_platform.errors import PromotionRefused
from movierec_platform.services.interactions import fold_interactions
from movierec_platform.services.popularity import compute_popularity


class FoldConfig(dg.Config):
    """What a person lets pass."""

    waive: list[str] = Field([], description="names of blocking checks that may fail this once")


@dg.asset(
    deps=["movies", "ratings", "events"],
    check_specs=check_specs("interactions", dict.fromkeys(CHECKS, True)),
    group_name="lake",
    kinds={"delta"},
)
@retried
def interactions(
    config: FoldConfig, settings: SettingsResource, lake: LakeResource, objects: ObjectStoreResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """One row per (user, movie) pair: its three registers, folded from the bulk ratings and all promoted events."""
    started = time.monotonic()
    today = datetime.now(timezone.utc).date()
    try:
        folded = fold_interactions(lake.open(), objects.open(), today, settings.current().late_days, config.waive)
    except PromotionRefused as refused:
        yield from check_results("interactions", refused.findings, config.waive)
        raise
    yield from check_results("interactions", folded.findings, config.waive)
    yield dg.MaterializeResult(
        metadata={"dagster/row_count": folded.pairs, "seconds": round(time.monotonic() - started, 3)}
    )


@dg.asset(deps=["movies", "interactions"], group_name="lake", kinds={"delta"})
@retried
def popularity(settings: SettingsResource, lake: LakeResource) -> dg.MaterializeResult[None]:
    """One row per movie: visible ratings, their mean and Bayesian mean, who has seen it, and its decayed trend."""
    started = time.monotonic()
    defaults = settings.current()
    movies = compute_popularity(lake.open(), defaults.trend_half_life_days, defaults.rating_prior_weight)
    return dg.MaterializeResult(metadata={"dagster/row_count": movies, "seconds": round(time.monotonic() - started, 3)})
