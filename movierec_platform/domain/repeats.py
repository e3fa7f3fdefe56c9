"""Which ratings repeat a (user, movie) pair, found in memory that does not grow with what a rating holds.

Eight bytes a rating: each pair becomes a 64-bit key, and sorted keys show which occur twice. Ids are 63 bits wide, so
different pairs may share a key; that costs a look at their rows, and never a wrong answer.
"""

from array import array
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Keys = npt.NDArray[np.uint64]
COLUMNS = ["user_id", "movie_id", "rated_at_ms", "rating"]
# Two odd constants of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). Multiplied
# by odd numbers, ids of less than 32 bits practically never meet.
_USER, _MOVIE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def pair_keys(batch: pa.RecordBatch) -> Keys:
    """One key per row of columns user_id and movie_id (int64 >= 0), shape (n,); equal pairs have equal keys."""
    users, movies = (batch[name].to_numpy().view(np.uint64) for name in COLUMNS[:2])
    keys: Keys = users * _USER ^ movies * _MOVIE
    return keys


class PairKeys:
    """The keys of all ratings seen so far."""

    def __init__(self) -> None:
        self._keys = array("Q")

    def add(self, batch: pa.RecordBatch) -> None:
        """The rows of this batch are among those seen."""
        self._keys.frombytes(pair_keys(batch).tobytes())

    def repeated(self) -> Keys:
        """The keys seen more than once, ascending, each once; nothing can be added after it."""
        keys = np.frombuffer(self._keys, np.uint64)
        keys.sort()
        return np.unique(keys[1:][keys[1:] == keys[:-1]])


def superseded(
    batches: Callable[[], Iterable[pa.RecordBatch]],
    repeated: Keys,
    rows: int,
    keys_at_once: int = 2**21,
    rows_held: int = 2**20,
) -> npt.NDArray[np.bool_]:
    """For each of the `rows`, whether another row of its pair counts instead, shape (rows,).

    The latest counts; of those at the same time the highest; of equal ones the last. `batches` gives the rows (columns
    COLUMNS) from the beginning each time that it is called: once for each `keys_at_once` of the repeated keys. A row
    for each of those and about `rows_held` more are in memory.
    """
    lost = np.zeros(rows, np.bool_)
    for start in range(0, len(repeated), keys_at_once):
        wanted = repeated[start : start + keys_at_once]
        held: list[_Rows] = []
        rows_now, settled, position = 0, 0, 0
        for batch in batches():
            at = np.searchsorted(wanted, keys := pair_keys(batch))
            found = np.flatnonzero(wanted[np.minimum(at, len(wanted) - 1)] == keys)
            held.append((*(batch[name].to_numpy()[found] for name in COLUMNS), found + position))
            rows_now += len(found)
            position += batch.num_rows
            if rows_now > 2 * settled + rows_held:
                held = [_winners(held, lost)]
                rows_now = settled = len(held[0][0])
        _winners(held, lost)
    return lost


_Rows = tuple[npt.NDArray[Any], ...]
"""(user_id, movie_id, rated_at_ms, rating, position), each of shape (n,)"""


def _winners(parts: Iterable[_Rows], lost: npt.NDArray[np.bool_]) -> _Rows:
    """The row of each pair that counts; the positions of the others are marked as lost."""
    rows = tuple(map(np.concatenate, zip(*parts, strict=True)))
    user, movie, rated_at_ms, rating, position = rows
    order = np.lexsort((position, rating, rated_at_ms, movie, user))
    beaten = np.zeros(len(order), np.bool_)
    beaten[:-1] = (np.diff(user[order]) == 0) & (np.diff(movie[order]) == 0)
    lost[position[order[beaten]]] = True
    return tuple(column[order[~beaten]] for column in rows)
