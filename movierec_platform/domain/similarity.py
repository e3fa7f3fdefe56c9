"""Which movies go together: item-to-item cosine over who saw what.

Method: item-based neighbourhoods on implicit data, Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms"
(ACM TOIS 22(1), 2004), section 4, with an additive shrinkage of the denominator against pairs that few users support.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_BLOCK_PAIRS = 16_000_000
"""Pairs of movies whose counts are held at once, at most: about 12 bytes each, twice that while they are made."""


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges, one per array position: having seen `source`, `target` is recommended.

    All arrays have shape (n_edges,), ordered by target ascending, then rank ascending; no (source, target) repeats and
    no movie points at itself.
    """

    source: Ints
    target: Ints
    score: Floats
    """In (0, 1], never NaN."""
    rank: npt.NDArray[np.int32]
    """1, 2, ... within the target: score descending, equal scores by source ascending."""
    support: Ints
    """Number of users who saw both movies, at least 1."""

    def __len__(self) -> int:
        return len(self.source)

    def digest(self) -> str:
        """64 hex digits, equal exactly when all arrays are equal, bit for bit."""
        sha = hashlib.sha256()
        arrays = {"<i8": (self.source, self.target, self.support), "<i4": (self.rank,), "<f8": (self.score,)}
        for kind, group in arrays.items():
            for array in group:
                sha.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return sha.hexdigest()


def cosine_neighbours(
    users: Ints, movies: Ints, n_neighbours: int, shrink: float, max_block_pairs: int = MAX_BLOCK_PAIRS
) -> Edges:
    """The best `n_neighbours` sources of every movie: exact, deterministic, independent of the order of the input.

    users, movies: shape (n_seen,), ids in any order; position k says that users[k] has seen movies[k]. A repeated pair
    counts once.
    score(a, b) = C[a, b] / (sqrt(n[a] * n[b]) + shrink), C = users who saw both, n = users who saw each; pairs that no
    user saw both of have no edge. Memory grows with n_seen and `max_block_pairs`, not with the square of the movies.
    """
    if len(users) != len(movies):
        raise ValueError(f"users and movies must pair up, got {len(users)} and {len(movies)}")
    movie_ids, column = np.unique(movies, return_inverse=True)
    user_ids, row = np.unique(users, return_inverse=True)
    seen = sp.csr_matrix((np.ones(len(row), np.int32), (row, column)), shape=(len(user_ids), len(movie_ids)))
    seen.sum_duplicates()
    seen.data[:] = 1
    seen_by_movie = seen.T.tocsr()
    watchers = np.diff(seen_by_movie.indptr).astype(np.int64)

    found: list[tuple[Ints, Ints, Floats, Ints]] = []
    for start, stop in _blocks(seen, seen_by_movie, max_block_pairs):
        together = seen_by_movie[start:stop] @ seen
        for target in range(start, stop):
            lo, hi = together.indptr[target - start], together.indptr[target - start + 1]
            source, support = together.indices[lo:hi].astype(np.int64), together.data[lo:hi].astype(np.int64)
            other = source != target
            source, support = source[other], support[other]
            score = support / (np.sqrt(watchers[source] * watchers[target]) + shrink)
            best = _best(score, source, n_neighbours)
            found.append((source[best], np.full(len(best), target, np.int64), score[best], support[best]))
    return _edges(movie_ids.astype(np.int64), found)


def _best(score: Floats, source: Ints, n: int) -> Ints:
    """Positions of the n highest scores, best first, equal scores by source ascending."""
    candidates: Ints = np.arange(len(score), dtype=np.int64)
    if len(score) > n:
        # Everything that ties with the n-th score stays in until the tie rule has been applied.
        at_least = np.partition(score, len(score) - n)[len(score) - n]
        candidates = candidates[score >= at_least]
    order = np.lexsort((source[candidates], -score[candidates]))
    best: Ints = candidates[order[:n]]
    return best


def _blocks(seen: Any, seen_by_movie: Any, max_pairs: int) -> Iterator[tuple[int, int]]:
    """Runs of movies [start, stop) whose rows of C hold at most `max_pairs` entries together (or are a single row)."""
    n_movies = seen_by_movie.shape[0]
    walked = np.asarray(seen_by_movie @ np.diff(seen.indptr).astype(np.int64)).ravel()
    upto = np.cumsum(np.minimum(walked, n_movies))
    start = 0
    while start < n_movies:
        before = upto[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(upto, before + max_pairs, side="right")))
        yield start, stop
        start = stop


def _edges(movie_ids: Ints, found: list[tuple[Ints, Ints, Floats, Ints]]) -> Edges:
    none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int64))
    source, target, score, support = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
    ranks = [np.arange(1, len(one[0]) + 1, dtype=np.int32) for one in found]
    rank = np.concatenate([np.empty(0, np.int32), *ranks])
    return Edges(movie_ids[source], movie_ids[target], score, rank, support)
