"""The speed layer over real queues, objects and graph, for tests that go through it step by step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pytest

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.leases import FileLease
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.quarantine import QuarantineRow
from movierec_platform.adapters.queues import Message, Queue, QueueName, Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.drains import DrainPolicy
from movierec_platform.domain.edges import edge_states
from movierec_platform.domain.quarantine import STATUSES, Filter
from movierec_platform.domain.registers import PairState
from movierec_platform.services.drain import Do, DrainReport, drain, work_on
from movierec_platform.services.gate import Gate
from movierec_platform.services.ingest_graph import GraphIngest
from movierec_platform.services.land import Lander
from movierec_platform.services.quarantine import Quarantine

NOW = 1_790_000_000_000
GOOD = {"event_id": "g", "user_id": 1, "movie_id": 10, "rating": 4.0, "timestamp": NOW}
MOVIES = pa.table(
    {"movie_id": [10, 20, 30], "title": ["A", "B", "C"], "year": pa.array([None] * 3, pa.int32()), "genres": [[]] * 3}
)
NO_RATINGS = pa.table(
    {
        "user_id": pa.array([], pa.int64()),
        "movie_id": pa.array([], pa.int64()),
        "rating": pa.array([], pa.float64()),
        "rated_at_ms": pa.array([], pa.int64()),
    }
)


@dataclass
class Platform:
    """The speed layer over a catalogue of three movies."""

    settings: Settings
    queues: Queues
    state: State
    graph: Graph
    lander: Lander

    def load_movies(self) -> None:
        """The graph has the catalogue."""
        fields = {"title": "T", "year": None, "genres": [], "rating_count": 0, "rating_mean": None}
        self.graph.merge_movies([{"id": movie_id, **fields} for movie_id in MOVIES["movie_id"].to_pylist()])

    def drain(self, name: QueueName, policy: DrainPolicy, do: Do | None = None) -> DrainReport:
        """What one drain run over this queue did; `do` in place of the work."""
        ready = {"raw": self._gate.ready, "clean": self._ingest.ready, "dlq": self.quarantine.ready}[name]
        work = work_on(name, do or self.work(name), ready, self.state, self.queues)
        return drain(self.queues.named(name), work, FileLease(self.settings.home / "leases", name, 0), "run", policy)

    def work(self, queue: str) -> Callable[[Sequence[Message]], int]:
        if queue == "raw":
            return self._gate.pass_on
        return self._ingest.write if queue == "clean" else self.quarantine.hold

    @property
    def _gate(self) -> Gate:
        return Gate(self.queues, open_objects(self.settings), self.state)

    @property
    def _ingest(self) -> GraphIngest:
        return GraphIngest(self.queues, self.graph, self.state, batch_events=3)

    @property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.state)

    def rows(self, reason: str | None = None) -> list[QuarantineRow]:
        """Whatever is in quarantine, whatever became of it, the latest first."""
        return self.state.quarantine.rows(Filter(reason), STATUSES, limit=100)

    def run_through(self) -> None:
        """Does what the three drains do, once."""
        for name in ("raw", "clean", "dlq"):
            queue: Queue = self.queues.named(name)
            while queue.depth().visible:
                messages = queue.receive(wait_s=1)
                self.work(name)(messages)
                assert queue.delete(messages) == len(messages)

    def counter(self, name: str) -> float:
        return sum(value for (key, _), value in self.state.counters().items() if key == name)

    def pairs(self) -> dict[tuple[int, int], PairState]:
        return dict(edge_states(self.graph.pairs()))


@pytest.fixture
def platform(fresh_settings: Settings, clean_graph: Graph) -> Iterator[Platform]:
    lake = Lake(fresh_settings)
    lake.write("movies", MOVIES)
    lake.write("ratings", NO_RATINGS)
    lander = Lander(fresh_settings)
    state = State.open(fresh_settings)
    platform = Platform(fresh_settings, Queues.open(fresh_settings), state, clean_graph, lander)
    platform.load_movies()
    yield platform
    lander.close()
    state.close()
