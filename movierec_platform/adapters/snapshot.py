"""What the API serves from memory: the published similarity and the catalogue, read from the lake with pyarrow.

The graph says which version is published; its edges come from the lake, because 450,000 of them take seconds over Bolt.
A snapshot never changes; the holder replaces it whole, so a request sees one version from beginning to end.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.domain.ranking import Ints, Neighbourhood, neighbourhood
from movierec_platform.errors import GraphUnavailable, MovierecError, NotPublished, UsageError

log = logging.getLogger(__name__)

LOAD_SHARE = 0.05
"""While nothing is published the catalogue is read again and again, for this share of the time at most."""

NOTHING_LOADED = "there is no catalogue yet: run `movierec load`"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The catalogue by movie index, and the similarity `version`; None: popularity only, nothing is published."""

    version: str | None
    movies: Neighbourhood
    titles: tuple[str, ...]
    years: tuple[int | None, ...]
    genres: tuple[tuple[str, ...], ...]


def load_snapshot(lake: Lake, version: str | None) -> Snapshot:
    """The catalogue and this version's edges.

    Popularity is the plain number of users who have visibly seen a movie, by the lake's `interactions`, else (before
    the first nightly) by its `ratings`. Raises NotPublished when the catalogue or the version is not in the lake,
    LakeUnavailable when the lake does not answer.
    """
    if not lake.exists("movies"):
        raise NotPublished(NOTHING_LOADED)
    edges = _edges(lake, version)
    catalogue = lake.read("movies", columns=["movie_id", "title", "year", "genres"]).sort_by("movie_id")
    movie_ids = _ints(catalogue["movie_id"])
    if not len(movie_ids):
        raise NotPublished(NOTHING_LOADED)
    return Snapshot(
        version=version,
        movies=neighbourhood(
            movie_ids,
            _viewers(lake, movie_ids),
            _ints(edges["source_id"]),
            _ints(edges["target_id"]),
            edges["score"].to_numpy(),
            _ints(edges["support"]),
        ),
        titles=tuple(catalogue["title"].to_pylist()),
        years=tuple(catalogue["year"].to_pylist()),
        genres=_shared(catalogue["genres"]),
    )


class SnapshotHolder:
    """The snapshot of the published version; a thread looks for a newer one every `poll_s` seconds.

    A load that fails leaves the snapshot that was there. While nothing is published, the catalogue is loaded again as
    it grows.
    """

    def __init__(
        self, graph: Graph, lake: Lake, poll_s: float, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._graph = graph
        self._lake = lake
        self._poll_s = poll_s
        self._monotonic_s = monotonic_s
        self._snapshot: Snapshot | None = None
        self._why_none: MovierecError = NotPublished(NOTHING_LOADED)
        self._reload_at_s = float("-inf")
        self._looked = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="snapshot", daemon=True)

    def start(self) -> None:
        """The thread looks for the first time, and then on and on."""
        self._thread.start()

    def close(self) -> None:
        """The thread stops after the load that it may be in."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._poll_s)

    def current(self, wait_s: float = 5.0) -> Snapshot:
        """The snapshot to answer from; waits for the first look only.

        Raises NotPublished when nothing is loaded, LakeUnavailable when it cannot be known.
        """
        if self._snapshot is None:
            self._looked.wait(wait_s)
        snapshot = self._snapshot
        if snapshot is None:
            raise type(self._why_none)(str(self._why_none))
        return snapshot

    def refresh(self) -> None:
        """The snapshot is that of the published version.

        Raises NotPublished and LakeUnavailable as `load_snapshot` does; then the snapshot is what it was, or, where
        there was none and the lake has a catalogue, popularity only.
        """
        version = self._published()
        held = self._snapshot
        if held is not None and held.version == version and (version or self._monotonic_s() < self._reload_at_s):
            return
        started_s = self._monotonic_s()
        try:
            self._snapshot = load_snapshot(self._lake, version)
        except NotPublished:
            if held is None and version is not None:
                self._snapshot = load_snapshot(self._lake, None)
            raise
        now_s = self._monotonic_s()
        pa.default_memory_pool().release_unused()  # else Arrow keeps what the tables took for the next load
        self._reload_at_s = now_s + (now_s - started_s) / LOAD_SHARE
        if held is None or held.version != version:
            log.info("serving similarity %s", version or "none: popularity only")

    def _published(self) -> str | None:
        """The published version; when the graph is down or refuses us, the one that is held."""
        try:
            publication = self._graph.publication()
        except (GraphUnavailable, UsageError):
            return self._snapshot.version if self._snapshot else None
        return publication.version if publication else None

    def _poll(self) -> None:
        said: type[MovierecError] | None = None
        while not self._closing.is_set():
            try:
                self.refresh()
                said = None
            except MovierecError as error:
                self._why_none = error
                if said is not type(error):  # once, not every other second; S3 puts a request id in each message
                    said = type(error)
                    log.warning("no newer snapshot: %s", error)
            except Exception:  # the outermost edge of this thread: without it the snapshot would grow old unnoticed
                log.exception("no newer snapshot, by a defect")
            self._looked.set()
            self._closing.wait(self._poll_s)


def _edges(lake: Lake, version: str | None) -> pa.Table:
    names = ["source_id", "target_id", "score", "support"]
    if version is None:
        ids = pa.array([], pa.int64())
        return pa.table([ids, ids, pa.array([], pa.float64()), ids], names=names)
    if not lake.exists("similarity"):
        raise NotPublished(f"similarity {version} is published but the lake has no similarity: run `movierec nightly`")
    edges = lake.read("similarity", columns=names, filters=[("version", "=", version)])
    if not edges.num_rows:
        raise NotPublished(f"similarity {version} is published but not in the lake: run `movierec nightly`")
    return edges


def _viewers(lake: Lake, movie_ids: Ints) -> Ints:
    """Users who visibly saw each movie, int64 (M,)."""
    if lake.exists("interactions"):
        pairs = lake.read("interactions", columns=["movie_id", "seen_at_ms", "retracted_at_ms"])
        never = pa.scalar(-1, pa.int64())
        seen, retracted = (pc.fill_null(pairs[name], never) for name in ("seen_at_ms", "retracted_at_ms"))
        seen_ids = pairs.filter(pc.greater(seen, retracted))["movie_id"]
    elif lake.exists("ratings"):
        seen_ids = lake.read("ratings", columns=["movie_id"])["movie_id"]
    else:
        return np.zeros(len(movie_ids), dtype=np.int64)
    counted = pc.value_counts(seen_ids.combine_chunks())
    counts = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    return np.array([counts.get(movie_id, 0) for movie_id in movie_ids.tolist()], dtype=np.int64)


def _ints(column: pa.ChunkedArray) -> Ints:
    ids: Ints = column.to_numpy().astype(np.int64)
    return ids


def _shared(genres: pa.ChunkedArray) -> tuple[tuple[str, ...], ...]:
    """Each movie's genres; movies of the same genres share one tuple."""
    seen: dict[Any, tuple[str, ...]] = {}
    return tuple(seen.setdefault(one, one) for one in (tuple(names or ()) for names in genres.to_pylist()))
