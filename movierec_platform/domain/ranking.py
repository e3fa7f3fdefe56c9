"""What to recommend to one user: the neighbours of what they saw, then what is popular. Pure numpy.

The score of a movie is the weighted sum of the similarity edges that lead to it from the user's history (item-based
k-nearest-neighbour scoring, Deshpande and Karypis 2004, section 4.2); `coincidencias` sums those edges' supports.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Strategy = Literal["graph_cf", "popular"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_RATING = 5.0
UNRATED_WEIGHT = 0.7
"""A view without a rating counts like a rating of 3.5, about the mean of MovieLens."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """The movies by index, and each one's outgoing similarity edges (compressed sparse rows by source).

    M movies and E edges; read-only arrays.

    - movie_ids: int64 (M,), ascending, so that the order of indexes is the order of ids.
    - viewers: int64 (M,), users who visibly saw the movie.
    - popular: int32 (M,), indexes by viewers descending, then movie_id ascending.
    - starts: int64 (M + 1,); the edges of source `s` are `starts[s]:starts[s + 1]`, by target ascending.
    - targets: int32 (E,), indexes. scores: float64 (E,), above 0. supports: int32 (E,), users who saw both.
    """

    movie_ids: Ints
    viewers: Ints
    popular: NDArray[np.int32]
    starts: Ints
    targets: NDArray[np.int32]
    scores: Floats
    supports: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One recommended movie. `score` compares within a strategy only: graph_cf sums edges, popular counts viewers."""

    index: int
    movie_id: int
    score: float
    coincidencias: int
    strategy: Strategy


def neighbourhood(
    movie_ids: Ints, viewers: Ints, source_ids: Ints, target_ids: Ints, scores: Floats, supports: Ints
) -> Neighbourhood:
    """The arrays that `rank` reads.

    `movie_ids` int64 (M,), ascending and unique, with `viewers` (M,) beside it; the other four, (E,), are edges in
    any order. An edge whose source or target is not in `movie_ids`, or whose score is not above 0, is left out.
    """
    source, source_known = _indexes(movie_ids, source_ids)
    target, target_known = _indexes(movie_ids, target_ids)
    kept = source_known & target_known & (scores > 0)
    source, target, scores, supports = source[kept], target[kept], scores[kept], supports[kept]
    order = np.lexsort((target, source))
    starts = np.zeros(len(movie_ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(source, minlength=len(movie_ids)), out=starts[1:])
    arrays = Neighbourhood(
        movie_ids=movie_ids.astype(np.int64),
        viewers=viewers.astype(np.int64),
        popular=np.lexsort((movie_ids, -viewers)).astype(np.int32),
        starts=starts,
        targets=target[order].astype(np.int32),
        scores=scores[order].astype(np.float64),
        supports=supports[order].astype(np.int32),
    )
    for name in Neighbourhood.__slots__:
        getattr(arrays, name).flags.writeable = False
    return arrays


def query_weight(rating: float | None) -> float:
    """How much a watched movie counts in its user's query: rating / 5, or 0.7 for a view without a rating."""
    return UNRATED_WEIGHT if rating is None else rating / MAX_RATING


def rank(
    history: Mapping[int, float], movies: Neighbourhood, n: int, exclude: Collection[int] = frozenset()
) -> list[Ranked]:
    """The n best movies for a history of {movie_id: weight}, best first; fewer only when the catalogue has no more.

    Neither a movie of the history nor one of `exclude` is ever among them; unknown ids are ignored. First come the
    movies that an edge leads to (ties: movie_id ascending), then the most viewed of the others.
    """
    seen, weights = _known(history, movies)
    blocked = np.zeros(len(movies.movie_ids), dtype=np.bool_)
    blocked[seen] = True
    if exclude:
        index, known = _indexes(movies.movie_ids, np.fromiter(exclude, np.int64, len(exclude)))
        blocked[index[known]] = True
    found = _neighbours(seen, weights, movies, blocked, n)
    blocked[[item.index for item in found]] = True
    return found + _most_viewed(movies, blocked, n - len(found))


def _known(history: Mapping[int, float], movies: Neighbourhood) -> tuple[Ints, Floats]:
    """Indexes, ascending, and weights of the history's known movies: one order, so that float sums are reproducible."""
    ids = np.fromiter(history.keys(), np.int64, len(history))
    weights = np.fromiter(history.values(), np.float64, len(history))
    index, known = _indexes(movies.movie_ids, ids)
    index, weights = index[known], weights[known]
    order = np.argsort(index)
    return index[order], weights[order]


def _neighbours(seen: Ints, weights: Floats, movies: Neighbourhood, blocked: Bools, n: int) -> list[Ranked]:
    begins = movies.starts[seen]
    counts = movies.starts[seen + 1] - begins
    before = np.cumsum(counts) - counts
    edges = np.repeat(begins - before, counts) + np.arange(counts.sum())
    targets, size = movies.targets[edges], len(movies.movie_ids)
    pulls = np.repeat(weights, counts) * movies.scores[edges]
    scores = np.bincount(targets, weights=pulls, minlength=size).astype(np.float64, copy=False)
    supports = np.bincount(targets, weights=movies.supports[edges], minlength=size)
    scores[blocked] = 0.0
    return [
        Ranked(int(i), int(movies.movie_ids[i]), float(scores[i]), int(supports[i]), "graph_cf")
        for i in _highest(scores, n)
    ]


def _highest(scores: Floats, n: int) -> Ints:
    """Indexes of the n highest scores above 0, descending; ties by index ascending."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) > n:  # sort only what can be among the n, with all that tie with the last of them
        last = np.partition(scores[candidates], len(candidates) - n)[len(candidates) - n]
        candidates = candidates[scores[candidates] >= last]
    return candidates[np.argsort(-scores[candidates], kind="stable")][:n]


def _most_viewed(movies: Neighbourhood, blocked: Bools, n: int) -> list[Ranked]:
    head = movies.popular[: n + int(np.count_nonzero(blocked))]  # holds n that are free, if there are n
    return [
        Ranked(int(i), int(movies.movie_ids[i]), float(movies.viewers[i]), 0, "popular")
        for i in head[~blocked[head]][:n]
    ]


def _indexes(movie_ids: Ints, wanted: Ints) -> tuple[Ints, Bools]:
    """Index of each wanted id, and whether it is known; where it is not, the index means nothing."""
    if not len(movie_ids):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    index = np.minimum(np.searchsorted(movie_ids, wanted), len(movie_ids) - 1)
    return index, movie_ids[index] == wanted
