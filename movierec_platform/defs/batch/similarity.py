"""Which movies go together."""

import time
from dataclasses import asdict
from datetime import datetime, timezone

import dagster as dg
from pydantic import Field

from movierec_platform.defs.batch.resources import LakeResource
from movierec_platform.defs.batch.retries import retried
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.services.footprint import peak_memory_bytes
from movierec_platform.services.learn import learner_of, parameters_of
from movierec_platform.services.similarity import compute_similarity


class SimilarityConfig(dg.Config):
    """How the similarity is learned; what is not given comes from the settings (MOVIEREC_SIMILARITY_*)."""

    method: str | None = Field(None, pattern="^(slim|cosine|rp3beta)$", description="slim, cosine or rp3beta")
    neighbours: int | None = Field(None, ge=1, le=1_000, description="incoming edges kept for each movie")
    support_size: int | None = Field(None, ge=1, le=1_000, description="slim: movies that one may lean on")
    shrink: float | None = Field(None, ge=0, description="added to the cosine's denominator against rare pairs")
    l1: float | None = Field(None, ge=0, description="slim: weight of the sum of the weights")
    l2: float | None = Field(None, ge=0, description="slim: weight of half the sum of their squares")
    alpha: float | None = Field(None, ge=0, description="rp3beta: exponent of each step's probability")
    beta: float | None = Field(None, ge=0, description="rp3beta: exponent of the popularity divided by")


@dg.asset(deps=["interactions"], group_name="similarity", kinds={"delta", "numba"})
@retried
def movie_similarity(
    context: dg.AssetExecutionContext, config: SimilarityConfig, settings: SettingsResource, lake: LakeResource
) -> dg.MaterializeResult[None]:
    """One row per version and directed edge source -> target: score, rank within the target, users who saw both."""
    started = time.monotonic()
    tenths = 0

    def tell(done: int, total: int) -> None:
        nonlocal tenths
        if done * 10 // total > tenths:
            tenths = done * 10 // total
            context.log.info(f"{tenths * 10} % learned")

    defaults = settings.current()
    computed = compute_similarity(
        lake.open(),
        now=datetime.now(timezone.utc),
        parameters=parameters_of(defaults, config.model_dump()),
        learn=learner_of(defaults),
        progress=tell,
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": computed.edges,
            "seconds": round(time.monotonic() - started, 3),
            "cpu_seconds": round(computed.cpu_seconds, 3),
            "peak_memory_mb": round(peak_memory_bytes() / 1e6),
            "version": computed.version,
            "parameters": asdict(computed.parameters),
            "movies": computed.movies,
            "pairs": computed.pairs,
            "unchanged": computed.unchanged,
        }
    )
