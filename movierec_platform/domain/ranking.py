"""What to recommend: the neighbours of what was seen, then what trends in its genres, then what is popular.

The score of a movie is the weighted sum of the similarity edges that lead to it from the history (item-based
k-nearest-neighbour scoring, Deshpande and Karypis 2004, section 4.2); `coincidencias` sums those edges' supports.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from movierec_platform.domain.catalogue import Catalogue, blocked_by
from movierec_platform.domain.neighbourhood import Bools, Floats, Indexes, Ints, Neighbourhood, indexes_of
from movierec_platform.domain.query_weights import query_weights
from movierec_platform.domain.selection import first_free, highest

Strategy = Literal["graph_cf", "session", "trending_in_genre", "popular"]

FAVOURITE_GENRES = 3


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What one user has seen, H movies by id ascending: movie_ids int64 (H,), ratings float64 (H,), nan for a view,
    seen_at_ms int64 (H,)."""

    movie_ids: Ints
    ratings: Floats
    seen_at_ms: Ints


def history_of(rows: Sequence[tuple[int, float | None, int]]) -> History:
    """The history of these (movie_id, rating or None, seen_at_ms), each movie once, in any order."""
    in_order = sorted(rows)
    return History(
        movie_ids=np.array([movie_id for movie_id, _, _ in in_order], dtype=np.int64),
        ratings=np.array([np.nan if rating is None else rating for _, rating, _ in in_order], dtype=np.float64),
        seen_at_ms=np.array([seen_at_ms for _, _, seen_at_ms in in_order], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """The known movies of a history: indexes int64 (K,), ascending, and weights float64 (K,), above 0.

    One order, so that float sums are reproducible.
    """

    seen: Ints
    weights: Floats


@dataclass(frozen=True, slots=True)
class Ranked:
    """One recommended movie. `score` compares within a strategy only: graph_cf and session sum edges,
    trending_in_genre is the trend, popular counts viewers."""

    index: int
    score: float
    coincidencias: int
    strategy: Strategy


def query_of(history: History, movies: Catalogue, weight_power: float = 1.0) -> Query:
    """What of this history can be ranked by, weighted by `query_weights`; unknown movies are left out."""
    index, known = indexes_of(movies.movie_ids, history.movie_ids)
    return Query(index[known], query_weights(history.ratings, weight_power)[known])


def cf_scores(query: Query, edges: Neighbourhood) -> Floats:
    """Each movie's score, (M,); 0 where no edge leads to it."""
    scores: Floats = _pull(edges.starts, edges.targets, edges.scores, query.seen, query.weights)
    return scores


def rank(
    scores: Floats,
    seen: Ints,
    movies: Catalogue,
    edges: Neighbourhood,
    limit: int,
    *,
    passes: Bools | None = None,
    include_seen: bool = False,
    favourites: Callable[[], Ints] | None = None,
    personal: Literal["graph_cf", "session"] = "graph_cf",
) -> list[Ranked]:
    """The first `limit` movies of the ladder, best first; fewer only when no more are allowed.

    First come the movies with a score (M,) above 0, labelled `personal`; then those that trend in one of the
    `favourites` (columns of genres, asked for if they matter); then the most viewed of the others. Ties: movie_id
    ascending. Neither a movie that is `seen` (indexes, ascending), unless they are included, nor one that does not pass
    is among them. What stands at a place does not depend on `limit`.
    """
    blocked = blocked_by(passes, movies)
    if not include_seen:
        blocked[seen] = True
    best = highest(scores, blocked, limit)
    supports = _supports(best, edges.in_starts, edges.in_sources, edges.in_edges, edges.supports, seen)
    ranked = [
        Ranked(index, score, support, personal)
        for index, score, support in zip(best.tolist(), scores[best].tolist(), supports.tolist(), strict=True)
    ]
    blocked[best] = True
    if len(ranked) < limit and favourites is not None and len(movies.trending):
        of_favourite = movies.trending[movies.genres[movies.trending][:, favourites()].any(axis=1)]
        free = first_free(of_favourite, blocked, limit - len(ranked))
        ranked += [Ranked(index, float(movies.trend[index]), 0, "trending_in_genre") for index in free.tolist()]
        blocked[free] = True
    if len(ranked) < limit:
        free = first_free(movies.popular, blocked, limit - len(ranked))
        ranked += [Ranked(index, float(movies.viewers[index]), 0, "popular") for index in free.tolist()]
    return ranked


def favourite_genres(query: Query, movies: Catalogue) -> Ints:
    """Columns of the genres with the most weight in the query, three at most; ties: by name. (0,) for no history."""
    weight = query.weights @ movies.genres[query.seen]
    return np.argsort(-weight, kind="stable")[: min(FAVOURITE_GENRES, np.count_nonzero(weight))]


def parts_of(index: int, query: Query, edges: Neighbourhood) -> list[tuple[int, float, float, int]]:
    """What leads to this movie: (index of a seen movie, its weight, the edge's score, its support), by index.

    The products of weight and score add up, in this order, to exactly the movie's score in `cf_scores`, and the
    supports to its `coincidencias`.
    """
    weight: Mapping[int, float] = dict(zip(query.seen.tolist(), query.weights.tolist(), strict=True))
    into = slice(edges.in_starts[index], edges.in_starts[index + 1])
    return [
        (source, weight[source], float(edges.scores[edge]), int(edges.supports[edge]))
        for source, edge in zip(edges.in_sources[into].tolist(), edges.in_edges[into].tolist(), strict=True)
        if source in weight
    ]


@njit(cache=True, nogil=True)
def _pull(starts: Ints, targets: Indexes, scores: Floats, seen: Ints, weights: Floats) -> Floats:
    pulled = np.zeros(len(starts) - 1, dtype=np.float64)
    for place in range(len(seen)):
        for edge in range(starts[seen[place]], starts[seen[place] + 1]):
            pulled[targets[edge]] += weights[place] * scores[edge]
    return pulled


@njit(cache=True, nogil=True)
def _supports(
    best: Ints, in_starts: Ints, in_sources: Indexes, in_edges: Indexes, supports: Indexes, seen: Ints
) -> Ints:
    """Of each of the best, the supports of the edges that lead to it from what was seen."""
    found = np.zeros(len(best), dtype=np.int64)
    for place in range(len(best)):
        for at in range(in_starts[best[place]], in_starts[best[place] + 1]):
            source = in_sources[at]
            nearest = np.searchsorted(seen, source)
            if nearest < len(seen) and seen[nearest] == source:
                found[place] += supports[in_edges[at]]
    return found
