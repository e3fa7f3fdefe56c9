"""Publish the newest similarity of the lake: its edges beside the old ones, then the pointer, then the old ones go."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from movierec_platform.adapters.graph import Graph, SimilarityEdge
from movierec_platform.adapters.lake import Lake
from movierec_platform.errors import CheckFailed
from movierec_platform.services.similarity import TABLE

_EDGE = ("source_id", "target_id", "score", "rank", "support")


@dataclass(frozen=True)
class Published:
    """What readers are served now."""

    version: str
    previous: str | None
    edges: int
    unchanged: bool
    """It was published already: nothing was written."""


def publish_similarity(lake: Lake, graph: Graph, now_ms: int, progress: Callable[[int, int], None]) -> Published:
    """Readers are served the newest version, whole; the one before is kept for rollback, all others are deleted.

    `now_ms` is epoch milliseconds; `progress(written, total)` is called as edges are written. Whatever fails before the
    last step, readers keep the version that they had. Raises CheckFailed rather than publish nothing or a part.
    """
    versions = lake.partitions(TABLE, "version")
    if not versions:
        raise CheckFailed("the lake has no similarity to publish; run movie_similarity first")
    version = versions[-1]
    current = graph.publication()
    served = [] if current is None else [name for name in (current.version, current.previous) if name]
    graph.drop_similarity(keep=served)  # what an interrupted publication left
    if current is not None and current.version == version:
        return Published(version, current.previous, graph.similarity_count(version), unchanged=True)

    edges = lake.read(TABLE, columns=_EDGE, filters=[("version", "=", version)])
    if edges.num_rows == 0:
        raise CheckFailed(f"similarity {version} has no edges; it is not published")
    written = graph.similarity_count(version)
    if written == 0:  # else it is the kept previous version, whole
        graph.write_similarity(version, _in_order(edges, progress))
        written = graph.similarity_count(version)
    if written != edges.num_rows:
        raise CheckFailed(
            f"the graph took {written} of {edges.num_rows} edges of {version}: it lacks movies; run catalog_graph first"
        )
    graph.publish(version, now_ms)
    previous = None if current is None else current.version
    graph.drop_similarity(keep=[version, *([previous] if previous else [])])
    return Published(version, previous, written, unchanged=False)


def _in_order(edges: pa.Table, progress: Callable[[int, int], None]) -> Iterator[SimilarityEdge]:
    """The edges by source, so that those which start at one movie are written together."""
    taken = 0
    in_order = edges.sort_by([("source_id", "ascending"), ("target_id", "ascending")])
    for batch in in_order.to_batches(max_chunksize=20_000):
        yield from zip(*(batch[name].to_pylist() for name in _EDGE), strict=True)
        taken += batch.num_rows
        progress(taken, edges.num_rows)
