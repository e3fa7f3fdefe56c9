"""Movies: one, those like it, what is popular, what is watched of late, and those whose title somebody types."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from movierec_platform.adapters.snapshot import SnapshotHolder
from movierec_platform.adapters.snapshot_files import Snapshot
from movierec_platform.domain.catalogue import Catalogue, Filters, allowed, blocked_by
from movierec_platform.domain.search import search
from movierec_platform.domain.selection import first_free, highest
from movierec_platform.domain.trending import trend_scores
from movierec_platform.errors import NotPublished, Transient
from movierec_platform.services.circuit import Circuit

RETRY_GRAPH_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Movie:
    """A movie of the catalogue, and how it is rated; the counts are those of the last nightly."""

    item_id: int
    title: str
    year: int | None
    genres: tuple[str, ...]
    viewers: int
    rating_count: int
    rating_mean: float | None


@dataclass(frozen=True, slots=True)
class ScoredMovie(Movie):
    """One of a list; `rank` starts at 1, and what the score is the list says."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class SimilarMovie(ScoredMovie):
    """One that a movie leads to; `support` users saw both."""

    support: int


@dataclass(frozen=True, slots=True)
class MovieList:
    """Movies, the first ones first, as of this snapshot (None: no similarity is published)."""

    snapshot: str | None
    items: tuple[ScoredMovie, ...]


@dataclass(frozen=True, slots=True)
class SimilarMovies:
    """Movies that this one leads to, by the published similarity."""

    item_id: int
    title: str
    snapshot: str | None
    items: tuple[SimilarMovie, ...]


class Movies:
    """Answers from one snapshot holder; thread-safe. Every call raises NotPublished when no catalogue is loaded."""

    def __init__(self, snapshots: SnapshotHolder, known_to_graph: Callable[[Collection[int]], Collection[int]]) -> None:
        """`known_to_graph`: those of these movies that the graph has. Raises Transient while it does not answer."""
        self._snapshots = snapshots
        self._known_to_graph = known_to_graph
        self._graph_circuit = Circuit(RETRY_GRAPH_AFTER_S)

    def unknown(self, movie_ids: Collection[int]) -> frozenset[int]:
        """Those of these movies whose events the graph ingest refuses now. Never raises.

        The snapshot may lack what was just loaded, so the graph is asked for what it lacks; while the graph does not
        answer, nothing is called unknown.
        """
        try:
            catalogue = self._snapshots.current(wait_s=0).movies
            left = {one for one in movie_ids if catalogue.index_of(one) is None}
        except (NotPublished, Transient):
            left = set(movie_ids)
        if not left or not self._graph_circuit.may_ask():
            return frozenset()
        try:
            unknown = left.difference(self._known_to_graph(left))
        except Transient:
            self._graph_circuit.failed()
            return frozenset()
        self._graph_circuit.succeeded()
        return frozenset(unknown)

    def genres(self) -> tuple[str, ...]:
        """Those that movies of the catalogue are of, in alphabetical order."""
        return self._snapshots.current().movies.genre_names

    def movie(self, movie_id: int) -> Movie:
        """The movie. NotFound if the catalogue lacks it."""
        snapshot = self._snapshots.current()
        return Movie(*_shown(snapshot.movies, snapshot.movies.known_index_of(movie_id)))

    def similar(self, movie_id: int, n: int, offset: int) -> SimilarMovies:
        """The movies that its similarity edges lead to, by score, ties by id. NotFound as `movie`."""
        snapshot = self._snapshots.current()
        index = snapshot.movies.known_index_of(movie_id)
        edges = snapshot.edges
        out = slice(int(edges.starts[index]), int(edges.starts[index + 1]))
        targets, scores, supports = edges.targets[out], edges.scores[out], edges.supports[out]
        order = np.argsort(-scores, kind="stable")[offset : offset + n]
        return SimilarMovies(
            item_id=movie_id,
            title=snapshot.movies.titles[index],
            snapshot=snapshot.version,
            items=tuple(
                SimilarMovie(*_shown(snapshot.movies, int(targets[at])), float(scores[at]), place, int(supports[at]))
                for place, at in enumerate(order.tolist(), offset + 1)
            ),
        )

    def popular(self, filters: Filters, n: int, offset: int) -> MovieList:
        """The most viewed movies that pass the filters; the score counts viewers."""
        snapshot = self._snapshots.current()
        movies = snapshot.movies
        blocked = blocked_by(allowed(movies, filters), movies)
        found = first_free(movies.popular, blocked, offset + n)[offset:]
        return _list(snapshot, [(index, float(movies.viewers[index])) for index in found.tolist()], offset)

    def trending(self, window_days: int, half_life_days: float, filters: Filters, n: int, offset: int) -> MovieList:
        """The movies most watched in the days before the lake's last view, each view halved per half-life.

        The score is that sum. Movies that nobody watched in these days are not among them.
        """
        snapshot = self._snapshots.current()
        movies = snapshot.movies
        blocked = blocked_by(allowed(movies, filters), movies)
        scores = trend_scores(snapshot.views, len(movies.movie_ids), window_days, half_life_days)
        found = highest(scores, blocked, offset + n)[offset:]
        return _list(snapshot, [(index, float(scores[index])) for index in found.tolist()], offset)

    def search(self, text: str, n: int, offset: int) -> MovieList:
        """The movies whose titles are most like the text; the score is the match, from 0.5 to 1."""
        snapshot = self._snapshots.current()
        found = search(text, snapshot.titles, snapshot.movies, offset + n)[offset:]
        return _list(snapshot, found, offset)


def _list(snapshot: Snapshot, found: Sequence[tuple[int, float]], offset: int) -> MovieList:
    movies = snapshot.movies
    items = (
        ScoredMovie(*_shown(movies, index), score, place) for place, (index, score) in enumerate(found, offset + 1)
    )
    return MovieList(snapshot.version, tuple(items))


def _shown(movies: Catalogue, index: int) -> tuple[int, str, int | None, tuple[str, ...], int, int, float | None]:
    """The fields of a Movie."""
    mean = float(movies.rating_means[index])
    return (
        *movies.described(index),
        int(movies.viewers[index]),
        int(movies.rating_counts[index]),
        None if np.isnan(mean) else mean,
    )
