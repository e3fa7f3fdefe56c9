"""Compute the movie similarity from the interactions, and keep it in the lake as a version."""

import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa

from movierec_platform.adapters.lake import Lake
from movierec_platform.domain.similarity import Edges, SimilarityParameters
from movierec_platform.domain.tables import SIMILARITY
from movierec_platform.errors import CheckFailed
from movierec_platform.services.learn import INTERACTIONS, Learn, Progress, learn_here
from movierec_platform.services.versions import EDGES, Learned, edges_of, held_versions, record_learned

_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Computed:
    """One version of the similarity in the lake."""

    version: str
    parameters: SimilarityParameters
    edges: int
    movies: int
    pairs: int
    """Visible (user, movie) pairs that it was learned from."""
    unchanged: bool
    """The same edges as the newest version before: they were not written again."""
    cpu_seconds: float
    """Processor time of this process while the interactions were read and the edges learned."""


def compute_similarity(
    lake: Lake,
    now: datetime,
    parameters: SimilarityParameters,
    learn: Learn = learn_here,
    progress: Progress = lambda _done, _total: None,
) -> Computed:
    """The lake's newest similarity version is what these parameters make of its interactions.

    Raises CheckFailed, and writes nothing, if there are no edges.
    """
    started_s = time.process_time()
    learned = learn(lake, parameters, progress)
    edges, cpu_seconds = learned.edges, time.process_time() - started_s
    if len(edges) == 0:
        fewer = f", or none more than l1 = {parameters.l1:g} users" if parameters.method == "slim" else ""
        raise CheckFailed(
            f"the similarity has no edges: no two movies of {learned.pairs} visible pairs share a user{fewer}; "
            "load ratings first"
        )
    before = held_versions(lake)
    version = next_version(edges.digest(), before[-1] if before else None, now)
    unchanged = version in before and edges_of(lake, version).digest() == edges.digest()  # else it was damaged since
    if not unchanged:
        lake.write(EDGES, _table(version, edges), partition=("version", version))
    movies = len(np.unique(edges.target))
    # Also of one that was there: who wrote it may have been killed before he told.
    row = Learned(
        version,
        made_at_ms(version),
        asdict(parameters),
        len(edges),
        movies,
        learned.pairs,
        lake.rows(INTERACTIONS),
    )
    record_learned(lake, row)
    return Computed(version, parameters, len(edges), movies, learned.pairs, unchanged, cpu_seconds)


def next_version(digest: str, newest: str | None, now: datetime) -> str:
    """`YYYYMMDDTHHMMSSZ-<8 hex of the digest>`, after the newest; the newest itself if its content is the same."""
    if newest is None:
        return f"{now.astimezone(timezone.utc).strftime(_TIME)}-{digest[:8]}"
    newest_time, _, newest_digest = newest.partition("-")
    if newest_digest == digest[:8]:
        return newest
    soonest = datetime.strptime(newest_time, _TIME).replace(tzinfo=timezone.utc) + timedelta(seconds=1)
    return f"{max(now.astimezone(timezone.utc), soonest).strftime(_TIME)}-{digest[:8]}"


def made_at_ms(version: str) -> int:
    """When a version was made, in epoch ms: its name tells."""
    made = datetime.strptime(version.partition("-")[0], _TIME).replace(tzinfo=timezone.utc)
    return int(made.timestamp() * 1000)


def _table(version: str, edges: Edges) -> pa.Table:
    return pa.table(
        {
            "version": pa.repeat(version, len(edges)),
            "source_id": edges.source,
            "target_id": edges.target,
            "score": edges.score,
            "rank": edges.rank,
            "support": edges.support,
        },
        schema=SIMILARITY,
    )
