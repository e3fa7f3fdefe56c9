"""Edges between movies, as they are stored, published and served."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges, one per array position: having seen `source`, `target` is recommended.

    All arrays have shape (n_edges,), ordered by target ascending, then rank ascending; no (source, target) repeats and
    no movie points at itself.
    """

    source: Ints
    target: Ints
    score: Floats
    """Above 0 and finite, never NaN; at most 1 but for rp3beta."""
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
