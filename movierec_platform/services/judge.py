"""Judge a version of the similarity: test it beside what readers use, and keep the gate's verdict in the lake."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.evaluation.results import Evaluation
from movierec_platform.domain.evaluation.splits import Split
from movierec_platform.domain.publish_gate import GatePolicy, Scores, Verdict, judge
from movierec_platform.domain.similarity import SimilarityParameters
from movierec_platform.errors import CheckFailed, NobodyToTest
from movierec_platform.services.evaluate import (
    Learned,
    Model,
    Popularity,
    Progress,
    Stored,
    evaluate_split,
    read_visible,
    split_of,
)
from movierec_platform.services.versions import (
    Evaluated,
    edges_of,
    evaluation_of,
    held_versions,
    learned_of,
    publications,
    record_evaluated,
)

POPULARITY, CANDIDATE, CANDIDATE_EDGES, PUBLISHED, PUBLISHED_EDGES = (
    "popularity",
    "candidate, learned",
    "candidate, stored",
    "published, learned",
    "published, stored",
)


@dataclass(frozen=True, slots=True)
class JudgePolicy:
    """How versions are tested, and what the gate demands."""

    protocol: Protocol
    gate: GatePolicy
    query_weight_power: float = 1.0
    """As serving weights a history."""

    @classmethod
    def of(cls, settings: Settings) -> "JudgePolicy":
        """What the settings say."""
        return cls(
            Protocol(users=settings.gate_test_users),
            GatePolicy(least_share=settings.gate_ndcg_share, least_users=settings.gate_least_users),
            settings.query_weight_power,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A verdict, and what it was found on; None: nothing was tested."""

    evaluated: Evaluated
    evaluation: Evaluation | None


def judge_newest(
    lake: Lake, graph: Graph, policy: JudgePolicy, now_ms: int, progress: Progress = lambda *_: None
) -> Judged:
    """`judge_version` of the newest that the lake holds; CheckFailed if it holds none."""
    versions = held_versions(lake)
    if not versions:
        raise CheckFailed("the lake has no similarity to judge; run movie_similarity first")
    return judge_version(lake, graph, versions[-1], policy, now_ms, progress)


def judged(
    lake: Lake, graph: Graph, version: str, policy: JudgePolicy, now_ms: int, progress: Progress = lambda *_: None
) -> Evaluated:
    """The verdict that the lake keeps, if it was reached beside what readers use now; else a new one."""
    evaluated, current = evaluation_of(lake, version), graph.publication()
    if evaluated is not None and evaluated.published == (current.version if current else None):
        return evaluated
    return judge_version(lake, graph, version, policy, now_ms, progress).evaluated


def judge_version(
    lake: Lake, graph: Graph, version: str, policy: JudgePolicy, now_ms: int, progress: Progress = lambda *_: None
) -> Judged:
    """The verdict on this version, which the lake keeps from now on; equal interactions give equal verdicts.

    The test is that of the policy, on a temporal split; where that leaves too few users, on a random one.
    """
    current = graph.publication()
    published = current.version if current else None
    other = None if published == version else published
    evaluation = None
    parameters = recorded_parameters(lake, version)
    if parameters is None:
        protocol, users = policy.protocol, 0
        verdict = Verdict(False, "the lake does not tell how it was learned, so it cannot be judged", ())
    else:
        protocol, split, users = _test(read_visible(lake), policy)
        scores = Scores(users, 0.0, 0.0, 0.0)
        if split is not None:
            models = _models(lake, version, parameters, other, policy.query_weight_power)
            evaluation = evaluate_split(split, lake.read("movies"), models, protocol, progress)
            scores = _scores(evaluation)
        verdict = judge(scores, other, policy.gate)
    figures = {} if evaluation is None else evaluation.as_json()["models"]
    ndcg = figures.get(CANDIDATE, {}).get("ndcg", {})
    evaluated = record_evaluated(
        lake,
        Evaluated(
            version=version,
            evaluated_at_ms=now_ms,
            published=published,
            passed=verdict.passed,
            reason=verdict.reason,
            users=users,
            ndcg=ndcg.get("value"),
            ndcg_low=ndcg.get("low"),
            ndcg_high=ndcg.get("high"),
            protocol=asdict(protocol),
            models=figures,
            rules=[asdict(one) for one in verdict.findings],
        ),
    )
    return Judged(evaluated, evaluation)


def published_model(lake: Lake, query_weight_power: float) -> Learned | None:
    """What readers were given last, by what the lake tells; None if it does not."""
    moves = publications(lake)
    parameters = recorded_parameters(lake, moves[-1].version) if moves else None
    return None if parameters is None else Learned(parameters, query_weight_power)


def recorded_parameters(lake: Lake, version: str) -> SimilarityParameters | None:
    """What this version was learned with; None if nobody recorded it, or with parameters that there are no more."""
    learned = learned_of(lake, version)
    if learned is None:
        return None
    try:
        return SimilarityParameters(**learned.parameters)
    except (TypeError, ValueError):
        return None


def _test(interactions: pa.Table, policy: JudgePolicy) -> tuple[Protocol, Split | None, int]:
    """The protocol, its split (None: it has too few users to tell anything) and how many test users it has.

    Who is to be recommended only movies that the training part lacks tells nothing, and does not count.
    """
    most = 0
    for kind in ("temporal", "random"):
        protocol = replace(policy.protocol, split=kind)
        try:
            split = split_of(interactions, protocol)
        except NobodyToTest:
            continue
        learnable = np.isin(split.relevant.movie_id, split.train.movie_id)
        users = len(np.unique(split.relevant.user_id[learnable]))
        if users >= policy.gate.least_users:
            return protocol, split, len(split.user_ids)
        most = max(most, users)
    return policy.protocol, None, most


def _models(
    lake: Lake, version: str, parameters: SimilarityParameters, published: str | None, power: float
) -> dict[str, Model]:
    """What is tested: the candidate, and whatever the lake still knows of the published version."""
    models: dict[str, Model] = {
        POPULARITY: Popularity(),
        CANDIDATE: Learned(parameters, power),
        CANDIDATE_EDGES: Stored(edges_of(lake, version), power),
    }
    if published is not None:
        of_published = recorded_parameters(lake, published)
        if of_published is not None:
            models[PUBLISHED] = Learned(of_published, power)
        if published in held_versions(lake):
            models[PUBLISHED_EDGES] = Stored(edges_of(lake, published), power)
    return models


def _scores(evaluation: Evaluation) -> Scores:
    ndcg = {name: result.metrics["ndcg"].value for name, result in evaluation.models.items()}
    return Scores(
        evaluation.users,
        popularity=ndcg[POPULARITY],
        learned=ndcg[CANDIDATE],
        stored=ndcg[CANDIDATE_EDGES],
        published_learned=ndcg.get(PUBLISHED),
        published_stored=ndcg.get(PUBLISHED_EDGES),
    )
