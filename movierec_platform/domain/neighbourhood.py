"""The published similarity as flat arrays, read from both ends: what a movie leads to, and what leads to it."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Indexes = NDArray[np.int32]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """The similarity edges of M movies by index, E of them; read-only arrays, compressed sparse rows both ways.

    - starts: int64 (M + 1,); the edges out of source `s` are `starts[s]:starts[s + 1]`, by target ascending.
    - targets: int32 (E,), indexes. scores: float64 (E,), above 0. supports: int32 (E,), users who saw both.
    - in_starts: int64 (M + 1,); the edges into target `t` are `in_edges[in_starts[t]:in_starts[t + 1]]`, by source
      ascending. in_sources: int32 (E,), their sources. in_edges: int32 (E,), where they stand in `targets`.
    """

    starts: Ints
    targets: Indexes
    scores: Floats
    supports: Indexes
    in_starts: Ints
    in_sources: Indexes
    in_edges: Indexes


def neighbourhood(movie_ids: Ints, source_ids: Ints, target_ids: Ints, scores: Floats, supports: Ints) -> Neighbourhood:
    """The arrays of these edges, given in any order, each an array (E,).

    `movie_ids` int64 (M,) is ascending and unique: a movie's index is its place there. An edge whose source or target
    is not in it, or whose score is not above 0, is left out.
    """
    source, source_known = indexes_of(movie_ids, source_ids)
    target, target_known = indexes_of(movie_ids, target_ids)
    kept = source_known & target_known & (scores > 0)
    source, target, scores, supports = source[kept], target[kept], scores[kept], supports[kept]
    order = np.lexsort((target, source))
    source, target = source[order], target[order]
    incoming = np.lexsort((source, target))
    return Neighbourhood(
        starts=_starts(source, len(movie_ids)),
        targets=read_only(target.astype(np.int32)),
        scores=read_only(scores[order].astype(np.float64)),
        supports=read_only(supports[order].astype(np.int32)),
        in_starts=_starts(target, len(movie_ids)),
        in_sources=read_only(source[incoming].astype(np.int32)),
        in_edges=read_only(incoming.astype(np.int32)),
    )


def indexes_of(movie_ids: Ints, wanted: Ints) -> tuple[Ints, Bools]:
    """Index of each wanted id, and whether it is known; where it is not, the index means nothing."""
    if not len(movie_ids):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    index = np.minimum(np.searchsorted(movie_ids, wanted), len(movie_ids) - 1)
    return index, movie_ids[index] == wanted


def read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """This array, which nobody can write any more: readers share it."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _starts(owners: Ints, size: int) -> Ints:
    starts = np.zeros(size + 1, dtype=np.int64)
    np.cumsum(np.bincount(owners, minlength=size), out=starts[1:])
    starts.flags.writeable = False
    return starts
