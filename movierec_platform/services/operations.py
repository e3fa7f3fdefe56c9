"""How the platform stands, for the people who run it: queues, freshness, quarantine, parity, versions and quality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_similarity import Publication
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.queues import QUEUE_NAMES, Depth, QueueName, open_queue
from movierec_platform.adapters.state import Drift, State
from movierec_platform.config import Settings
from movierec_platform.domain import freshness
from movierec_platform.errors import MovierecError
from movierec_platform.services.metrics import state_figures
from movierec_platform.services.questioner import Questioner
from movierec_platform.services.versions import Evaluated, evaluations, publications


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from receiving an event to committing it in the graph, over all events so far."""

    p50_s: float | None
    p95_s: float | None
    buckets: Sequence[tuple[float, float]]
    """(upper bound, events in that bucket alone); the last bound is infinite."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What was answered; None where a part did not answer, and then its name is in `down`."""

    down: tuple[str, ...]
    queues: Mapping[QueueName, Depth] | None
    freshness: Freshness | None
    held: Mapping[str, int] | None
    """Events in quarantine by reason."""
    drift: Drift | None
    """Of the last comparison of graph and lake; also None before the first."""
    publication: Publication | None
    """Also None where nothing is published."""
    evaluations: Sequence[Evaluated] | None
    """The last evaluation of each version, the newest version last."""
    publications: Sequence[Publication] | None
    """Every move of the pointer, the latest last."""


class Operations:
    """Asks the parts side by side, as many seconds at most as a `Questioner` waits; thread-safe."""

    def __init__(self, settings: Settings, state: Callable[[], State], graph: Graph, lake: Lake) -> None:
        def depths() -> dict[QueueName, Depth]:
            return {name: open_queue(settings, name).depth() for name in QUEUE_NAMES}

        self._questioner = Questioner(
            {
                "queues": depths,
                "state": lambda: state_figures(state()),
                "graph": graph.publication,
                "lake": lambda: (evaluations(lake), publications(lake)),
            }
        )

    def overview(self) -> Overview:
        """How everything stands now."""
        said = self._questioner.ask()
        answers: dict[str, Any] = {
            part: None if isinstance(answer, MovierecError) else answer for part, answer in said.items()
        }
        figures, lake = answers["state"], answers["lake"]
        return Overview(
            down=tuple(part for part, answer in said.items() if isinstance(answer, MovierecError)),
            queues=answers["queues"],
            freshness=None if figures is None else _freshness(figures.counters),
            held=None if figures is None else figures.held,
            drift=None if figures is None else figures.drift,
            publication=answers["graph"],
            evaluations=None if lake is None else lake[0],
            publications=None if lake is None else lake[1],
        )

    def close(self) -> None:
        """Nobody is asked any more."""
        self._questioner.close()


def _freshness(counters: Mapping[freshness.CounterKey, float]) -> Freshness:
    buckets = freshness.bucket_counts(counters)
    return Freshness(freshness.quantile(buckets, 0.5), freshness.quantile(buckets, 0.95), buckets)
