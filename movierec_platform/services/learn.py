"""Learn the similarity from the lake's interactions, as the settings say: on this machine, or on Spark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings
from movierec_platform.domain.interactions import visible
from movierec_platform.domain.similarity import Edges, SimilarityParameters, neighbours

INTERACTIONS = "interactions"
MIB = 1024 * 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LearnedEdges:
    """What was learned, and from how many visible pairs."""

    edges: Edges
    pairs: int


Learn = Callable[[Lake, SimilarityParameters, Progress], LearnedEdges]


def parameters_of(settings: Settings, given: Mapping[str, Any] | None = None) -> SimilarityParameters:
    """The parameters that the settings name; those that are given (by name, not None) win."""
    names = [field.name for field in fields(SimilarityParameters)]
    configured = {name: getattr(settings, f"similarity_{name}") for name in names}
    return SimilarityParameters(**configured | {name: one for name, one in (given or {}).items() if one is not None})


def learner_of(settings: Settings) -> Learn:
    """The engine that the settings name; the edges are the same."""
    if settings.similarity_engine == "spark":
        from movierec_platform.adapters.spark import learn_on_spark

        def learn_there(_: Lake, parameters: SimilarityParameters, progress: Progress) -> LearnedEdges:
            return LearnedEdges(*learn_on_spark(settings, parameters, progress))

        return learn_there

    def learn(lake: Lake, parameters: SimilarityParameters, progress: Progress) -> LearnedEdges:
        return learn_here(lake, parameters, progress, settings.similarity_work_mib)

    return learn


def learn_here(
    lake: Lake, parameters: SimilarityParameters, progress: Progress | None = None, work_mib: int = 512
) -> LearnedEdges:
    """Learned on the cores of this machine; `work_mib` and `progress` are those of `neighbours`."""
    interactions = lake.read(INTERACTIONS, columns=["user_id", "movie_id", "seen_at_ms", "retracted_at_ms"])
    seen = interactions.filter(visible(interactions)).select(["user_id", "movie_id"])
    del interactions
    users, movies = seen["user_id"].to_numpy(), seen["movie_id"].to_numpy()
    del seen
    edges = neighbours(users, movies, parameters, work_bytes=work_mib * MIB, progress=progress)
    return LearnedEdges(edges, len(users))
