"""Which movies go together."""

import time
from datetime import datetime, timezone

import dagster as dg
from pydantic import Field

from movierec_platform.defs.batch.resources import LakeResource
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.services.similarity import compute_similarity


class SimilarityConfig(dg.Config):
    """How the similarity is learned; what is not given comes from the settings."""

    neighbours: int | None = Field(None, ge=1, description="incoming edges kept for each movie")
    shrink: float | None = Field(None, ge=0, description="added to the cosine's denominator against rare pairs")


@dg.asset(deps=["interactions"], group_name="similarity", kinds={"delta", "scipy"})
def movie_similarity(
    config: SimilarityConfig, settings: SettingsResource, lake: LakeResource
) -> dg.MaterializeResult[None]:
    """One row per version and directed edge source -> target: score, rank within the target, users who saw both."""
    started = time.monotonic()
    defaults = settings.current()
    computed = compute_similarity(
        lake.open(),
        now=datetime.now(timezone.utc),
        n_neighbours=defaults.similarity_neighbours if config.neighbours is None else config.neighbours,
        shrink=defaults.similarity_shrink if config.shrink is None else config.shrink,
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": computed.edges,
            "seconds": round(time.monotonic() - started, 3),
            "version": computed.version,
            "movies": computed.movies,
            "pairs": computed.pairs,
            "unchanged": computed.unchanged,
        }
    )
