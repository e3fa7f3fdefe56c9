"""The best sources of every movie, by a walk over the pairs of movies that some user saw both.

A movie's row counts, over the users who saw it, the more popular movies that each of them saw: each pair is counted
once, from its less popular end, and offered to both ends. No more counts than those of a row are held.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from movierec_platform.domain.similarity.edges import Ints
from movierec_platform.domain.similarity.parameters import SimilarityParameters
from movierec_platform.domain.similarity.seen import Int32s, Seen
from movierec_platform.domain.similarity.threads import in_threads, pieces_of
from movierec_platform.domain.similarity.walks import (
    BYTES_PER_MOVIE,
    BYTES_PER_SOURCE,
    Block,
    Heaps,
    absorb,
    empty_heaps,
    find,
    walk_cosine,
    walk_rp3beta,
)


def strongest(
    seen: Seen,
    parameters: SimilarityParameters,
    n_best: int,
    n_threads: int,
    work_bytes: int,
    progress: Callable[[int, int], None],
    least: int = 1,
) -> Heaps:
    """For every movie by number its best `n_best` sources by cosine or by rp3beta's walks, in no order.

    cosine: score(a, b) = C[a, b] / (sqrt(n[a] * n[b]) + shrink), C = users who saw both, n = users who saw each.
    rp3beta: score(a, b) = sum of d[u]**-alpha over the users u who saw both, d = movies that a user saw.
    With cosine, pairs that fewer than `least` users saw both of are no sources.
    The heaps that threads fill take `work_bytes` at most, by treating the targets in blocks. A pair whose ends lie in
    two blocks is counted for each.
    """
    n_movies = len(seen.movie_ids)
    per_block = max(1, work_bytes // n_threads // (n_best * BYTES_PER_SOURCE + BYTES_PER_MOVIE))
    cost = seen.pairs_walked() + np.arange(n_movies) // 16 + 1
    starts = range(0, n_movies, per_block)
    total, done = sum(int(cost[start:].sum()) for start in starts), 0

    def tell(walked: int) -> None:
        nonlocal done
        done += walked
        progress(done, total)

    blocks = [_block(seen, start, min(start + per_block, n_movies)) for start in starts]
    parts = [_strongest_in(block, seen, parameters, n_best, n_threads, cost, least, tell) for block in blocks]
    return parts[0] if len(parts) == 1 else Heaps(*map(np.concatenate, zip(*parts, strict=True)))


def _strongest_in(
    block: Block,
    seen: Seen,
    parameters: SimilarityParameters,
    n_best: int,
    n_threads: int,
    cost: Ints,
    least: int,
    tell: Callable[[int], None],
) -> Heaps:
    """The heaps of the block's targets, filled by the rows from its first movie on."""
    walk, new_counts = walk_of(seen, parameters, block, least)
    states = [(empty_heaps(block.stop - block.start, n_best), new_counts()) for _ in range(n_threads)]
    pieces = [(block.start + first, block.start + last) for first, last in pieces_of(cost[block.start :], n_threads)]
    # From the least popular on: of as many common viewers, those of less popular movies weigh more and come first.
    in_threads(
        pieces[::-1],
        states,
        lambda state, first, last: walk(first, last, *state),
        lambda piece: tell(int(cost[slice(*piece)].sum())),
    )
    (heaps, _), *others = states
    for other, _ in others:
        absorb(heaps, other)
    return heaps


def _block(seen: Seen, start: int, stop: int) -> Block:
    n_users = len(seen.user_starts) - 1
    low, high = np.zeros(n_users, np.int32), np.zeros(n_users, np.int32)
    if stop < len(seen.movie_ids):
        find(seen.user_starts, seen.user_movies, start, low)
        find(seen.user_starts, seen.user_movies, stop, high)
    return Block(start, stop, low, high)


def walk_of(
    seen: Seen, parameters: SimilarityParameters, block: Block, least: int
) -> tuple[Callable[[int, int, Heaps, Any], None], Callable[[], Any]]:
    """The walk over rows first, ..., last - 1 with heaps and counts, and what makes those counts."""
    rows, n_movies = seen.rows(), len(seen.movie_ids)
    if parameters.method == "rp3beta":
        step = np.diff(seen.user_starts).astype(np.float64) ** -parameters.alpha

        def walk_weighted(first: int, last: int, heaps: Heaps, counts: Any) -> None:
            walk_rp3beta(first, last, block, rows, step, heaps, *counts)

        return walk_weighted, lambda: (np.zeros(n_movies, np.uint32), np.zeros(n_movies, np.float64))
    roots = np.sqrt(seen.viewers)

    def walk(first: int, last: int, heaps: Heaps, counts: npt.NDArray[np.uint32]) -> None:
        walk_cosine(first, last, block, rows, seen.viewers, roots, parameters.shrink, least, heaps, counts)

    return walk, lambda: np.zeros(n_movies, np.uint32)


def walk_scores(walks: Heaps, position: Int32s, viewers: Ints, parameters: SimilarityParameters) -> Heaps:
    """The sources that rp3beta's walks chose, by score, best first.

    score(source, target) = walks * n[source]**-alpha * n[target]**-beta: the probability of walking source -> user ->
    target, each step's raised to alpha. The sources are chosen without their own factor: it prefers those that hardly
    anybody has seen, and those are in no history.
    """
    n_best = len(walks.score) // len(walks.size)
    taken = np.arange(n_best) < walks.size[:, None]
    source = np.where(taken, walks.source.reshape(-1, n_best), 0)
    walk = np.where(taken, walks.score.reshape(-1, n_best), 0.0)
    support = walks.support.reshape(-1, n_best)
    out = np.empty(len(position), np.float64)
    out[position] = viewers.astype(np.float64) ** -parameters.alpha
    score = walk * out[source] * (viewers.astype(np.float64) ** -parameters.beta)[:, None]
    places = np.arange(len(source))[:, None], np.lexsort((source, -np.where(taken, score, -1.0)), axis=1)
    return walks._replace(score=score[places].ravel(), source=source[places].ravel(), support=support[places].ravel())
