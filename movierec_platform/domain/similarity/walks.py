"""Compiled: walks over the rows of movies, and the bounded heaps that they offer what they find.

One file, since a compiled function that is kept on disk does not notice that another file's function has changed.

A heap holds the best few sources of a movie, the worst at the root. Sources compare by score descending, equal scores
by place among the ids ascending: a total order, so that what a heap holds in the end does not depend on the order in
which it was offered.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from movierec_platform.domain.similarity.edges import Floats
from movierec_platform.domain.similarity.seen import Int32s

BYTES_PER_SOURCE = 16
BYTES_PER_MOVIE = 16
# Counts that are looked at together, by the most among them; and rows after which the bars of chunks are set anew.
CHUNK = 64
ROWS_PER_LEAST = 64
# Pairs that wait to be offered to the heap of the more popular end, which is seldom in a cache.
WAITING = 1 << 17
# How far rounding may put the count that is enough for a score above the one that is.
SLACK = 1e-9


class Heaps(NamedTuple):
    """For each movie of a run of them, the best sources that it was offered so far.

    Those of movie m lie in the places m * n_best, ..., m * n_best + size[m] - 1, n_best = len(score) / len(size).
    """

    score: Floats
    """(n_movies * n_best,)"""
    source: Int32s
    """(n_movies * n_best,), places of movies among the ids."""
    support: npt.NDArray[np.uint32]
    """(n_movies * n_best,)"""
    size: Int32s
    """(n_movies,)"""
    worst: Floats
    """(n_movies,): the score at the root, 0 until the heap is full; a lower one is not let in."""
    worst_place: Int32s
    """(n_movies,): the place of the source at the root, 2**31 - 1 until the heap is full; of equal scores, no later one
    is let in."""


class Block(NamedTuple):
    """A run of targets, by number, and what of each user's movies lies in it."""

    start: int
    stop: int
    low: Int32s
    """(n_users,): of the user's movies, how many lie before the block."""
    high: Int32s
    """(n_users,): and how many before its end."""


def empty_heaps(n_movies: int, n_best: int) -> Heaps:
    """Heaps that were offered nothing."""
    places = n_movies * n_best
    return Heaps(
        np.empty(places, np.float64),
        np.empty(places, np.int32),
        np.empty(places, np.uint32),
        np.zeros(n_movies, np.int32),
        np.zeros(n_movies, np.float64),
        np.full(n_movies, np.iinfo(np.int32).max, np.int32),
    )


@numba.njit(cache=True, nogil=True)
def find(user_starts, user_movies, movie, before):  # type: ignore[no-untyped-def]
    for user in range(len(before)):
        own = user_movies[user_starts[user] : user_starts[user + 1]]
        before[user] = np.searchsorted(own, movie)


@numba.njit(cache=True, nogil=True)
def walk_cosine(first, last, block, rows, viewers, roots, shrink, least, heaps, counts):  # type: ignore[no-untyped-def]
    """The heaps are offered each pair of a movie first, ..., last - 1 and a more popular one; `counts` are 0 again.

    Pairs that fewer than `least` users saw both of are left out.
    """
    # Fields are taken out once: each time costs two atomic operations on a count that all threads share.
    block_start, block_stop, low, high = block
    position, user_starts, user_movies, movie_starts, movie_users, before = rows
    scores, sources, supports, sizes, worst, worst_place = heaps
    least_worst = np.full(len(counts) // CHUNK + 1, np.inf)
    waiting, n_waiting = (np.empty(WAITING, np.uint32), np.empty(WAITING, np.uint32), np.empty(WAITING, np.uint32)), 0
    waiting_targets, waiting_movies, waiting_both = waiting
    for movie in range(last - 1, first - 1, -1):
        if (last - 1 - movie) % ROWS_PER_LEAST == 0:
            _least_of_chunks(worst, block_start, least_worst)
        inside = movie < block_stop
        for k in range(movie_starts[position[movie]], movie_starts[position[movie] + 1]):
            user = movie_users[k]
            begin = user_starts[user] + (0 if inside else low[user])
            end = user_starts[user] + (before[k] if inside else high[user])
            for p in range(begin, end):
                counts[user_movies[p]] += 1
        start, stop = (0, movie) if inside else (block_start, block_stop)
        for chunk in range((stop - 1) // CHUNK, start // CHUNK - 1, -1):
            chunk_start, chunk_stop = max(start, chunk * CHUNK), min(stop, (chunk + 1) * CHUNK)
            most = _most(counts[chunk_start:chunk_stop])
            if most == 0:
                continue
            # The least popular of the chunk and the least of what its heaps let in: no pair with fewer gets in there.
            bar = min(least_worst[chunk], worst[movie - block_start] if inside else np.inf)
            fewest = max(least, np.int64(np.ceil(bar * (roots[movie] * roots[chunk_stop - 1] + shrink) * (1 - SLACK))))
            if most >= fewest:
                for other in range(chunk_stop - 1, chunk_start - 1, -1):
                    both = counts[other]
                    if both < fewest:
                        continue
                    score = both / (np.sqrt(float(viewers[movie] * viewers[other])) + shrink)
                    at, source = movie - block_start, position[other]
                    if inside and _worse(worst[at], worst_place[at], score, source):
                        _offer(scores, sources, supports, sizes, worst, worst_place, at, source, score, both)
                    at, source = other - block_start, position[movie]
                    if at >= 0 and _worse(worst[at], worst_place[at], score, source):
                        waiting_targets[n_waiting], waiting_movies[n_waiting] = at, movie
                        waiting_both[n_waiting] = both
                        n_waiting += 1
            counts[chunk_start:chunk_stop] = 0
            if n_waiting > WAITING - CHUNK:
                _offer_waiting(waiting, n_waiting, block_start, position, viewers, shrink, heaps)
                n_waiting = 0
    _offer_waiting(waiting, n_waiting, block_start, position, viewers, shrink, heaps)


@numba.njit(cache=True, nogil=True)
def _offer_waiting(waiting, n_waiting, block_start, position, viewers, shrink, heaps):  # type: ignore[no-untyped-def]
    """The heaps are offered what waited for them, one chunk of movies after the other: their heaps fit in a cache."""
    targets, movies, boths = waiting
    scores, sources, supports, sizes, worst, worst_place = heaps
    free = np.zeros(len(sizes) // CHUNK + 2, np.int64)
    for k in range(n_waiting):
        free[targets[k] // CHUNK + 1] += 1
    free = np.cumsum(free)
    order = np.empty(n_waiting, np.uint32)
    for k in range(n_waiting):
        order[free[targets[k] // CHUNK]] = k
        free[targets[k] // CHUNK] += 1
    for k in order:
        at, source, both = np.int64(targets[k]), position[movies[k]], boths[k]
        score = both / (np.sqrt(float(viewers[movies[k]] * viewers[block_start + at])) + shrink)
        if _worse(worst[at], worst_place[at], score, source):
            _offer(scores, sources, supports, sizes, worst, worst_place, at, source, score, both)


@numba.njit(cache=True, nogil=True)
def _most(counts):  # type: ignore[no-untyped-def]
    # From 0 to the length of an array: no other loop is known to the compiler to need no look at negative indexes.
    most = counts[0]
    for k in range(len(counts)):
        most = max(most, counts[k])
    return most


@numba.njit(cache=True, nogil=True)
def _least_of_chunks(worst, block_start, least):  # type: ignore[no-untyped-def]
    """The least `worst` of each chunk's movies in the block. It only grows, so that an old one does no harm."""
    least[:] = np.inf
    for at in range(len(worst)):
        chunk = (block_start + at) // CHUNK
        least[chunk] = min(least[chunk], worst[at])


@numba.njit(cache=True, nogil=True)
def walk_rp3beta(first, last, block, rows, step, heaps, counts, sums):  # type: ignore[no-untyped-def]
    """As `walk_cosine`, by the sums of the steps alone: see `walk_scores`."""
    block_start, block_stop, low, high = block
    position, user_starts, user_movies, movie_starts, movie_users, before = rows
    scores, sources, supports, sizes, worst, worst_place = heaps
    for movie in range(last - 1, first - 1, -1):
        inside = movie < block_stop
        for k in range(movie_starts[position[movie]], movie_starts[position[movie] + 1]):
            user = movie_users[k]
            weight = step[user]
            begin = user_starts[user] + (0 if inside else low[user])
            end = user_starts[user] + (before[k] if inside else high[user])
            for p in range(begin, end):
                counts[user_movies[p]] += 1
                sums[user_movies[p]] += weight
        start, stop = (0, movie) if inside else (block_start, block_stop)
        for other in range(stop - 1, start - 1, -1):
            both = counts[other]
            if both == 0:
                continue
            walk = sums[other]
            counts[other], sums[other] = 0, 0.0
            at = movie - block_start
            if inside and _worse(worst[at], worst_place[at], walk, position[other]):
                _offer(scores, sources, supports, sizes, worst, worst_place, at, position[other], walk, both)
            at = other - block_start
            if at >= 0 and _worse(worst[at], worst_place[at], walk, position[movie]):
                _offer(scores, sources, supports, sizes, worst, worst_place, at, position[movie], walk, both)


@numba.njit(cache=True, nogil=True)
def absorb(heaps, others):  # type: ignore[no-untyped-def]
    """The heaps hold the best of theirs and the others'."""
    scores, sources, supports, sizes, worst, worst_place = heaps
    other_scores, other_sources, other_supports, other_sizes, _, _ = others
    capacity = len(scores) // len(sizes)
    for movie in range(len(sizes)):
        for k in range(movie * capacity, movie * capacity + other_sizes[movie]):
            source, score, both = other_sources[k], other_scores[k], other_supports[k]
            if _worse(worst[movie], worst_place[movie], score, source):
                _offer(scores, sources, supports, sizes, worst, worst_place, movie, source, score, both)


@numba.njit(cache=True, nogil=True)
def sort_best_first(heaps):  # type: ignore[no-untyped-def]
    """The places of each heap are in order, best first; it takes no more offers."""
    scores, sources, supports, sizes, _, _ = heaps
    capacity = len(scores) // len(sizes)
    for movie in range(len(sizes)):
        root = movie * capacity
        for last in range(root + sizes[movie] - 1, root, -1):
            source, score, support = sources[last], scores[last], supports[last]
            scores[last], sources[last], supports[last] = scores[root], sources[root], supports[root]
            _sink(scores, sources, supports, root, last - root, source, score, support)


@numba.njit(cache=True, nogil=True)
def _offer(scores, sources, supports, sizes, worst, worst_place, movie, source, score, support):  # type: ignore[no-untyped-def]
    """The heap of `movie` holds this source, which is better than its worst, or there is a place free."""
    capacity = len(scores) // len(sizes)
    root = movie * capacity
    size = sizes[movie]
    if size == capacity:
        _sink(scores, sources, supports, root, capacity, source, score, support)
        worst[movie], worst_place[movie] = scores[root], sources[root]
        return
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        held = root + parent
        if not _worse(score, source, scores[held], sources[held]):
            break
        scores[root + at], sources[root + at], supports[root + at] = scores[held], sources[held], supports[held]
        at = parent
    scores[root + at], sources[root + at], supports[root + at] = score, source, support
    sizes[movie] = size + 1
    if size + 1 == capacity:
        worst[movie], worst_place[movie] = scores[root], sources[root]


@numba.njit(cache=True, nogil=True)
def _sink(scores, sources, supports, root, size, source, score, support):  # type: ignore[no-untyped-def]
    """What is at the root is dropped from the first `size` places, and this source put in."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        held, right = root + child, root + child + 1
        if child + 1 < size and _worse(scores[right], sources[right], scores[held], sources[held]):
            child, held = child + 1, right
        if not _worse(scores[held], sources[held], score, source):
            break
        scores[root + at], sources[root + at], supports[root + at] = scores[held], sources[held], supports[held]
        at = child
    scores[root + at], sources[root + at], supports[root + at] = score, source, support


@numba.njit(cache=True, nogil=True)
def _worse(score, place, other_score, other_place):  # type: ignore[no-untyped-def]
    return score < other_score or (score == other_score and place > other_place)
