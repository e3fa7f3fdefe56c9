"""Search for better parameters of the similarity: suggested in a file, never configured.

Trials are judged on a validation split cut from the training part; the test part is looked at once, at the end, to
compare what is suggested with what is configured. The optimiser is Optuna's TPE (Bergstra et al., NeurIPS 2011).
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa

from movierec_platform.config import variable_of, write_env_file
from movierec_platform.domain.evaluation.intervals import Comparison
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.evaluation.results import Evaluation
from movierec_platform.domain.evaluation.splits import split_by
from movierec_platform.errors import NobodyToTest
from movierec_platform.services.evaluate import Learned, evaluate_split, split_of


@dataclass(frozen=True, slots=True)
class Searched:
    """The range of one parameter."""

    low: float
    high: float
    log: bool = False
    """Whether ratios matter rather than differences."""
    whole: bool = False


POWER = "query_weight_power"
SEARCHED: Mapping[str, Mapping[str, Searched]] = {
    "slim": {
        "l1": Searched(0.1, 20, log=True),
        "l2": Searched(10, 1_000, log=True),
        "support_size": Searched(50, 400, log=True, whole=True),
        "shrink": Searched(1, 200, log=True),
        POWER: Searched(0, 3),
    },
    "cosine": {
        "neighbours": Searched(10, 200, log=True, whole=True),
        "shrink": Searched(1, 200, log=True),
        POWER: Searched(0, 3),
    },
    "rp3beta": {"alpha": Searched(0.2, 2), "beta": Searched(0, 1.2), POWER: Searched(0, 3)},
}
"""What is searched for each method; everything else stays as configured."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A model, its NDCG on the validation split, and the seconds that it took."""

    model: Learned
    ndcg: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The best of the trials, and how it does on the test, beside what is configured."""

    configured: Learned
    suggested: Learned
    trials: Sequence[Trial]
    """The first is what is configured."""
    validation_users: int
    test: Evaluation
    """Of the models `configured` and `suggested`."""
    comparison: Comparison
    """Suggested beside configured, NDCG on the test."""

    def variables(self) -> dict[str, str]:
        """The settings that would make the suggestion the configuration, by variable."""
        return {_variable(name): f"{value:g}" for name, value in searched_values(self.suggested).items()}

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "configured": _as_json(self.configured),
            "suggested": _as_json(self.suggested),
            "variables": self.variables(),
            "comparison": self.comparison.as_json(),
            "test": self.test.as_json(),
            "validation_users": self.validation_users,
            "trials": [{**_as_json(one.model), "ndcg": one.ndcg, "seconds": one.seconds} for one in self.trials],
        }


def tune(
    interactions: pa.Table,
    configured: Learned,
    protocol: Protocol,
    minutes: float,
    most_trials: int | None = None,
    progress: Callable[[Sequence[Trial], float], None] = lambda trials, seconds: None,
) -> Suggestion:
    """What TPE finds within the minutes (a trial that has begun is finished) or the number of trials.

    `progress` is called with the trials so far and the seconds that have gone. With `most_trials` reached before the
    time is over, equal interactions and protocols give equal suggestions. Raises NobodyToTest if test or validation
    leave no user.
    """
    split = split_of(interactions, protocol)
    validation = split_by(protocol, split.train)
    if not len(validation.user_ids):
        raise NobodyToTest(
            f"the {protocol.split} split of the {len(split.train)} interactions to learn from leaves nobody to choose "
            "parameters by: try --split random, or load more data"
        )
    begun = time.monotonic()
    trials: list[Trial] = []

    def objective(trial: optuna.Trial) -> float:
        drawn = _drawn(trial, configured)
        model = drawn if trials else configured  # what is configured may lie outside of the ranges
        trial_begun = time.monotonic()
        found = evaluate_split(validation, None, {"trial": model}, protocol)
        ndcg = found.models["trial"].metrics["ndcg"].value
        trials.append(Trial(model, ndcg, round(time.monotonic() - trial_begun, 3)))
        progress(trials, time.monotonic() - begun)
        return ndcg

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=protocol.seed))
    study.enqueue_trial(_within_ranges(configured))
    study.optimize(objective, n_trials=most_trials, timeout=60 * minutes)
    suggested = max(trials, key=lambda one: one.ndcg).model  # of equals the first, so rather what is configured
    test = evaluate_split(split, None, {"configured": configured, "suggested": suggested}, protocol)
    return Suggestion(
        configured=configured,
        suggested=suggested,
        trials=trials,
        validation_users=len(validation.user_ids),
        test=test,
        comparison=test.compare("suggested", "configured"),
    )


def write_suggestion(path: Path, suggestion: Suggestion) -> Path:
    """The file has the variables as lines for .env; beside it, with the ending .json, are the trials: that path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_env_file(path, suggestion.variables())
    trials = path.with_suffix(".json")
    trials.write_text(json.dumps(suggestion.as_json(), indent=1) + "\n", encoding="utf-8")
    return trials


def searched_values(model: Learned) -> dict[str, float]:
    """What is searched for models of its method, as it has it."""
    return {
        name: model.query_weight_power if name == POWER else float(getattr(model.parameters, name))
        for name in SEARCHED[model.parameters.method]
    }


def _drawn(trial: optuna.Trial, configured: Learned) -> Learned:
    drawn: dict[str, Any] = {}
    for name, searched in SEARCHED[configured.parameters.method].items():
        if searched.whole:
            drawn[name] = trial.suggest_int(name, int(searched.low), int(searched.high), log=searched.log)
        else:
            # What is written as a setting is what was tried.
            drawn[name] = float(f"{trial.suggest_float(name, searched.low, searched.high, log=searched.log):.4g}")
    power = drawn.pop(POWER)
    return Learned(replace(configured.parameters, **drawn), power)


def _within_ranges(model: Learned) -> dict[str, float]:
    ranges = SEARCHED[model.parameters.method]
    return {
        name: min(max(value, ranges[name].low), ranges[name].high) for name, value in searched_values(model).items()
    }


def _variable(name: str) -> str:
    return variable_of(name if name == POWER else f"similarity_{name}")


def _as_json(model: Learned) -> dict[str, Any]:
    return {**asdict(model.parameters), POWER: model.query_weight_power}
