"""What the batch side puts into the graph."""

import time

import dagster as dg

from movierec_platform.defs.batch.resources import GraphResource, LakeResource
from movierec_platform.services.catalog import project_catalog
from movierec_platform.services.import_ratings import import_ratings
from movierec_platform.services.publish import publish_similarity


@dg.asset(deps=["movies", "popularity"], group_name="graph", kinds={"neo4j"})
def catalog_graph(lake: LakeResource, graph: GraphResource) -> dg.MaterializeResult[None]:
    """One Pelicula per movie, its ES_DE edges to each Genero, and how many visible ratings it has with their mean."""
    started = time.monotonic()
    with graph.open() as opened:
        movies = project_catalog(lake.open(), opened)
    return dg.MaterializeResult(metadata={"dagster/row_count": movies, "seconds": round(time.monotonic() - started, 3)})


@dg.asset(deps=["ratings", "catalog_graph"], group_name="graph", kinds={"neo4j"})
def ratings_graph(
    context: dg.AssetExecutionContext, lake: LakeResource, graph: GraphResource
) -> dg.MaterializeResult[None]:
    """One VIO edge per (user, movie) pair of the bulk ratings, merged with what events already said of the pair."""
    started = time.monotonic()
    with graph.open() as opened:
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


@dg.asset(deps=["movie_similarity", "catalog_graph"], group_name="graph", kinds={"neo4j"})
def similarity_graph(
    context: dg.AssetExecutionContext, lake: LakeResource, graph: GraphResource
) -> dg.MaterializeResult[None]:
    """One SIMILAR edge per edge of the published version and of the one before, and the pointer to the published."""
    started = time.monotonic()
    with graph.open() as opened:
        published = publish_similarity(
            lake.open(),
            opened,
            now_ms=time.time_ns() // 1_000_000,
            progress=lambda done, total: context.log.info(f"{done} of {total} edges"),
        )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": published.edges,
            "seconds": round(time.monotonic() - started, 3),
            "version": published.version,
            "previous": published.previous or "none",
            "unchanged": published.unchanged,
        }
    )
