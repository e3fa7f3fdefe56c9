"""What the drains need, opened from the settings when a run or a tick uses it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from movierec_platform.adapters.leases import Lease, open_lease, slots_of
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import QueueName, Queues
from movierec_platform.adapters.state import State
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.domain.drains import DrainPolicy
from movierec_platform.services.drain import Do, Work, work_on
from movierec_platform.services.gate import Gate
from movierec_platform.services.quarantine import Quarantine

if TYPE_CHECKING:
    from movierec_platform.services.ingest_graph import GraphIngest


class StreamResource(SettingsResource):
    """Queues, leases and the work on each queue, as the settings say."""

    def queues(self) -> Queues:
        return Queues.open(self.current())

    def slots(self, queue: QueueName) -> int:
        """How many drain runs of this queue go side by side."""
        return slots_of(self.current(), queue)

    def lease(self, queue: QueueName, slot: int) -> Lease:
        return open_lease(self.current(), queue, slot)

    def policy(self, queue: QueueName) -> DrainPolicy:
        """When its runs leave. The quarantine is in no hurry: it is never resident."""
        settings = self.current()
        return DrainPolicy(
            linger_s=math.inf if settings.resident_drains and queue != "dlq" else settings.drain_linger_s,
            max_runtime_s=settings.drain_max_runtime_s,
            overlap_s=settings.drain_overlap_s,
            grace_s=settings.drain_grace_s,
        )

    def work(self, queue: QueueName, do: Do, ready: Callable[[], None]) -> Work:
        """What a run does with the messages of this queue; what it gives up goes to the dlq queue, whole."""
        settings = self.current()
        return work_on(queue, do, ready, State.open(settings), Queues.open(settings))

    def gate(self) -> Gate:
        settings = self.current()
        return Gate(Queues.open(settings), open_objects(settings), State.open(settings))

    def graph_ingest(self) -> "GraphIngest":
        # The neo4j driver imports pandas and pyarrow where they are installed: only the run that writes the graph pays.
        from movierec_platform.adapters.graph import Graph
        from movierec_platform.services.ingest_graph import GraphIngest

        settings = self.current()
        return GraphIngest(
            Queues.open(settings), Graph.open(settings), State.open(settings), settings.ingest_batch_events
        )

    def quarantine(self) -> Quarantine:
        return Quarantine(State.open(self.current()))
