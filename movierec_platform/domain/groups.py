"""One score for several people: what they would agree on."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from movierec_platform.domain.neighbourhood import Bools, Floats, Neighbourhood
from movierec_platform.domain.ranking import Query, cf_scores

Aggregation = Literal["mean", "least_misery"]


def group_scores(queries: Sequence[Query], edges: Neighbourhood, blocked: Bools, aggregation: Aggregation) -> Floats:
    """Each movie's score for the whole group, (M,), from 0 to 1; 0 for what is blocked (M,).

    Everybody's scores are divided by the highest that is not blocked, so that a long history weighs no more than a
    short one. `mean` is their mean, `least_misery` the least of them (Masthoff 2011, section 21.3): a movie that
    nothing leads to for one member has 0. Members of whom nothing is known have no say.
    """
    members = []
    for query in queries:
        scores = cf_scores(query, edges)
        scores[blocked] = 0.0
        highest = scores.max(initial=0.0)
        if highest > 0:
            members.append(scores / highest)
    if not members:
        return np.zeros(len(blocked))
    stacked = np.stack(members)
    combined: Floats = stacked.mean(axis=0) if aggregation == "mean" else stacked.min(axis=0)
    return combined
