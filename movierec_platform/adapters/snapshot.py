"""What the API serves: the published similarity and the catalogue, read from the lake once for each version.

The graph says which version is published; its edges come from the lake, because 450,000 of them take seconds over Bolt.
A snapshot never changes; the holder replaces it whole, so a request sees one version from beginning to end. It is kept
in files (see `snapshot_files`), so that several processes share its memory and only one of them reads the lake.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.snapshot_files import (
    FORMAT,
    Snapshot,
    drop_snapshot,
    newest_snapshot,
    read_snapshot,
    remove_others,
    write_snapshot,
    writing_snapshots,
)
from movierec_platform.domain.catalogue import Catalogue, catalogue
from movierec_platform.domain.interactions import visible
from movierec_platform.domain.neighbourhood import Bools, Floats, Ints, indexes_of, neighbourhood
from movierec_platform.domain.search import title_index
from movierec_platform.domain.trending import DAY_MS, KEPT_DAYS, views_by_day
from movierec_platform.errors import GraphUnavailable, LakeUnavailable, MovierecError, NotPublished, UsageError

log = logging.getLogger(__name__)

LOOK_SHARE = 0.05
"""Whether the lake's catalogue has changed is looked at for this share of the time at most."""
KEPT_S = 600.0
"""A snapshot's files stay this long after the next one's were written: another process may be about to map them."""
TABLES = ("movies", "popularity", "interactions", "ratings")

NOTHING_LOADED = "there is no catalogue yet: run `movierec load`"


def open_snapshot(lake: Lake, version: str | None, folder: Path, held: Snapshot | None = None) -> Snapshot:
    """The catalogue as it is in the lake and this version's edges, mapped from `folder`, written there if need be.

    It is `held` itself if that is still the one.

    Raises NotPublished when the catalogue or the version is not in the lake, LakeUnavailable when the lake does not
    answer or the files cannot be written.
    """
    name = name_of(lake, version)
    if held is not None and held.name == name:
        return held
    if (snapshot := read_snapshot(folder, name)) is not None:
        return snapshot
    try:
        with writing_snapshots(folder):
            return _written(lake, version, folder, name)
    except OSError as error:
        raise LakeUnavailable(f"the snapshot cannot be written to {folder}: {error}") from error


def _written(lake: Lake, version: str | None, folder: Path, name: str) -> Snapshot:
    """The snapshot of that name, by whoever held the turn before, or else from the lake."""
    if (snapshot := read_snapshot(folder, name)) is not None:
        return snapshot
    drop_snapshot(folder, name)  # one that a crash of the machine has damaged would be in the way
    write_snapshot(folder, _from_lake(lake, version, name))
    snapshot = read_snapshot(folder, name)
    if snapshot is None:
        raise LakeUnavailable(f"the snapshot {folder / name} cannot be read: look at its files and that disk")
    remove_others(folder, name, KEPT_S)
    return snapshot


def name_of(lake: Lake, version: str | None) -> str:
    """The name of the snapshot of this version, with a digest of which catalogue it has."""
    prints = [f"{table}={lake.fingerprint(table)}" for table in TABLES]
    if prints[0] == "movies=None":
        raise NotPublished(NOTHING_LOADED)
    digest = hashlib.sha256("\n".join([str(FORMAT), *prints]).encode()).hexdigest()[:12]
    return f"{version or 'popularity'}-{digest}"


def _from_lake(lake: Lake, version: str | None, name: str) -> Snapshot:
    edges = _edges(lake, version)
    rows = lake.read("movies", columns=["movie_id", "title", "year", "genres"]).sort_by("movie_id")
    if not rows.num_rows:
        raise NotPublished(NOTHING_LOADED)
    movie_ids = _ints(rows["movie_id"])
    seen_ids, seen_at_ms, viewers = _views(lake, movie_ids)
    movies = _catalogue(lake, movie_ids, rows, viewers)
    return Snapshot(
        name=name,
        version=version,
        movies=movies,
        edges=neighbourhood(
            movie_ids,
            _ints(edges["source_id"]),
            _ints(edges["target_id"]),
            edges["score"].to_numpy(),
            _ints(edges["support"]),
        ),
        titles=title_index(movies.titles, movies.years),
        views=views_by_day(movie_ids, seen_ids, seen_at_ms),
    )


class SnapshotHolder:
    """The snapshot of the published version; a thread looks for a newer one every `poll_s` seconds.

    A load that fails leaves the snapshot that was there. When only the lake's catalogue has changed it is loaded again
    too. Where the first look finds no lake, the newest snapshot of `folder` is served until it answers.
    """

    def __init__(
        self,
        graph: Graph,
        lake: Lake,
        folder: Path,
        poll_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._graph = graph
        self._lake = lake
        self._folder = folder
        self._poll_s = poll_s
        self._monotonic_s = monotonic_s
        self._snapshot: Snapshot | None = None
        self._why_none: MovierecError = NotPublished(NOTHING_LOADED)
        self._look_at_s = float("-inf")
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

        Raises NotPublished and LakeUnavailable as `open_snapshot` does; then the snapshot is what it was, or, where
        there was none, popularity only or what was served last.
        """
        version = self._published()
        held = self._snapshot
        started_s = self._monotonic_s()
        if held is not None and held.version == version and started_s < self._look_at_s:
            return
        try:
            self._snapshot = open_snapshot(self._lake, version, self._folder, held)
        except NotPublished:
            if held is None and version is not None:
                self._snapshot = open_snapshot(self._lake, None, self._folder)
            raise
        except LakeUnavailable:
            if held is None:
                self._snapshot = newest_snapshot(self._folder)
            raise
        now_s = self._monotonic_s()
        pa.default_memory_pool().release_unused()  # else Arrow keeps what the tables took for the next load
        self._look_at_s = now_s + (now_s - started_s) / LOOK_SHARE
        if held is None or held.name != self._snapshot.name:
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


def _views(lake: Lake, movie_ids: Ints) -> tuple[Ints, Ints, Ints]:
    """Ids of movies seen of late (N,) and when (N,), and how many users visibly saw each movie (M,).

    Of the lake's `interactions`, else (before the first nightly) of its `ratings`.
    """
    viewers = np.zeros(len(movie_ids), dtype=np.int64)
    latest_ms = 0
    recent: list[tuple[Ints, Ints]] = [(viewers[:0], viewers[:0])]
    for ids, at_ms in _seen(lake):
        index, known = indexes_of(movie_ids, ids)
        viewers += np.bincount(index[known], minlength=len(viewers))
        latest_ms = max(latest_ms, int(at_ms.max(initial=0)))
        late = at_ms > latest_ms - KEPT_DAYS * DAY_MS
        recent.append((ids[late], at_ms[late]))
    return np.concatenate([ids for ids, _ in recent]), np.concatenate([at_ms for _, at_ms in recent]), viewers


def _seen(lake: Lake) -> Iterator[tuple[Ints, Ints]]:
    """Movie ids and times of visible pairs, a batch at a time."""
    if lake.exists("interactions"):
        for batch in lake.batches("interactions", columns=["movie_id", "seen_at_ms", "retracted_at_ms"]):
            seen = batch.filter(visible(batch))
            yield seen["movie_id"].to_numpy(), seen["seen_at_ms"].to_numpy()
    elif lake.exists("ratings"):
        for batch in lake.batches("ratings", columns=["movie_id", "rated_at_ms"]):
            yield batch["movie_id"].to_numpy(), batch["rated_at_ms"].to_numpy()


def _catalogue(lake: Lake, movie_ids: Ints, rows: pa.Table, viewers: Ints) -> Catalogue:
    """The catalogue with what the lake's `popularity` says, where it has that; nothing trends without."""
    counts, means, trend = viewers, np.full(len(movie_ids), np.nan), np.zeros(len(movie_ids))
    if lake.exists("popularity"):
        popularity = lake.read("popularity", columns=["movie_id", "rating_count", "rating_mean", "trend"])
        popularity = popularity.sort_by("movie_id")
        index, known = indexes_of(_ints(popularity["movie_id"]), movie_ids)
        counts = _taken(popularity["rating_count"], index, known, 0.0).astype(np.int64)
        means = _taken(popularity["rating_mean"], index, known, np.nan)
        trend = _taken(popularity["trend"], index, known, 0.0)
    return catalogue(
        movie_ids,
        rows["title"].to_pylist(),
        rows["year"].to_pylist(),
        viewers,
        counts,
        means,
        trend,
        rows["genres"].to_pylist(),
    )


def _taken(column: pa.ChunkedArray, index: Ints, known: Bools, missing: float) -> Floats:
    """The column's value at each index, as floats; `missing` where it is not known."""
    values = np.full(len(index), missing)
    values[known] = column.to_numpy().astype(np.float64)[index[known]]
    return values


def _ints(column: pa.ChunkedArray) -> Ints:
    ids: Ints = column.to_numpy().astype(np.int64)
    return ids
