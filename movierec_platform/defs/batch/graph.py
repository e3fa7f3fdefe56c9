"""What the batch side puts into the graph."""

import time

import dagster as dg

from movierec_platform.defs.batch.resources import GraphResource, LakeResource
from movierec_platform.defs.batch.retries import retried
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.domain.set_aside import told_by_day
from movierec_platform.services.catalog import project_catalog
from movierec_platform.services.import_ratings import import_ratings
from movierec_platform.services.note import NIGHTLY, note
from movierec_platform.services.publish import publish_newest, publishing
from movierec_platform.services.turns import writing_in_bulk
from movierec_platform.services.verify import verify

PARITY_WAIT_S = 60.0
"""How long the check waits for pairs that are behind."""


@dg.asset(deps=["movies", "popularity"], group_name="graph", kinds={"neo4j"})
@retried
def catalog_graph(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource, graph: GraphResource
) -> dg.MaterializeResult[None]:
    """One Pelicula per movie, its ES_DE edges to each Genero, and how many visible ratings it has with their mean."""
    started = time.monotonic()
    with writing_in_bulk(settings.current(), context.log.info), graph.open() as opened:
        movies = project_catalog(lake.open(), opened)
    return dg.MaterializeResult(metadata={"dagster/row_count": movies, "seconds": round(time.monotonic() - started, 3)})


@dg.asset(deps=["ratings", "catalog_graph"], group_name="graph", kinds={"neo4j"})
@retried
def ratings_graph(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource, graph: GraphResource
) -> dg.MaterializeResult[None]:
    """One VIO edge per (user, movie) pair of the bulk ratings, merged with what events already said of the pair."""
    started = time.monotonic()
    with writing_in_bulk(settings.current(), context.log.info), graph.open() as opened:
        pairs = import_ratings(
            lake.open(), opened, progress=lambda done, total: context.log.info(f"{done} of {total} ratings")
        )
    seconds = time.monotonic() - started
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": pairs,
            "seconds": round(seconds, 3),
            "ratings_per_second": round(pairs / seconds),
        }
    )


@dg.asset_check(asset="interactions", description="The graph holds what the lake says of every pair.")
@retried
def graph_parity(context: dg.AssetCheckExecutionContext, settings: SettingsResource) -> dg.AssetCheckResult:
    """Passes when no pair differs, once what was under way has taken effect."""
    started = time.monotonic()
    parity = verify(settings.current(), PARITY_WAIT_S, lambda what, pairs: context.log.debug(f"{what}: {pairs} pairs"))
    return dg.AssetCheckResult(
        passed=parity.equal,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "seconds": round(time.monotonic() - started, 3),
            "lake_pairs": parity.lake_pairs,
            "graph_pairs": parity.graph_pairs,
            "differing_pairs": parity.differing_pairs,
            "behind_pairs": parity.behind_pairs,
            "wrong_pairs": parity.wrong_pairs,
            "set_aside": "; ".join(told_by_day(parity.set_aside)) or "no raw object",
            "first_differences": dg.MetadataValue.json(parity.as_json()["first_differences"]),
        },
    )


@dg.asset(deps=["similarity_evaluation", "catalog_graph"], group_name="graph", kinds={"neo4j"})
@retried
def similarity_graph(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource, graph: GraphResource
) -> dg.MaterializeResult[None]:
    """One SIMILAR edge per edge of the published version and of the one before, and the pointer to the published."""
    started = time.monotonic()
    current = settings.current()
    with (
        writing_in_bulk(current, context.log.info),
        publishing(current, on_wait=context.log.info),
        graph.open() as opened,
    ):
        published = publish_newest(
            lake.open(),
            opened,
            now_ms=time.time_ns() // 1_000_000,
            why=f"published by the run {context.run.run_id}",
            progress=lambda done, total: context.log.info(f"{done} of {total} edges"),
        )
    note(settings.current(), {}, NIGHTLY)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": published.edges,
            "seconds": round(time.monotonic() - started, 3),
            "version": published.version,
            "previous": published.previous or "none",
            "unchanged": published.unchanged,
            "withheld": published.withheld or "none",
        }
    )
