"""The best of many movies by their scores, of one user or of many at once.

One file, because what numba has compiled and kept is not compiled again when a function of another file changes.
"""

import numpy as np
from numba import njit

from movierec_platform.domain.neighbourhood import Bools, Floats, Indexes, Ints


@njit(cache=True, nogil=True)
def highest(scores: Floats, blocked: Bools, n: int) -> Ints:
    """Indexes of the n highest scores above 0 that are not blocked, descending; ties by index ascending.

    A heap of the best so far, the worst of them at its root. Indexes come ascending, so that one with an equal score
    never replaces another.
    """
    heap = np.empty(min(n, len(scores)), dtype=np.int64)
    size = 0
    to_beat = 0.0 if len(heap) else np.inf
    for index in range(len(scores)):
        score = scores[index]
        if not score > to_beat or blocked[index]:
            continue
        if size < len(heap):
            place = size
            size += 1
            while place > 0:  # up, while it is worse than what is above: later indexes are worse among equals
                above = (place - 1) // 2
                if scores[heap[above]] < score:
                    break
                heap[place] = heap[above]
                place = above
            heap[place] = index
        else:
            _sink(heap, size, index, scores)
        if size == len(heap):
            to_beat = scores[heap[0]]
    ordered = np.empty(size, dtype=np.int64)
    while size:
        size -= 1
        ordered[size] = heap[0]
        _sink(heap, size, heap[size], scores)
    return ordered


@njit(cache=True, nogil=True)
def first_free(order: Indexes, blocked: Bools, n: int) -> Ints:
    """The first n indexes in this order that are not blocked."""
    free = np.empty(min(n, len(order)), dtype=np.int64)
    size = 0
    for index in order:
        if size == len(free):
            break
        if not blocked[index]:
            free[size] = index
            size += 1
    return free[:size]


@njit(cache=True, nogil=True)
def fill_lists(scores: Floats, starts: Ints, seen: Ints, order: Indexes, lists: Indexes) -> None:
    """Each row of `lists` (users, k) holds the highest of its scores (users, M), then the first others in this order.

    What the user has seen, the indexes `seen[starts[user] : starts[user + 1]]`, is not in it. Where nothing is left,
    the row stays as it was.
    """
    k = lists.shape[1]
    for user in range(len(scores)):
        blocked = np.zeros(scores.shape[1], dtype=np.bool_)
        blocked[seen[starts[user] : starts[user + 1]]] = True
        best = highest(scores[user], blocked, k)
        blocked[best] = True
        others = first_free(order, blocked, k - len(best))
        lists[user, : len(best)] = best
        lists[user, len(best) : len(best) + len(others)] = others


@njit(cache=True, nogil=True)
def _sink(heap: Ints, size: int, index: int, scores: Floats) -> None:
    """The root is replaced by this index, in a heap of this size."""
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and _worse(heap[below + 1], heap[below], scores):
            below += 1
        if not _worse(heap[below], index, scores):
            break
        heap[place] = heap[below]
        place = below
    if size:
        heap[place] = index


@njit(cache=True, nogil=True)
def _worse(one: int, other: int, scores: Floats) -> bool:
    return scores[one] < scores[other] or (scores[one] == scores[other] and one > other)
