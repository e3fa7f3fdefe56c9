"""The k best movies for many users at once, ranked as `domain.ranking` ranks them for one.

A scorer gives scores for a block of users; a movie scored above 0 comes before all others, the rest of a list is filled
with what is most viewed, and a movie of the user's query is never in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from movierec_platform.domain.evaluation.splits import Interactions, Split
from movierec_platform.domain.query_weights import query_weights
from movierec_platform.domain.selection import fill_lists

Ints = npt.NDArray[np.int64]
Indexes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

Scorer = Callable[[sp.csr_matrix], Floats]
"""From the weights of some users' queries, sparse (users, movies), to the scores of all movies, dense, same shape."""

BLOCK_SCORES = 8_000_000
"""Scores held at once, at most: 64 MB; those of one user in any case."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """The movies to recommend: those that the training part knows. M movies.

    movie_ids: int64 (M,), ascending. viewers: int64 (M,), at least 1. users: how many have seen any.
    """

    movie_ids: Ints
    viewers: Ints
    users: int

    def popular(self) -> Indexes:
        """Indexes (M,), the most viewed first, ties by movie id."""
        return np.lexsort((self.movie_ids, -self.viewers)).astype(np.int32)


def catalogue_of(train: Interactions) -> Catalogue:
    """Its movies and how many users have seen each."""
    movie_ids, viewers = np.unique(train.movie_id, return_counts=True)
    return Catalogue(movie_ids, viewers.astype(np.int64), len(np.unique(train.user_id)))


def matrix_of(seen: Interactions, values: Floats, user_ids: Ints, movie_ids: Ints) -> Any:
    """CSR float64 (users, movies), indexes ascending; rows of movies that are not among `movie_ids` are left out.

    Every user of `seen` is among `user_ids`, (users,), ascending.
    """
    row = np.searchsorted(user_ids, seen.user_id)
    column = np.minimum(np.searchsorted(movie_ids, seen.movie_id), max(len(movie_ids) - 1, 0))
    known = movie_ids[column] == seen.movie_id if len(movie_ids) else np.zeros(len(seen), np.bool_)
    shape = (len(user_ids), len(movie_ids))
    matrix = sp.csr_matrix((values[known], (row[known], column[known])), shape=shape, dtype=np.float64)
    matrix.sort_indices()
    return matrix


def queries_of(split: Split, catalogue: Catalogue, weight_power: float) -> Any:
    """The test users' queries, CSR (users, M), weighted as serving weights a history."""
    weights = query_weights(split.query.rating, weight_power)
    return matrix_of(split.query, weights, split.user_ids, catalogue.movie_ids)


def edge_scorer(movie_ids: Ints, source: Ints, target: Ints, score: Floats) -> Scorer:
    """Scores a movie by the edges that lead to it from the query, summed as `domain.ranking` does.

    source, target, score: (edges,), ids; edges with an end that is not among the movies (M,), ascending, are left out.
    """
    size = len(movie_ids)
    known = np.isin(source, movie_ids) & np.isin(target, movie_ids)
    row, column = (np.searchsorted(movie_ids, ends[known]) for ends in (source, target))
    edges = sp.csr_matrix((score[known], (row, column)), shape=(size, size))
    return lambda queries: (queries @ edges).toarray()


def popularity_scorer() -> Scorer:
    """Scores nothing, so that lists hold what is most viewed and not in the query."""
    return lambda queries: np.zeros(queries.shape)


def co_watch_scorer(seen: Any) -> Scorer:
    """Scores a movie by its co-watch paths: over the query's movies, the sum of users who saw both (`Coincidencias`).

    `seen`, sparse (users to learn from, M), has a 1 for each interaction of the training part.
    """
    by_movie = seen.T.tocsr()

    def scores(queries: Any) -> Floats:
        unweighted = queries.copy()
        unweighted.data[:] = 1.0
        dense: Floats = ((unweighted @ by_movie) @ seen).toarray()
        return dense

    return scores


def recommend_lists(
    scorer: Scorer,
    queries: Any,
    popular: Indexes,
    k: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Indexes:
    """int32 (users, k): the best movies for each query, best first, -1 where the catalogue has no more.

    Ties by index. `progress` is called with (users done, users). Memory: BLOCK_SCORES and the result.
    """
    users, size = queries.shape
    lists = np.full((users, k), -1, np.int32)
    at_once = max(1, BLOCK_SCORES // max(size, 1))
    for start in range(0, users, at_once):
        block = queries[start : start + at_once]
        scores = np.ascontiguousarray(scorer(block), dtype=np.float64)
        fill_lists(
            scores,
            block.indptr.astype(np.int64),
            block.indices.astype(np.int64),
            popular,
            lists[start : start + at_once],
        )
        progress(min(start + at_once, users), users)
    return lists
