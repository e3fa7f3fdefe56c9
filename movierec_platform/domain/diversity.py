"""Variety among what is recommended: the best that is not like what stands above it."""

from collections.abc import Sequence

import numpy as np

from movierec_platform.domain.catalogue import Catalogue
from movierec_platform.domain.ranking import Ranked

POOL = 200
"""The first places of the ladder, among which the order changes; those below stay where they are."""


def diversified(ranked: Sequence[Ranked], movies: Catalogue, diversity: float, limit: int) -> list[Ranked]:
    """The first `limit` of these, in the order of maximal marginal relevance (Carbonell and Goldstein 1998).

    Each next one has the highest (1 - diversity) * relevance - diversity * likeness, ties to the earlier place.
    Relevance falls evenly from 1 at the first place to 0 at place POOL, as scores of different strategies do not
    compare. Likeness is the highest Jaccard index of genres with one chosen before; movies without a genre are like
    none. `diversity` is from 0 (changes nothing) to 1. What stands at a place does not depend on `limit`, if `ranked`
    has the POOL first.
    """
    pool = ranked[:POOL]
    genres = movies.genres[[one.index for one in pool]].astype(np.float64)
    counts = genres.sum(axis=1)
    shared = genres @ genres.T
    likeness = shared / np.maximum(counts[:, None] + counts[None, :] - shared, 1.0)
    relevance = (1.0 - diversity) * (1.0 - np.arange(len(pool)) / POOL)
    likest = np.zeros(len(pool))
    chosen: list[int] = []
    for _ in range(min(limit, len(pool))):
        value = relevance - diversity * likest
        value[chosen] = -np.inf
        best = int(value.argmax())
        chosen.append(best)
        likest = np.maximum(likest, likeness[best])
    return ([pool[place] for place in chosen] + list(ranked[POOL:]))[:limit]
