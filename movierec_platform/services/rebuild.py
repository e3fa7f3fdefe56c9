"""Makes the whole graph from the lake, in an empty database, as it is now or as it would have been at a moment.

What it writes is the state at `as_of_ms`: without a moment given, that of its first start. It can be killed at any
time and run again: how far it is stands in the graph. Nothing else may write the graph meanwhile, which the caller sees
to by holding the lease of the graph ingest. So events that land during a rebuild wait in the queue and go in after it.
Those that the ingest took between an interruption and the next start may be missing afterwards: `verify` finds them,
and `repair` or a `replay` since `as_of_ms` brings them.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from movierec_platform.adapters.graph_bulk import BulkGraph, Reconstruction, open_bulk
from movierec_platform.adapters.graph_similarity import Publication, SimilarityEdge
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.leases import open_lease
from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.config import Settings
from movierec_platform.domain.interactions import pair_states
from movierec_platform.errors import CheckFailed, Conflict, LeaseHeld
from movierec_platform.services.catalog import catalog_rows
from movierec_platform.services.fold import fold_everything
from movierec_platform.services.publish import publishing
from movierec_platform.services.turns import writing_in_bulk
from movierec_platform.services.versions import EDGE, EDGES, edge_batches, held_versions, publications

Progress = Callable[[str, int, int], None]
"""Told (what is written, how much of it, of how much)."""


WRITER = ("clean", 0)
"""The slot whose lease the one writer of ratings holds."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The graph as it stands now."""

    as_of_ms: int
    movies: int
    users: int
    pairs: int
    version: str | None
    """The published similarity; None: the lake has none from before that moment."""
    previous: str | None
    similarity_edges: int
    resumed: bool
    way: str


def rebuild(
    settings: Settings,
    as_of_ms: int | None,
    now_ms: Callable[[], int],
    progress: Progress,
    on_wait: Callable[[str], None] = lambda message: None,
    pairs_at_once: int | None = None,
) -> Rebuilt:
    """`rebuild_graph` of what the settings name, while the graph ingest rests and nobody publishes a similarity.

    Conflict if one of the two does not pause.
    """
    wait_s = settings.drain_linger_s + settings.drain_grace_s
    with ExitStack() as held, open_bulk(settings) as graph:
        lease, owner = open_lease(settings, *WRITER), f"rebuild-{uuid.uuid4()}"
        try:
            held.enter_context(lease.held(owner, timeout_s=0))
        except LeaseHeld:
            on_wait("the graph ingest is at work: waiting until it has nothing to do")
            try:
                held.enter_context(lease.held(owner, timeout_s=wait_s))
            except LeaseHeld:
                raise Conflict(
                    f"the graph ingest did not rest within {wait_s:g} s: stop its sensor in Dagster, or what posts "
                    "events, and run this again"
                ) from None
        held.enter_context(writing_in_bulk(settings, on_wait))
        held.enter_context(publishing(settings, on_wait=on_wait))
        lake, objects = Lake(settings), open_objects(settings)
        # "Now" comes after the last write of the ingest: whatever that took is part of it.
        return rebuild_graph(lake, objects, graph, as_of_ms, now_ms(), progress, pairs_at_once or graph.pairs_at_once)


def rebuild_graph(
    lake: Lake,
    objects: ObjectStore,
    graph: BulkGraph,
    as_of_ms: int | None,
    now_ms: int,
    progress: Progress,
    pairs_at_once: int,
) -> Rebuilt:
    """The graph is whole, with its constraints, as of then (epoch ms) or as of now.

    Conflict if something else stands in it, or a rebuild of another moment that was interrupted.
    """
    then, resumed = _begin(lake, graph, as_of_ms, now_ms)
    graph.prepare()
    if not then.movies:
        then = _write_catalogue(lake, graph, then, progress)
    if not then.users_done:
        graph.drop_users_after(then.last_user_id)
        tables = whole_users(fold_everything(lake, objects, then.as_of_ms), pairs_at_once)
        then = write_users(tables, graph, then, progress)
    publication = publication_at(lake, then.as_of_ms)
    versions = versions_of(publication)
    if set(versions) - set(then.versions):
        graph.drop_similarity(keep=then.versions)
    for version in versions:
        if version not in then.versions:
            then = _write_similarity(lake, graph, version, then, progress)
    graph.finish(publication)
    return Rebuilt(
        as_of_ms=then.as_of_ms,
        movies=then.movies,
        users=then.users,
        pairs=then.pairs,
        version=publication.version if publication else None,
        previous=publication.previous if publication else None,
        similarity_edges=graph.similarity_count(publication.version) if publication else 0,
        resumed=resumed,
        way=graph.way,
    )


def publication_at(lake: Lake, as_of_ms: int) -> Publication | None:
    """What readers used then, and what before it, by what the lake holds of that still; None: nothing of it.

    The lake keeps the newest few versions: of a moment before all of them it has none.
    """
    moves = [one for one in publications(lake) if one.published_at_ms <= as_of_ms]
    held = held_versions(lake)
    if not moves or moves[-1].version not in held:
        return None
    return moves[-1] if moves[-1].previous in held else replace(moves[-1], previous=None)


def versions_of(publication: Publication | None) -> list[str]:
    """The versions that it names, the published one last."""
    return [] if publication is None else [one for one in (publication.previous, publication.version) if one]


def whole_users(tables: Iterable[pa.Table], pairs: int) -> Iterator[pa.Table]:
    """The rows of these tables again, which hold whole users: about `pairs` of them in each, and whole users."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(one.num_rows for one in held) < pairs:
            continue
        whole = pa.concat_tables(held).combine_chunks()
        start = 0
        while whole.num_rows - start >= pairs:
            end = start + pairs
            last = whole["user_id"][end - 1]
            while end < whole.num_rows and whole["user_id"][end] == last:
                end += 1
            yield whole.slice(start, end - start)
            start = end
        held = [whole.slice(start)]
    if held:
        yield pa.concat_tables(held)


def movies_of(lake: Lake, as_of_ms: int) -> tuple[pa.Table, pa.Table]:
    """(movies, their popularity) as of then. CheckFailed if the lake had none of them yet."""
    for table in ("movies", "popularity"):
        if not lake.exists(table, as_of_ms):
            raise CheckFailed(f"the lake had no table {table} at that time: `movierec load` makes it")
    return lake.read("movies", as_of_ms=as_of_ms), lake.read("popularity", as_of_ms=as_of_ms)


def write_users(
    tables: Iterable[pa.Table], graph: BulkGraph, then: Reconstruction, progress: Progress
) -> Reconstruction:
    """All users of these tables (whole users, ascending) stand in the graph; those up to `last_user_id` did before."""
    for rows in tables:
        rows = rows.filter(pc.greater(rows["user_id"], then.last_user_id))
        if rows.num_rows:
            then = replace(
                then,
                last_user_id=rows["user_id"][-1].as_py(),
                users=then.users + len(rows["user_id"].unique()),
                pairs=then.pairs + rows.num_rows,
            )
            graph.create_users(list(pair_states(rows)), then)
            progress("pairs", then.pairs, max(then.pairs, then.expected_pairs))
    then = replace(then, users_done=True)
    graph.note(then)
    return then


def _begin(lake: Lake, graph: BulkGraph, as_of_ms: int | None, now_ms: int) -> tuple[Reconstruction, bool]:
    """How far the rebuild of this moment is, and whether it had been begun before."""
    begun = graph.reconstruction()
    if begun is None:
        if nodes := graph.nodes_by_label():
            counted = ", ".join(f"{count} {label}" for label, count in nodes.items())
            raise Conflict(
                f"the graph is not empty ({counted}): a rebuild makes it in an empty database. Name a new one by "
                "NEO4J_DATABASE, or empty this one (MATCH (n) DETACH DELETE n); of a local stack, stop it and remove "
                "the folder graph in its home (neo4j/data, if it runs Neo4j)"
            )
        begun = Reconstruction(now_ms if as_of_ms is None else as_of_ms, as_of_given=as_of_ms is not None)
        movies_of(lake, begun.as_of_ms)  # nothing is begun that cannot be made
        graph.note(begun)
        return begun, False
    if begun.as_of_given != (as_of_ms is not None) or as_of_ms not in (None, begun.as_of_ms):
        moment = datetime.fromtimestamp(begun.as_of_ms / 1000, tz=timezone.utc).isoformat().replace("+00:00", "Z")
        finish = f"with --as-of {moment}" if begun.as_of_given else "without --as-of"
        raise Conflict(
            f"the graph holds an interrupted rebuild as of {moment}: finish it {finish}, or empty the database first"
        )
    return begun, True


def _write_catalogue(lake: Lake, graph: BulkGraph, then: Reconstruction, progress: Progress) -> Reconstruction:
    movies, popularity = movies_of(lake, then.as_of_ms)
    written = 0
    for rows in catalog_rows(movies, popularity):
        graph.merge_movies(rows)
        written += len(rows)
        progress("movies", written, movies.num_rows)
    then = replace(then, movies=written, expected_pairs=pc.sum(popularity["seen_count"]).as_py() or 0)
    graph.note(then)
    return then


def _write_similarity(
    lake: Lake, graph: BulkGraph, version: str, then: Reconstruction, progress: Progress
) -> Reconstruction:
    total = sum(batch.num_rows for batch in lake.batches(EDGES, columns=["rank"], where=ds.field("version") == version))
    written = graph.write_similarity(version, _told(edge_batches(lake, version), total, progress))
    if written != total:
        raise CheckFailed(f"similarity {version} has edges of movies that were not in the lake's table movies then")
    then = replace(then, versions=(*then.versions, version))
    graph.note(then)
    return then


def _told(batches: Iterable[pa.RecordBatch], total: int, progress: Progress) -> Iterator[SimilarityEdge]:
    taken = 0
    for batch in batches:
        yield from zip(*(batch[name].to_pylist() for name in EDGE), strict=True)
        taken += batch.num_rows
        progress("similarity edges", taken, total)
