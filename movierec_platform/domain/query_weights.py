"""How much each movie of a history counts when recommendations are asked for with it."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_RATING = 5.0
UNRATED_WEIGHT = 0.7
"""A view without a rating counts like a rating of 3.5, about the mean of MovieLens."""


def query_weights(ratings: Floats, power: float = 1.0) -> Floats:
    """(rating / 5) ** power for each rating, same shape; NaN is a view without one, and has 0.7 for rating / 5.

    The power is 0 or greater: at 0 all movies count alike.
    """
    weights: Floats = np.where(np.isnan(ratings), UNRATED_WEIGHT, ratings / MAX_RATING) ** power
    return weights
