"""Weights of the movies that each movie leans on: sparse linear regression, one movie at a time.

Ning and Karypis, "SLIM" (ICDM 2011), on the Gram matrix of each movie's support; the descent is that of Friedman,
Hastie and Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent" (JSS 33(1), 2010),
section 2.2 (covariance updates), with the weights kept from falling below 0.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from movierec_platform.domain.similarity.cooccurrence import strongest
from movierec_platform.domain.similarity.edges import Ints
from movierec_platform.domain.similarity.parameters import SimilarityParameters
from movierec_platform.domain.similarity.seen import Int32s, Seen, Uint32s, starts_of
from movierec_platform.domain.similarity.threads import Piece, in_threads, pieces_of
from movierec_platform.domain.similarity.walks import Heaps, empty_heaps

TOLERANCE = 1e-5
"""The descent ends when a round over the support has changed no weight by more than this."""
MOST_ROUNDS = 1_000
MOST_OF_16_BITS = 2**16 - 1
# A row that walked fewer pairs than a SPARSE-th of the counts is walked again to set them to 0.
SPARSE = 8


class Supports(NamedTuple):
    """For each target, the movies that it may lean on."""

    starts: Ints
    """(n_movies + 1,): the support of a target is movies[starts[target] : starts[target + 1]]."""
    movies: Uint32s
    """Numbers, ascending within the target."""
    both: Uint32s
    """For each of them, users who saw it and the target."""


class Uses(NamedTuple):
    """For each movie, where it stands in the supports of the targets of a block."""

    starts: Ints
    """(n_movies + 1,), as above."""
    targets: Int32s
    places: Int32s
    """Counted from the beginning of that target's support."""
    rows: Ints
    """Where the row of that movie begins among the target's products."""


class Gram(NamedTuple):
    """For each target of a block, users who saw both of two movies of its support."""

    starts: Ints
    """(n_targets + 1,), as above."""
    counts: npt.NDArray[np.uint16] | Uint32s
    """Within the target row by row, what lies left of the diagonal; of 16 bits, no more than MOST_OF_16_BITS."""
    of_popular: Uint32s
    """(n, n): the whole count below the diagonal, of the n movies by number that more users have seen."""


def slim(
    seen: Seen, parameters: SimilarityParameters, n_threads: int, work_bytes: int, progress: Callable[[int, int], None]
) -> Heaps:
    """For every movie t by number the sources of the highest weights above 0, best first, of w >= 0 that minimises

        1/2 |x_t - X w|**2 + l1 * sum(w) + l2/2 * |w|**2

    X: (n_users, n_support), 1 where the user has seen that movie of the support; x_t: the same of t. The support are
    the `support_size` movies nearest to t by cosine, of those that more than l1 users saw who saw t. Needed of X are
    its products alone: users who saw both of two movies. They are counted for all targets of
    a block in one walk over the rows of the movies in their supports; `work_bytes` bounds what a block holds.
    """
    n_movies = len(seen.movie_ids)
    nearest = strongest(
        seen,
        replace(parameters, method="cosine"),
        parameters.support_size,
        n_threads,
        work_bytes,
        lambda done, total: progress(done * n_movies // total, 2 * n_movies),
        fewest_viewers(parameters.l1),
    )
    supports = supports_of(nearest, np.argsort(seen.position).astype(np.int32))
    del nearest
    best = empty_heaps(n_movies, min(parameters.neighbours, parameters.support_size))
    walked = seen.pairs_walked()
    blocks = _blocks(supports, work_bytes)
    # Taken once: in a virtual machine memory that was never touched costs more than what is counted in it.
    memory = np.empty(max(_products(supports, *block).sum() for block in blocks), np.uint16)
    for start, stop in blocks:
        gram = _gram(seen, supports, start, stop, walked, n_threads, memory)
        _fit(seen, supports, gram, start, stop, parameters, n_threads, best)
        progress(n_movies + stop, 2 * n_movies)
    return best


def fewest_viewers(l1: float) -> int:
    """How many users must have seen a movie and the target for a weight above 0: all products are at least 0."""
    return math.floor(l1) + 1


def _gram(
    seen: Seen, supports: Supports, start: int, stop: int, walked: Ints, n_threads: int, memory: npt.NDArray[np.uint16]
) -> Gram:
    """The products of the supports of targets start, ..., stop - 1."""
    starts = starts_of(_products(supports, start, stop))
    n_popular = int(np.count_nonzero(seen.viewers > MOST_OF_16_BITS))
    gram = Gram(starts, memory[: starts[-1]], np.zeros((n_popular, n_popular), np.uint32))
    uses, rows = uses_of(supports, start, stop, starts, len(walked)), seen.rows()
    cost = np.where(np.diff(uses.starts) > 0, walked, 0) + 1
    in_threads(
        pieces_of(cost, n_threads),
        [np.zeros(len(walked), np.uint32) for _ in range(n_threads)],
        lambda counts, first, last: count_products(
            first, last, rows, supports, uses, gram.counts, MOST_OF_16_BITS, gram.of_popular, counts
        ),
    )
    return gram


def _fit(
    seen: Seen,
    supports: Supports,
    gram: Gram,
    start: int,
    stop: int,
    parameters: SimilarityParameters,
    n_threads: int,
    best: Heaps,
) -> None:
    """The places of these targets in `best` are filled."""
    l1, l2 = parameters.l1, parameters.l2
    sizes = np.diff(supports.starts[start : stop + 1])
    in_threads(
        [(start + first, start + last) for first, last in pieces_of(sizes**2 + 1, n_threads)],
        [None] * n_threads,
        lambda _, first, last: descend(first, last, start, supports, gram, seen.viewers, seen.position, l1, l2, best),
    )


def supports_of(nearest: Heaps, number_at: Int32s) -> Supports:
    starts = starts_of(nearest.size.astype(np.int64))
    movies, both = np.empty(starts[-1], np.uint32), np.empty(starts[-1], np.uint32)
    _fill_supports(nearest, number_at, starts, movies, both)
    return Supports(starts, movies, both)


def _products(supports: Supports, start: int, stop: int) -> Ints:
    """How many pairs of movies there are in the support of each of these targets."""
    sizes = np.diff(supports.starts[start : stop + 1])
    products: Ints = sizes * (sizes - 1) // 2
    return products


def _blocks(supports: Supports, work_bytes: int) -> list[Piece]:
    """Runs of targets whose products and uses take no more than this together, or are a single target's."""
    sizes = np.diff(supports.starts)
    upto = np.cumsum(_products(supports, 0, len(sizes)) * 2 + sizes * 16)
    blocks, start = [], 0
    while start < len(sizes):
        before = upto[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(upto, before + work_bytes, side="right")))
        blocks.append((start, stop))
        start = stop
    return blocks


def uses_of(supports: Supports, start: int, stop: int, gram_starts: Ints, n_movies: int) -> Uses:
    """Where each movie stands in these targets' supports; not where it comes first, for then no other comes before.

    gram_starts: (stop - start + 1,), where the products of each target begin.
    """
    counts = np.zeros(n_movies, np.int64)
    _count_uses(supports, start, stop, counts)
    starts = starts_of(counts)
    uses = Uses(starts, np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int64))
    _fill_uses(supports, start, stop, gram_starts, starts[:-1].copy(), uses)
    return uses


@numba.njit(cache=True, nogil=True)
def _fill_supports(nearest, number_at, starts, movies, both):  # type: ignore[no-untyped-def]
    _, sources, supports, found, _, _ = nearest
    n_best = len(sources) // len(found)
    for target in range(len(found)):
        first = target * n_best
        numbers = number_at[sources[first : first + found[target]]]
        order = np.argsort(numbers)
        for k in range(len(order)):
            movies[starts[target] + k] = numbers[order[k]]
            both[starts[target] + k] = supports[first + order[k]]


@numba.njit(cache=True, nogil=True)
def _count_uses(supports, start, stop, counts):  # type: ignore[no-untyped-def]
    starts, movies, _ = supports
    for target in range(start, stop):
        for k in range(starts[target] + 1, starts[target + 1]):
            counts[movies[k]] += 1


@numba.njit(cache=True, nogil=True)
def _fill_uses(supports, start, stop, gram_starts, free, uses):  # type: ignore[no-untyped-def]
    starts, movies, _ = supports
    _, targets, places, rows = uses
    for target in range(start, stop):
        for k in range(starts[target] + 1, starts[target + 1]):
            at, place = free[movies[k]], k - starts[target]
            targets[at], places[at] = target, place
            rows[at] = gram_starts[target - start] + place * (place - 1) // 2
            free[movies[k]] += 1


@numba.njit(cache=True, nogil=True)
def count_products(first, last, rows, supports, uses, products, most, of_popular, counts):  # type: ignore[no-untyped-def]
    """Of each target's products, below the diagonal and row by row, those that belong to these movies' rows are set.

    They are `most` at most; those of popular movies are set in `of_popular` (see `Gram`), whole.
    """
    # Fields are taken out once: each time costs two atomic operations on a count that all threads share.
    position, user_starts, user_movies, movie_starts, movie_users, before = rows
    support_starts, support_movies, _ = supports
    use_starts, targets, places, product_rows = uses
    for movie in range(first, last):
        if use_starts[movie] == use_starts[movie + 1]:
            continue
        row_start, row_stop = movie_starts[position[movie]], movie_starts[position[movie] + 1]
        walked = 0
        for k in range(row_start, row_stop):
            begin = user_starts[movie_users[k]]
            walked += before[k]
            for p in range(begin, begin + before[k]):
                counts[user_movies[p]] += 1
        for use in range(use_starts[movie], use_starts[movie + 1]):
            support, place, at = support_starts[targets[use]], places[use], product_rows[use]
            own, before_it = products[at : at + place], support_movies[support : support + place]
            for k in range(len(own)):
                own[k] = min(counts[before_it[k]], most)
        if movie < len(of_popular):
            of_popular[movie, :movie] = counts[:movie]
        if walked * SPARSE < movie:
            for k in range(row_start, row_stop):
                begin = user_starts[movie_users[k]]
                for p in range(begin, begin + before[k]):
                    counts[user_movies[p]] = 0
        else:
            counts[:movie] = 0


@numba.njit(cache=True, nogil=True)
def descend(first, last, block_start, supports, gram, viewers, position, l1, l2, best):  # type: ignore[no-untyped-def]
    """The places of these targets in `best` hold their highest weights above 0, best first."""
    starts, movies, both = supports
    gram_starts, counts, of_popular = gram
    scores, sources, best_both, found, _, _ = best
    n_best = len(scores) // len(found)
    for target in range(first, last):
        start, size = starts[target], starts[target + 1] - starts[target]
        products = np.empty((size, size))
        at = gram_starts[target - block_start]
        for j in range(size):
            row, counted = products[j], counts[at : at + j]
            for k in range(len(counted)):
                row[k] = counted[k]
            if movies[start + j] < len(of_popular):
                for k in range(j):
                    row[k] = of_popular[movies[start + j], movies[start + k]]
            at += j
        for j in range(size):
            products[j, j] = viewers[movies[start + j]]
            for k in range(j):
                products[k, j] = products[j, k]
        weights = _weights(products, both[start : start + size] - l1, l2)
        first_place = target * n_best
        for j in range(size):
            if weights[j] > 0:
                score, source, taken = weights[j], position[movies[start + j]], found[target]
                at = taken
                while at > 0 and _before(score, source, scores[first_place + at - 1], sources[first_place + at - 1]):
                    at -= 1
                for k in range(first_place + min(taken, n_best - 1), first_place + at, -1):
                    scores[k], sources[k], best_both[k] = scores[k - 1], sources[k - 1], best_both[k - 1]
                if at < n_best:
                    k = first_place + at
                    scores[k], sources[k], best_both[k] = score, source, both[start + j]
                    found[target] = min(taken + 1, n_best)


@numba.njit(cache=True, nogil=True)
def _before(score, place, other_score, other_place):  # type: ignore[no-untyped-def]
    return score > other_score or (score == other_score and place < other_place)


@numba.njit(cache=True, nogil=True)
def _weights(products, pull, l2):  # type: ignore[no-untyped-def]
    """The w >= 0 that minimises 1/2 w'(products + l2)w - pull'w. `pull` is used up: it is pull - products w at the end.

    Rounds over the weights above 0 until they stand still, then one over all, until that changes nothing either.
    """
    size = len(pull)
    weights = np.zeros(size)
    every = True
    for _ in range(MOST_ROUNDS):
        most = 0.0
        for j in range(size):
            if weights[j] > 0 or (every and pull[j] > 0):
                row = products[j]
                weight = max(0.0, (pull[j] + row[j] * weights[j]) / (row[j] + l2))
                change = weight - weights[j]
                if change != 0:
                    weights[j] = weight
                    # From 0 to the length of an array, which compilers know to do several at once.
                    for k in range(len(row)):
                        pull[k] -= change * row[k]
                    most = max(most, abs(change))
        if most <= TOLERANCE:
            if every:
                break
            every = True
        else:
            every = False
    return weights
