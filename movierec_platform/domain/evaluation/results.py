"""The outcome of an evaluation."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from movierec_platform.domain.evaluation.intervals import Comparison, Estimate, compare
from movierec_platform.domain.evaluation.metrics import LABELS, by_history_length
from movierec_platform.domain.evaluation.protocol import Protocol

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ModelResult:
    """One model's metrics: means with intervals, and the values of each test user that they are the means of."""

    name: str
    metrics: Mapping[str, Estimate]
    """By the names of `metrics.LABELS`."""
    per_user: Mapping[str, Floats]
    """(users,) each, by the names of `metrics.PER_USER`; the users of all models are the same, in the same order."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Models on the same test users. Equal input gives equal numbers."""

    protocol: Protocol
    users: int
    """Test users."""
    newcomers: int
    """Of them, those of whom no model has learned."""
    candidates: int
    """Users who could have been tested, of whom `users` is a sample or all."""
    train_interactions: int
    test_interactions: int
    catalogue: int
    """Movies that could be recommended."""
    cut_ms: int | None
    """First moment of the test (epoch ms); None for a random split."""
    history_lengths: Ints
    """(users,): rows of the query."""
    models: Mapping[str, ModelResult]

    def compare(self, first: str, second: str, metric: str = "ndcg") -> Comparison:
        """The first model beside the second, paired by user."""
        one, other = (self.models[name].per_user[metric] for name in (first, second))
        return compare(one, other, self.protocol.seed)

    def by_history_length(self, metric: str = "ndcg") -> dict[str, dict[str, float]]:
        """For each class of query length, its users, and each model's mean of the metric."""
        values = {name: result.per_user[metric] for name, result in self.models.items()}
        return by_history_length(self.history_lengths, values)

    def as_json(self) -> dict[str, Any]:
        """Everything but the values of single users; what is not known is None."""
        return {
            "protocol": asdict(self.protocol),
            "users": self.users,
            "newcomers": self.newcomers,
            "candidates": self.candidates,
            "train_interactions": self.train_interactions,
            "test_interactions": self.test_interactions,
            "catalogue": self.catalogue,
            "cut_ms": self.cut_ms,
            "models": {
                name: {
                    metric: result.metrics[metric].as_json()
                    for metric in LABELS
                    if not math.isnan(result.metrics[metric].value)
                }
                for name, result in self.models.items()
            },
            "by_history_length": self.by_history_length(),
        }
