"""Proves that the graph holds what the lake says: digests of both by user bucket, and the pairs that differ."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Queues
from movierec_platform.config import Settings
from movierec_platform.domain.digest import bucket_digests, bucket_of
from movierec_platform.domain.registers import Pair, PairState
from movierec_platform.services.fold import fold_lake, pair_states

SHOWN = 20
"""Differing pairs that are listed."""
WAIT_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Difference:
    """A pair whose states differ; None where one side does not have it."""

    user_id: int
    movie_id: int
    lake: PairState | None
    graph: PairState | None


@dataclass(frozen=True, slots=True)
class Parity:
    """The outcome of a comparison. `pending` messages were under way when it began and may explain differences."""

    lake_pairs: int
    graph_pairs: int
    differing_buckets: tuple[int, ...]
    differing_pairs: int
    first_differences: tuple[Difference, ...]
    pending: int

    @property
    def equal(self) -> bool:
        return not self.differing_buckets


def pending_messages(queues: Queues) -> int:
    """Messages that are still to take effect in the graph."""
    return queues.raw.depth().total + queues.clean.depth().total


def wait_until_drained(queues: Queues, timeout_s: float, on_wait: Callable[[int], None] = lambda pending: None) -> int:
    """Messages still under way: 0, or more when `timeout_s` was not enough."""
    deadline = time.monotonic() + timeout_s
    while (pending := pending_messages(queues)) and time.monotonic() < deadline:
        on_wait(pending)
        time.sleep(WAIT_POLL_S)
    return pending


def verify(settings: Settings) -> Parity:
    """Compares the fold of the lake's ratings and all landed events with every pair in the graph.

    Reads both sides once, and the differing buckets again.
    """
    pending = pending_messages(Queues.open(settings))
    interactions = fold_lake(Lake(settings), open_objects(settings))
    with Graph.open(settings) as graph:
        lake_digests = bucket_digests(pair_states(interactions))
        graph_digests = bucket_digests(graph.pairs())
        buckets = {
            bucket
            for bucket in lake_digests.keys() | graph_digests.keys()
            if lake_digests.get(bucket) != graph_digests.get(bucket)
        }
        differences = _differences(pair_states(interactions), graph.pairs(), buckets) if buckets else []
    return Parity(
        lake_pairs=sum(count for count, _ in lake_digests.values()),
        graph_pairs=sum(count for count, _ in graph_digests.values()),
        differing_buckets=tuple(sorted(buckets)),
        differing_pairs=len(differences),
        first_differences=tuple(differences[:SHOWN]),
        pending=pending,
    )


def _differences(
    lake: Iterator[tuple[Pair, PairState]], graph: Iterator[tuple[Pair, PairState]], buckets: set[int]
) -> list[Difference]:
    """The pairs of these buckets that differ, by user and movie."""
    in_lake = {pair: state for pair, state in lake if bucket_of(pair[0]) in buckets}
    in_graph: dict[Pair, PairState] = {}
    twice: dict[Pair, PairState] = {}
    for pair, state in graph:
        if bucket_of(pair[0]) in buckets:
            (twice if pair in in_graph else in_graph)[pair] = state
    wrong = [pair for pair in in_lake.keys() | in_graph.keys() if in_lake.get(pair) != in_graph.get(pair)]
    return [
        Difference(*pair, in_lake.get(pair), twice.get(pair, in_graph.get(pair)))
        for pair in sorted(set(chain(wrong, twice)))
    ]
