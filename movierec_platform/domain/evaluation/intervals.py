"""How sure a mean over users is: the bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).

Users are drawn, not interactions: those of one user are not independent. Equal seeds draw equal users, so the samples
of two models are paired.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAWS = 1_000
LEVEL = 0.95
_DRAWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % percentile interval (section 13.3); no interval (None) where resampling says nothing."""

    value: float
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same users.

    difference: mean of first - second. ratio: mean of first / mean of second; None where the second's mean is 0.
    p_value: two-sided, of there being no difference: twice the share of samples on the other side of 0, of which one
    more than was seen is counted (Davison and Hinkley, "Bootstrap Methods", 1997, section 4.2); 2 / 1001 at least.
    """

    difference: Estimate
    ratio: Estimate | None
    p_value: float

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        ratio = None if self.ratio is None else self.ratio.as_json()
        return {"difference": self.difference.as_json(), "ratio": ratio, "p_value": self.p_value}


def estimates(per_user: Floats, seed: int, draws: int = DRAWS) -> list[Estimate]:
    """For each column of `per_user`, (users, values), the mean over the users who have a value, with its interval.

    NaN: the user has none. A column without values has the mean NaN and no interval.
    """
    known = ~np.isnan(per_user)
    samples = _resampled_means(per_user, seed, draws)
    found = []
    for column in range(per_user.shape[1]):
        values = per_user[known[:, column], column]
        if not len(values):
            found.append(Estimate(float("nan")))
            continue
        low, high = _interval(samples[:, column])
        found.append(Estimate(float(values.mean()), low, high))
    return found


def compare(first: Floats, second: Floats, seed: int, draws: int = DRAWS) -> Comparison:
    """The first model's values beside the second's, both (users,), of the same users in the same order."""
    samples = _resampled_means(np.column_stack((first, second)), seed, draws)
    differences = samples[:, 0] - samples[:, 1]
    ratio = None
    if second.mean() > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = Estimate(float(first.mean() / second.mean()), *_interval(samples[:, 0] / samples[:, 1]))
    # A difference of 0 that is only not seen as one, for the order of the sum, is none.
    differences[np.abs(differences) < 1e-12] = 0.0
    not_above, not_below = np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0)
    return Comparison(
        difference=Estimate(float(first.mean() - second.mean()), *_interval(differences)),
        ratio=ratio,
        p_value=min(1.0, 2 * (1 + min(int(not_above), int(not_below))) / (draws + 1)),
    )


def _interval(samples: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled_means(per_user: Floats, seed: int, draws: int) -> Floats:
    """(draws, values): the means of samples of the users with replacement; NaN where a sample holds no value."""
    users = len(per_user)
    chance = np.random.default_rng(seed)
    known = (~np.isnan(per_user)).astype(np.float64)
    values = np.nan_to_num(per_user)
    means = np.empty((draws, per_user.shape[1]))
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        # How often each user is drawn is multinomial: the sums of a sample are one matrix product.
        times = chance.multinomial(users, np.full(users, 1 / users), size).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[start : start + size] = (times @ values) / (times @ known)
    return means
