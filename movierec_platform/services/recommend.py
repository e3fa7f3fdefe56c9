"""Recommendations for a user, a session or a group: histories scored against the snapshot, filtered, explained."""

import random
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import orjson

from movierec_platform.adapters.snapshot import SnapshotHolder
from movierec_platform.adapters.snapshot_files import Snapshot
from movierec_platform.domain.catalogue import NO_FILTERS, Catalogue, Filters, allowed, blocked_by, genre_columns
from movierec_platform.domain.diversity import POOL, diversified
from movierec_platform.domain.explaining import Reasons, reasons
from movierec_platform.domain.groups import Aggregation, group_scores
from movierec_platform.domain.neighbourhood import Floats, Ints
from movierec_platform.domain.ranking import (
    History,
    Query,
    Ranked,
    Strategy,
    cf_scores,
    favourite_genres,
    history_of,
    query_of,
    rank,
)
from movierec_platform.errors import GraphUnavailable
from movierec_platform.services.histories import Histories

EVIDENCE_SHOWN = 3
"""Pieces of evidence beside each recommended movie; `because` has them all."""
NOTHING_SEEN = history_of([])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of which ranking: places `offset + 1` to `offset + n` of what passes the filters."""

    n: int = 10
    offset: int = 0
    filters: Filters = NO_FILTERS
    include_seen: bool = False
    diversity: float = 0.0
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One recommended movie, as the API shows it; `rank` starts at 1."""

    item_id: int
    title: str
    year: int | None
    genres: tuple[str, ...]
    score: float
    rank: int
    strategy: Strategy
    coincidencias: int


@dataclass(frozen=True, slots=True)
class ExplainedItem(Item):
    """The same with why it is there."""

    reasons: Reasons


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to one request.

    `strategy` is the first item's, `snapshot` the similarity version (None: none is published), `degraded` says that
    the graph did not answer: the history is an old one, or none, and the items are popular movies, perhaps seen ones.
    """

    recommendation_id: str
    user_id: int
    strategy: Strategy
    snapshot: str | None
    degraded: bool
    items: tuple[Item | ExplainedItem, ...]


@dataclass(frozen=True, slots=True)
class SessionRecommendation:
    """The answer to a session of which nobody knows whose it is; as `Recommendation`."""

    recommendation_id: str
    strategy: Strategy
    snapshot: str | None
    items: tuple[Item | ExplainedItem, ...]


@dataclass(frozen=True, slots=True)
class GroupRecommendation:
    """The answer to several users at once; as `Recommendation`, with scores from 0 to 1."""

    recommendation_id: str
    user_ids: tuple[int, ...]
    aggregation: Aggregation
    strategy: Strategy
    snapshot: str | None
    degraded: bool
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Because:
    """Everything of a user's history that leads to one movie; the parts of the evidence add up to `score`."""

    user_id: int
    item_id: int
    title: str
    score: float
    coincidencias: int
    snapshot: str | None
    degraded: bool
    reasons: Reasons


@dataclass(frozen=True, slots=True)
class SeenMovie:
    """One movie of a history; without a rating it was only viewed. The catalogue may lack it: then no title."""

    item_id: int
    title: str | None
    year: int | None
    genres: tuple[str, ...]
    rating: float | None
    seen_at_ms: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What a user has seen, latest first; `total` counts all of it."""

    user_id: int
    degraded: bool
    total: int
    items: tuple[SeenMovie, ...]


class Items(tuple[Item | ExplainedItem, ...]):
    """The items of an answer. Others are given the same: their JSON is made once."""

    @cached_property
    def json(self) -> bytes:
        """As an array of objects."""
        return orjson.dumps(tuple(self))


class _Answered:
    """The items of the last few answers without filters, each with the history and the snapshot that it follows from.

    Of the snapshot the name: an answer that held it would keep its files mapped. Thread-safe.
    """

    def __init__(self, most: int = 2_048) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[int, Wanted], tuple[str, History | None, Items]] = OrderedDict()

    def get(self, user_id: int, snapshot: Snapshot, history: History | None, wanted: Wanted) -> Items | None:
        if wanted.filters != NO_FILTERS:
            return None
        with self._lock:
            answer = self._answers.get((user_id, wanted))
            if answer is None or answer[0] != snapshot.name or answer[1] is not history:
                return None
            self._answers.move_to_end((user_id, wanted))
            return answer[2]

    def put(self, user_id: int, snapshot: Snapshot, history: History | None, wanted: Wanted, items: Items) -> None:
        if wanted.filters != NO_FILTERS:
            return
        with self._lock:
            self._answers[user_id, wanted] = (snapshot.name, history, items)
            self._answers.move_to_end((user_id, wanted))
            if len(self._answers) > self._most:
                self._answers.popitem(last=False)


class Recommender:
    """Recommends from one snapshot holder and the histories of one graph, weighted by `query_weights`; thread-safe.

    Every call raises NotPublished when no catalogue is loaded, and ImpossibleFilter for filters that none can pass.
    """

    def __init__(self, snapshots: SnapshotHolder, histories: Histories, query_weight_power: float = 1.0) -> None:
        self._snapshots = snapshots
        self._histories = histories
        self._query_weight_power = query_weight_power
        self._answered = _Answered()

    def recommend(self, user_id: int, wanted: Wanted) -> Recommendation:
        """The user's best unseen movies; popular ones when nothing is known of the user or the graph is down."""
        snapshot = self._snapshots.current()
        known = self._histories.of(user_id)
        items = self._answered.get(user_id, snapshot, known.history, wanted)
        if items is None:
            query = self._query(known.history or NOTHING_SEEN, snapshot.movies)
            ranked = _ladder(snapshot, cf_scores(query, snapshot.edges), query, wanted, "graph_cf")
            items = _items(snapshot, ranked, query, wanted)
            self._answered.put(user_id, snapshot, known.history, wanted, items)
        return Recommendation(
            recommendation_id=_new_id(),
            user_id=user_id,
            strategy=items[0].strategy if items else "popular",
            snapshot=snapshot.version,
            degraded=known.degraded,
            items=items,
        )

    def recommend_session(self, ratings: Mapping[int, float | None], wanted: Wanted) -> SessionRecommendation:
        """What goes with these movies, each with its rating or None for a view."""
        snapshot = self._snapshots.current()
        history = history_of([(movie_id, rating, 0) for movie_id, rating in ratings.items()])
        query = self._query(history, snapshot.movies)
        ranked = _ladder(snapshot, cf_scores(query, snapshot.edges), query, wanted, "session")
        return SessionRecommendation(
            recommendation_id=_new_id(),
            strategy=_strategy(ranked),
            snapshot=snapshot.version,
            items=_items(snapshot, ranked, query, wanted),
        )

    def recommend_group(self, user_ids: Sequence[int], aggregation: Aggregation, wanted: Wanted) -> GroupRecommendation:
        """What these users, each named once, would agree on; what one of them has seen is left out."""
        snapshot = self._snapshots.current()
        movies = snapshot.movies
        known = [self._histories.of(user_id) for user_id in user_ids]
        queries = [self._query(one.history or NOTHING_SEEN, movies) for one in known]
        all_of_them = _union(queries)
        blocked = blocked_by(allowed(movies, wanted.filters), movies)
        if not wanted.include_seen:
            blocked[all_of_them.seen] = True
        scores = group_scores(queries, snapshot.edges, blocked, aggregation)
        ranked = _ladder(snapshot, scores, all_of_them, wanted, "graph_cf")
        return GroupRecommendation(
            recommendation_id=_new_id(),
            user_ids=tuple(user_ids),
            aggregation=aggregation,
            strategy=_strategy(ranked),
            snapshot=snapshot.version,
            degraded=any(one.degraded for one in known),
            items=_items(snapshot, ranked, all_of_them, Wanted(wanted.n, wanted.offset)),
        )

    def because(self, user_id: int, movie_id: int) -> Because:
        """Why the user is or would be recommended this movie. NotFound if the catalogue lacks it."""
        snapshot = self._snapshots.current()
        index = snapshot.movies.known_index_of(movie_id)
        known = self._histories.of(user_id)
        query = self._query(known.history or NOTHING_SEEN, snapshot.movies)
        score = float(cf_scores(query, snapshot.edges)[index])
        found = reasons(Ranked(index, score, 0, "graph_cf"), query, snapshot.movies, snapshot.edges)
        return Because(
            user_id=user_id,
            item_id=movie_id,
            title=snapshot.movies.titles[index],
            score=score,
            coincidencias=sum(one.support for one in found.evidence),
            snapshot=snapshot.version,
            degraded=known.degraded,
            reasons=found,
        )

    def history(self, user_id: int, n: int, offset: int) -> HistoryPage:
        """A page of what the user has seen. GraphUnavailable if that cannot be known and nothing old is held."""
        snapshot = self._snapshots.current()
        known = self._histories.of(user_id)
        if known.history is None:
            raise GraphUnavailable("the graph does not answer")
        history = known.history
        order = np.lexsort((history.movie_ids, -history.seen_at_ms))[offset : offset + n]
        return HistoryPage(
            user_id=user_id,
            degraded=known.degraded,
            total=len(history.movie_ids),
            items=tuple(_seen(snapshot, history, int(place)) for place in order),
        )

    def _query(self, history: History, movies: Catalogue) -> Query:
        return query_of(history, movies, self._query_weight_power)


def _ladder(
    snapshot: Snapshot, scores: Floats, query: Query, wanted: Wanted, personal: Literal["graph_cf", "session"]
) -> list[Ranked]:
    """What is wanted of the ladder."""
    movies = snapshot.movies
    limit = wanted.offset + wanted.n

    def favourites() -> Ints:
        of_history = favourite_genres(query, movies)
        return of_history if len(of_history) else genre_columns(movies, wanted.filters.genres)

    ranked = rank(
        scores,
        query.seen,
        movies,
        snapshot.edges,
        max(limit, POOL) if wanted.diversity else limit,
        passes=allowed(movies, wanted.filters),
        include_seen=wanted.include_seen,
        favourites=favourites,
        personal=personal,
    )
    if wanted.diversity:
        ranked = diversified(ranked, movies, wanted.diversity, limit)
    return ranked[wanted.offset : limit]


def _items(snapshot: Snapshot, ranked: Sequence[Ranked], query: Query, wanted: Wanted) -> Items:
    movies = snapshot.movies
    items: list[Item | ExplainedItem] = []
    for place, one in enumerate(ranked, wanted.offset + 1):
        shown = (*movies.described(one.index), one.score, place, one.strategy, one.coincidencias)
        if wanted.explain:
            items.append(ExplainedItem(*shown, reasons(one, query, movies, snapshot.edges, EVIDENCE_SHOWN)))
        else:
            items.append(Item(*shown))
    return Items(items)


def _seen(snapshot: Snapshot, history: History, place: int) -> SeenMovie:
    movies, movie_id = snapshot.movies, int(history.movie_ids[place])
    index = movies.index_of(movie_id)
    rating = float(history.ratings[place])
    seen = (None if np.isnan(rating) else rating, int(history.seen_at_ms[place]))
    if index is None:
        return SeenMovie(movie_id, None, None, (), *seen)
    return SeenMovie(*movies.described(index), *seen)


def _union(queries: Sequence[Query]) -> Query:
    """Everything that one of them has seen, with the sum of its weights."""
    seen, place = np.unique(np.concatenate([one.seen for one in queries]), return_inverse=True)
    weights = np.bincount(place, weights=np.concatenate([one.weights for one in queries]), minlength=len(seen))
    return Query(seen, weights.astype(np.float64))


def _strategy(ranked: Sequence[Ranked]) -> Strategy:
    return ranked[0].strategy if ranked else "popular"


def _new_id() -> str:
    # Names an answer and is no secret: without a system call.
    return f"{random.getrandbits(128):032x}"
