"""The one way to learn a similarity."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from movierec_platform.domain.similarity.edges import Edges, Ints
from movierec_platform.domain.similarity.parameters import SimilarityParameters

if TYPE_CHECKING:
    from movierec_platform.domain.similarity.seen import Int32s
    from movierec_platform.domain.similarity.walks import Heaps

WORK_BYTES = 512 * 1024 * 1024
DEFAULTS = SimilarityParameters()


def neighbours(
    users: Ints,
    movies: Ints,
    parameters: SimilarityParameters = DEFAULTS,
    *,
    n_threads: int | None = None,
    work_bytes: int = WORK_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Edges:
    """The best `parameters.neighbours` sources of every movie by `parameters.method`: exact, down to ties.

    users, movies: shape (n_seen,), ids (int64) in any order; position k says that users[k] has seen movies[k]. A
    repeated pair counts once. Pairs that no user saw both of have no edge, nor have those of which the method leaves no
    score above 0. Bit for bit the same for any order of the input, `n_threads` (default: the cores that this process
    may use) and `work_bytes`, which bounds what is held beside 24 bytes a pair and the result; less makes it slower.
    `progress(done, total)` is called from this thread, in units of the method's own, `total` the same each time.
    """
    # Compiled code takes a second to load, which those who only read edges need not wait for.
    from movierec_platform.domain.similarity.cooccurrence import strongest, walk_scores
    from movierec_platform.domain.similarity.seen import seen_matrix
    from movierec_platform.domain.similarity.slim import slim
    from movierec_platform.domain.similarity.walks import sort_best_first

    n_threads = n_threads or _cores()
    seen = seen_matrix(users, movies)
    tell = progress or (lambda _done, _total: None)
    if len(seen.movie_ids) == 0:
        nothing = np.empty(0, np.int64)
        return Edges(nothing, nothing, np.empty(0, np.float64), np.empty(0, np.int32), nothing)
    if parameters.method == "slim":
        best = slim(seen, parameters, n_threads, work_bytes, tell)
    else:
        best = strongest(seen, parameters, parameters.neighbours, n_threads, work_bytes, tell)
        sort_best_first(best)
    if parameters.method == "rp3beta":
        best = walk_scores(best, seen.position, seen.viewers, parameters)
    movie_ids, position = seen.movie_ids, seen.position
    del seen  # whose memory the edges may take
    return edges_of(movie_ids, position, best)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def edges_of(movie_ids: Ints, position: "Int32s", best: "Heaps") -> Edges:
    """The sorted heaps as edges: numbers become ids, targets are put in order of their ids."""
    n_best = len(best.score) // len(best.size)
    by_id = np.argsort(position)
    size = best.size[by_id]
    taken = np.arange(n_best) < size[:, None]
    return Edges(
        source=movie_ids[best.source.reshape(taken.shape)[by_id][taken]],
        target=np.repeat(movie_ids, size),
        score=best.score.reshape(taken.shape)[by_id][taken],
        rank=np.broadcast_to(np.arange(1, n_best + 1, dtype=np.int32), taken.shape)[taken],
        support=best.support.reshape(taken.shape)[by_id][taken].astype(np.int64),
    )
