"""Move the pointer that readers of the similarity follow: to the newest version, to any that the lake holds, or back.

A version's edges are written beside the old ones, then one transaction moves the pointer, then the edges of all but the
two last published versions go. Killed at any step, readers have the old version or the new one, whole, and the next
publication finishes what is left. Two at a time do not mix: they wait for each other (`publishing`), and one that lost
its turn unawares is refused by the graph.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_similarity import Publication, SimilarityEdge
from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings
from movierec_platform.errors import CheckFailed, Conflict, LeaseHeld
from movierec_platform.services.turns import OnWait, turn, unheard
from movierec_platform.services.versions import (
    EDGE,
    EDGES,
    evaluation_of,
    held_versions,
    publications,
    record_published,
)

WAIT_S = 900.0
"""Longer than a publication takes: 3 million edges are written in six minutes."""

Progress = Callable[[int, int], None]
"""Told (edges written, of how many)."""


@dataclass(frozen=True)
class Published:
    """What readers are served now."""

    version: str
    previous: str | None
    edges: int
    unchanged: bool
    """It was published already: nothing was written."""
    withheld: str | None = None
    """The newest version, from which somebody has gone back."""


@contextmanager
def publishing(settings: Settings, wait_s: float = WAIT_S, on_wait: OnWait = unheard) -> Iterator[None]:
    """Nobody else publishes meanwhile, nor drops versions. Conflict when another does so for all of `wait_s`."""
    with ExitStack() as held:
        try:
            held.enter_context(turn(settings, "similarity", "is publishing a similarity", wait_s, on_wait))
        except LeaseHeld:
            raise Conflict(
                f"another run has been publishing a similarity for {wait_s:g} s: wait for it to end, then do this again"
            ) from None
        yield


def publish_newest(lake: Lake, graph: Graph, now_ms: int, why: str, progress: Progress) -> Published:
    """Readers are served the newest version of the lake, if the gate passed it: else CheckFailed, and they keep theirs.

    A version from which somebody has gone back is left alone until there is a newer one.
    """
    versions = held_versions(lake)
    if not versions:
        raise CheckFailed("the lake has no similarity to publish; run movie_similarity first")
    newest, current = versions[-1], graph.publication()
    if current is not None and current.previous == newest > current.version:
        edges = graph.similarity_count(current.version)
        return Published(current.version, current.previous, edges, unchanged=True, withheld=newest)
    if current is None or current.version != newest:
        require_passed(lake, newest, None if current is None else current.version)
    return publish_version(lake, graph, newest, now_ms, why, progress)


def require_passed(lake: Lake, version: str, beside: str | None) -> None:
    """Nothing, if the gate passed this version beside the one that readers use. CheckFailed else."""
    evaluated = evaluation_of(lake, version)
    if evaluated is None or evaluated.published != beside:
        raise CheckFailed(
            f"similarity {version} was never judged beside {beside or 'none'}, which readers use; "
            "run similarity_evaluation first"
        )
    if not evaluated.passed:
        raise CheckFailed(f"similarity {version} is blocked by the gate: {evaluated.reason}")


def drop_old_versions(lake: Lake, graph: Graph, newest: int) -> list[str]:
    """The lake holds the `newest` versions, the published and the one before; returns which others were dropped."""
    current = graph.publication()
    keep = () if current is None else (current.version, current.previous)
    dropped = [one for one in held_versions(lake)[:-newest] if one not in keep]
    lake.drop_partitions(EDGES, "version", dropped)
    return dropped


def roll_back(lake: Lake, graph: Graph, version: str | None, now_ms: int, why: str, progress: Progress) -> Published:
    """Readers are served this version again, or without one the version before the published.

    CheckFailed, and nothing changes, if there is none, the lake has lost it, or readers never had it.
    """
    current = graph.publication()
    if current is None:
        raise CheckFailed("no similarity is published, so there is none to go back from; run `movierec nightly`")
    target = version or current.previous
    if target is None:
        raise CheckFailed(f"{current.version} is the first similarity that was published: none came before it")
    held = held_versions(lake)
    had = {current.version, current.previous, *(one.version for one in publications(lake))} & {*held}
    if target not in held:
        choice = ", ".join(sorted(one for one in had if one and one != current.version)) or "no other"
        raise CheckFailed(
            f"the lake does not hold similarity {target} any more; of those once published it holds {choice}"
        )
    if target not in had:
        raise CheckFailed(
            f"readers never had similarity {target}: `movierec similarity publish {target}` gives it to them"
        )
    return publish_version(lake, graph, target, now_ms, why, progress)


def publish_version(lake: Lake, graph: Graph, version: str, now_ms: int, why: str, progress: Progress) -> Published:
    """Readers are served this version, whole; the one before is kept for going back, the edges of all others go.

    `now_ms` is epoch milliseconds, `why` is kept with the pointer and in the lake. Whatever fails before the pointer is
    moved, readers keep the version that they had. CheckFailed rather than publish nothing or a part; LeaseLost if
    another publication began meanwhile.
    """
    edges = lake.read(EDGES, columns=EDGE, filters=[("version", "=", version)])
    if edges.num_rows == 0:
        raise CheckFailed(f"the lake holds no edges of similarity {version}; it is not published")
    writer = str(uuid.uuid4())
    graph.take_similarity(writer)
    current = graph.publication()
    moves = publications(lake)
    if current is not None:
        moves = record_published(lake, moves, current)  # who moved the pointer may have been killed before he told
    served = [] if current is None else [name for name in (current.version, current.previous) if name]
    graph.drop_similarity(keep=served, writer=writer)  # what an interrupted publication left
    written = graph.similarity_count(version, writer)
    if current is not None and current.version == version:
        return Published(version, current.previous, written, unchanged=True)

    if written != edges.num_rows:  # else it is the kept previous version, whole
        if written:
            graph.drop_similarity(keep=[name for name in served if name != version], writer=writer)
        graph.write_similarity(version, _in_order(edges, progress), writer)
        written = graph.similarity_count(version, writer)
    if written != edges.num_rows:
        raise CheckFailed(
            f"the graph took {written} of {edges.num_rows} edges of {version}: it lacks movies; run catalog_graph first"
        )
    graph.publish(version, now_ms, writer, why)
    previous = None if current is None else current.version
    record_published(lake, moves, Publication(version, previous, now_ms, why))
    graph.drop_similarity(keep=[version, *([previous] if previous else [])], writer=writer)
    return Published(version, previous, written, unchanged=False)


def _in_order(edges: pa.Table, progress: Progress) -> Iterator[SimilarityEdge]:
    """The edges by source, so that those which start at one movie are written together."""
    taken = 0
    in_order = edges.sort_by([("source_id", "ascending"), ("target_id", "ascending")])
    for batch in in_order.to_batches(max_chunksize=20_000):
        yield from zip(*(batch[name].to_pylist() for name in EDGE), strict=True)
        taken += batch.num_rows
        progress(taken, edges.num_rows)
