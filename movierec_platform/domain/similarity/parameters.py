"""How a similarity is learned."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal["slim", "cosine", "rp3beta"]


@dataclass(frozen=True, slots=True)
class SimilarityParameters:
    """What decides the edges beside the data; a ValueError says which value is not allowed."""

    method: Method = "slim"
    neighbours: int = 50
    """Incoming edges kept for each movie, at most."""
    support_size: int = 100
    """slim: movies that one may lean on, its nearest by cosine; no more than these become edges."""
    shrink: float = 10.0
    """cosine and slim: added to the cosine's denominator, against pairs that few users support."""
    l1: float = 1.0
    """slim: weight of the sum of the weights, in users; the higher, the fewer edges."""
    l2: float = 50.0
    """slim: weight of half the sum of their squares, in users; the higher, the smaller and more equal they are."""
    alpha: float = 0.4
    """rp3beta: exponent of the probability of each step of the walk."""
    beta: float = 0.4
    """rp3beta: exponent of the popularity that the walk's end is divided by."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method is {self.method!r}; choose one of {', '.join(get_args(Method))}")
        for name in ("neighbours", "support_size"):
            value = getattr(self, name)
            if not 1 <= value <= 1_000:
                raise ValueError(f"{name} is {value}; choose a whole number from 1 to 1000")
        for name in ("shrink", "l1", "l2", "alpha", "beta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; choose a number that is at least 0")
