"""Recommendations for one user: fresh history from the graph, scored against the snapshot held in memory."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass

from movierec_platform.adapters.graph import Graph, Watched
from movierec_platform.adapters.snapshot import Snapshot, SnapshotHolder
from movierec_platform.domain.ranking import Ranked, Strategy, query_weight, rank
from movierec_platform.errors import GraphUnavailable, UsageError

log = logging.getLogger(__name__)

HISTORY_TIMEOUT_S = 2.0
RETRY_GRAPH_AFTER_S = 2.0


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
class Recommendation:
    """The answer to one request.

    `strategy` is the first item's, `snapshot` the similarity version (None: none is published), `degraded` says that
    the graph did not answer, so that the items are popular movies, seen ones perhaps among them.
    """

    recommendation_id: str
    user_id: int
    strategy: Strategy
    snapshot: str | None
    degraded: bool
    items: tuple[Item, ...]


class Circuit:
    """Whether to ask a dependency at all: after a failure nobody does for `retry_after_s`, then one caller tries."""

    def __init__(self, retry_after_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._retry_after_s = retry_after_s
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._ask_again_at_s: float | None = None

    def may_ask(self) -> bool:
        """True when the last answer was good; else for one caller every `retry_after_s`."""
        if self._ask_again_at_s is None:
            return True
        with self._lock:
            now_s = self._monotonic_s()
            if self._ask_again_at_s is None or now_s < self._ask_again_at_s:
                return self._ask_again_at_s is None
            self._ask_again_at_s = now_s + self._retry_after_s
            return True

    def succeeded(self) -> None:
        """Everybody may ask."""
        if self._ask_again_at_s is not None:
            with self._lock:
                self._ask_again_at_s = None

    def failed(self) -> None:
        """Nobody asks for `retry_after_s`."""
        with self._lock:
            self._ask_again_at_s = self._monotonic_s() + self._retry_after_s


class Recommender:
    """Recommends from one graph and one snapshot holder; thread-safe.

    A graph that does not answer within `history_timeout_s` is taken for down, and asked again every couple of seconds.
    """

    def __init__(
        self,
        graph: Graph,
        snapshots: SnapshotHolder,
        *,
        threads: int = 16,
        history_timeout_s: float = HISTORY_TIMEOUT_S,
        retry_graph_after_s: float = RETRY_GRAPH_AFTER_S,
    ) -> None:
        self._graph = graph
        self._snapshots = snapshots
        self._history_timeout_s = history_timeout_s
        self._circuit = Circuit(retry_graph_after_s)
        # The driver has no read timeout: a graph that hangs would hold a request for ever. Here it holds one of these.
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="history")

    def close(self) -> None:
        """No more recommendations; a call in flight is not waited for."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def recommend(self, user_id: int, n: int) -> Recommendation:
        """The user's n best unseen movies; popular ones when nothing is known of the user or the graph is down.

        Raises NotPublished when no catalogue is loaded.
        """
        snapshot = self._snapshots.current()
        history = self._history(user_id)
        weights = {watched.movie_id: query_weight(watched.rating) for watched in history or ()}
        ranked = rank(weights, snapshot.movies, n)
        return Recommendation(
            recommendation_id=uuid.uuid4().hex,
            user_id=user_id,
            strategy=ranked[0].strategy if ranked else "popular",
            snapshot=snapshot.version,
            degraded=history is None,
            items=tuple(_item(one, place, snapshot) for place, one in enumerate(ranked, 1)),
        )

    def _history(self, user_id: int) -> list[Watched] | None:
        """What the user has seen; None when the graph does not answer."""
        if not self._circuit.may_ask():
            return None
        reading = self._readers.submit(self._graph.history, user_id)
        try:
            history = reading.result(self._history_timeout_s)
        except (GraphUnavailable, UsageError, TooSlow) as error:
            reading.cancel()
            self._circuit.failed()
            why = str(error) or f"no answer within {self._history_timeout_s:g} s"
            log.warning("recommending without history, the graph does not answer: %s", why)
            return None
        self._circuit.succeeded()
        return history


def _item(ranked: Ranked, place: int, snapshot: Snapshot) -> Item:
    return Item(
        item_id=ranked.movie_id,
        title=snapshot.titles[ranked.index],
        year=snapshot.years[ranked.index],
        genres=snapshot.genres[ranked.index],
        score=ranked.score,
        rank=place,
        strategy=ranked.strategy,
        coincidencias=ranked.coincidencias,
    )
