"""Proves that the graph holds what the lake says: digests of both by user bucket, and the pairs that differ.

The graph is read first, then the lake. Whatever takes effect in the graph was landed in S3 before, so what the graph
has and the lake lacks is damage; what the lake has and the graph lacks may still be under way. The other way round an
event that is ingested between the two readings would look like damage.

Both sides are streamed: a reading holds some users at a time, whatever the number of pairs.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import pyarrow as pa

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import Drift, State
from movierec_platform.config import Settings
from movierec_platform.domain.differences import KINDS, Cause, Difference, Kind
from movierec_platform.domain.digest import digest
from movierec_platform.domain.edges import EDGES
from movierec_platform.domain.parity import differences, edges_of
from movierec_platform.domain.registers import Pair, bucket_of
from movierec_platform.domain.set_aside import SetAside
from movierec_platform.services.fold import fold_everything

SHOWN = 20
"""Differing pairs that are listed."""
RETRY_S = 5.0
"""How long a graph that does not answer is asked again."""
KEPT = 10_000
"""Differing pairs that are kept in memory; those of them that are behind are waited for."""
POLL_S = 0.5
QUIET_S = 3.0
"""When the queues have been empty for so long, nothing is under way."""

Progress = Callable[[str, int], None]
"""Called with (what is being read, pairs so far) as a reading goes on."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The outcome of a comparison."""

    lake_pairs: int
    graph_pairs: int
    """Edges: a doubled pair counts twice."""
    pending: int
    """Messages that were under way when it began: they may explain pairs that are behind."""
    differing_buckets: tuple[int, ...]
    behind_pairs: int
    """The graph lacks what a landed event says, and that is all: it may be under way."""
    wrong_pairs: int
    """Anything else: no event mends it, `repair` does."""
    kinds: dict[str, int]
    """The differing pairs by what they look like."""
    settled_pairs: int
    """Were behind at first, and caught up while they were waited for."""
    first_differences: tuple[Difference, ...]
    """By user and movie, SHOWN at most."""
    set_aside: tuple[SetAside, ...]
    """Raw objects that could not be read: the lake may lack what they say, and the graph have it."""

    @property
    def differing_pairs(self) -> int:
        return self.behind_pairs + self.wrong_pairs

    @property
    def equal(self) -> bool:
        return not self.differing_pairs

    def as_json(self) -> dict[str, Any]:
        """All fields, `equal` and `differing_pairs`; each difference with its kind and cause."""
        shown = [{**asdict(one), "kind": one.kind, "cause": one.cause} for one in self.first_differences]
        totals = {"equal": self.equal, "differing_pairs": self.differing_pairs}
        return {**totals, **asdict(self), "first_differences": shown}


class _Found:
    """The differing pairs, counted; the first KEPT of them are kept."""

    def __init__(self) -> None:
        self.kept: list[Difference] = []
        self.settled = 0
        self._kinds: Counter[Kind] = Counter()
        self._causes: Counter[Cause] = Counter()
        self._buckets: Counter[int] = Counter()

    def add(self, found: Iterable[Difference]) -> None:
        for one in found:
            self._count(one, 1)
            if len(self.kept) < KEPT:
                self.kept.append(one)

    def settle(self, pairs: Collection[Pair]) -> None:
        """These have caught up."""
        for one in self.kept:
            if one.pair in pairs:
                self._count(one, -1)
        self.kept = [one for one in self.kept if one.pair not in pairs]
        self.settled += len(pairs)

    @property
    def behind(self) -> list[Difference]:
        """Those that are kept and may catch up."""
        return [one for one in self.kept if one.cause == "behind"]

    @property
    def buckets(self) -> tuple[int, ...]:
        return tuple(sorted(bucket for bucket, count in self._buckets.items() if count))

    def counted(self, lake_pairs: int, graph_pairs: int, pending: int, set_aside: Iterable[SetAside]) -> Parity:
        return Parity(
            lake_pairs=lake_pairs,
            graph_pairs=graph_pairs,
            pending=pending,
            differing_buckets=self.buckets,
            behind_pairs=self._causes["behind"],
            wrong_pairs=self._causes["wrong"],
            kinds={kind: self._kinds[kind] for kind in KINDS},
            settled_pairs=self.settled,
            first_differences=tuple(self.kept[:SHOWN]),
            set_aside=tuple(sorted(set_aside)),
        )

    @property
    def all_kept(self) -> bool:
        return self._causes.total() == len(self.kept)

    def _count(self, one: Difference, times: int) -> None:
        self._kinds[one.kind] += times
        self._causes[one.cause] += times
        self._buckets[bucket_of(one.user_id)] += times


def unheard(what: str, pairs: int) -> None:
    """Progress that nobody listens to."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The graph, and the lake that it is compared with; `with Sides.opened(...) as sides:`."""

    graph: Graph
    lake: Lake
    objects: ObjectStore
    progress: Progress
    set_aside: set[SetAside] = field(default_factory=set)
    """The raw objects that could not be read, once the lake was."""

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings, progress: Progress, retry_s: float) -> Iterator["Sides"]:
        with Graph.open(settings, retry_s) as graph:
            yield cls(graph, Lake(settings), open_objects(settings), progress)

    def edges(self, buckets: Collection[int] | None = None) -> Iterator[pa.Table]:
        """What the graph holds, as `Graph.pairs`."""
        return self._told("graph", self.graph.pairs(buckets))

    def interactions(self, buckets: Collection[int] | None = None) -> Iterator[pa.Table]:
        """What the lake says of every pair, in tables of INTERACTIONS with whole users in ascending order."""
        return self._told("lake", fold_everything(self.lake, self.objects, buckets=buckets, aside=self.set_aside.add))

    def differing_buckets(self, buckets: Collection[int] | None = None) -> tuple[frozenset[int], int, int]:
        """(the buckets of these, or of all, whose digests differ; pairs in the lake; edges in the graph)"""
        in_graph = digest(self.edges(buckets))
        in_lake = digest(self.interactions(buckets))
        return in_graph.differing(in_lake), in_lake.pairs, in_graph.pairs

    def differences(self, buckets: Collection[int]) -> Iterator[list[Difference]]:
        """The pairs of these buckets that differ, by user and movie; both sides are read anew.

        The graph's are kept in a temporary file until the lake has been read.
        """
        with tempfile.TemporaryFile(prefix="movierec-verify-") as file:
            edges = _spooled(file, self.edges(buckets))
            yield from differences(edges, self.interactions(buckets))

    def found(self, buckets: Collection[int]) -> _Found:
        """The pairs of these buckets that differ, counted."""
        found = _Found()
        if buckets:
            for some in self.differences(buckets):
                found.add(some)
        return found

    def _told(self, what: str, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        pairs = 0
        for table in tables:
            pairs += table.num_rows
            self.progress(what, pairs)
            yield table


def pending_messages(queues: Queues) -> int:
    """Messages that are still to take effect in the graph."""
    return queues.raw.depth().total + queues.clean.depth().total


def verify(settings: Settings, wait_s: float = 0.0, progress: Progress = unheard) -> Parity:
    """Compares the fold of the lake's ratings and all landed events with every pair in the graph.

    With `wait_s`, pairs that are behind are looked at again until they have caught up, the time is over, or the queues
    are empty and so nothing is under way. A pair has caught up when the graph holds all that the lake had of it when it
    was found behind; what comes meanwhile does not matter, so this ends also where the queues are never empty.

    How many pairs differ, when that was seen, and how many raw objects could not be read, is kept in the state
    database.
    """
    queues = Queues.open(settings)
    with Sides.opened(settings, progress, RETRY_S) as sides, closing(State.open(settings)) as state:
        pending = pending_messages(queues)
        buckets, lake_pairs, graph_pairs = sides.differing_buckets()
        found = sides.found(buckets)
        if wait_s:
            found = _when_settled(sides, queues, found, time.monotonic() + wait_s)
        parity = found.counted(lake_pairs, graph_pairs, pending, sides.set_aside)
        state.note_set_aside(len({one.key for one in parity.set_aside}))
        state.note_drift(Drift(parity.differing_pairs, time.time_ns() // 1_000_000))
    return parity


def _when_settled(sides: Sides, queues: Queues, found: _Found, deadline_s: float) -> _Found:
    """What is found still when all that was behind has caught up, or never will, or the time is over."""
    quiet_since_s: float | None = None
    while found.behind and time.monotonic() < deadline_s:
        quiet = not pending_messages(queues)
        now_s = time.monotonic()
        quiet_since_s = (quiet_since_s or now_s) if quiet else None
        settled = _settled(sides.graph, found.behind)
        found.settle(settled)
        sides.progress("behind", len(found.behind))
        if not found.behind and not found.all_kept:
            again = sides.found(found.buckets)
            again.settled = found.settled
            found = again
        elif not settled and quiet_since_s is not None and now_s - quiet_since_s >= QUIET_S:
            break
        elif found.behind:
            time.sleep(POLL_S)
    return found


def _settled(graph: Graph, behind: Collection[Difference]) -> set[Pair]:
    """Those of the pairs that have caught up."""
    by_pair = {one.pair: one for one in behind}
    return {
        pair
        for table in graph.pairs_of(sorted({user_id for user_id, _ in by_pair}))
        for pair, edges in edges_of(table).items()
        if pair in by_pair and by_pair[pair].settled_by(edges)
    }


def _spooled(file: IO[bytes], tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The tables (of EDGES) again, out of the file, once all of them are in it."""
    with pa.ipc.new_stream(file, EDGES, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks())
    file.seek(0)
    for batch in pa.ipc.open_stream(file):
        yield pa.Table.from_batches([batch])
