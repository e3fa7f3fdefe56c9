"""How an evaluation is done: everything that decides its numbers, beside the interactions and the models."""

from dataclasses import dataclass
from typing import Literal

SplitKind = Literal["temporal", "random"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Equal protocols on equal interactions give equal numbers. Raises ValueError for what makes no sense."""

    split: SplitKind = "temporal"
    k: int = 10
    """Length of the recommended lists."""
    test_share: float = 0.2
    """Of the interactions: the latest ones (temporal) or any (random)."""
    seed: int = 0
    """Decides the random split, the sample of users and the bootstrap."""
    users: int = 5_000
    """Test users at most; of more a sample is taken."""
    relevant_from: float | None = None
    """Only test interactions rated so or higher are relevant; None: each one is, rated or not."""

    def __post_init__(self) -> None:
        if self.split not in ("temporal", "random"):
            raise ValueError(f"the split is temporal or random, got {self.split!r}")
        if not 1 <= self.k <= 1_000:
            raise ValueError(f"k lies between 1 and 1000, got {self.k}")
        if not 0 < self.test_share < 1:
            raise ValueError(f"the test share lies between 0 and 1, both excluded, got {self.test_share:g}")
        if self.users < 1:
            raise ValueError(f"at least 1 test user is needed, got {self.users}")
        if self.seed < 0:
            raise ValueError(f"the seed is 0 or greater, got {self.seed}")
        if self.relevant_from is not None and not 0.5 <= self.relevant_from <= 5:
            raise ValueError(f"ratings lie between 0.5 and 5, so relevant_from cannot be {self.relevant_from:g}")
