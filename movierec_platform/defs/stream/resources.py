"""What the drains need, opened from the settings when a run or a tick uses it."""

from typing import TYPE_CHECKING

import dagster as dg

from movierec_platform.adapters.leases import Lease
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import QueueName, Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, load_settings
from movierec_platform.domain.drains import DrainPolicy
from movierec_platform.services.gate import Gate
from movierec_platform.services.quarantine import Quarantine

if TYPE_CHECKING:
    from movierec_platform.services.ingest_graph import GraphIngest


class StreamResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Queues, leases and the work on each queue, as the environment of the process says."""

    def settings(self) -> Settings:
        return load_settings()

    def queues(self) -> Queues:
        return Queues.open(self.settings())

    def slots(self, queue: QueueName) -> int:
        """How many drain runs of this queue go side by side: the graph has one writer, and so has the quarantine."""
        return self.settings().gate_slots if queue == "raw" else 1

    def lease(self, queue: QueueName, slot: int) -> Lease:
        return Lease(self.settings().home / "leases", queue, slot)

    def policy(self) -> DrainPolicy:
        settings = self.settings()
        return DrainPolicy(
            linger_s=settings.drain_linger_s,
            max_runtime_s=settings.drain_max_runtime_s,
            overlap_s=settings.drain_overlap_s,
            grace_s=settings.drain_grace_s,
        )

    def gate(self) -> Gate:
        settings = self.settings()
        return Gate(Queues.open(settings), open_objects(settings), State.open(settings))

    def graph_ingest(self) -> "GraphIngest":
        # The neo4j driver imports pandas and pyarrow where they are installed: only the run that writes the graph pays.
        from movierec_platform.adapters.graph import Graph
        from movierec_platform.services.ingest_graph import GraphIngest

        settings = self.settings()
        return GraphIngest(
            Queues.open(settings), Graph.open(settings), State.open(settings), settings.ingest_batch_events
        )

    def quarantine(self) -> Quarantine:
        return Quarantine(State.open(self.settings()))
