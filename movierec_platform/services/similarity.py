"""Compute the movie similarity from the interactions, and keep it in the lake as a version."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa

from movierec_platform.adapters.lake import Lake
from movierec_platform.domain.interactions import visible
from movierec_platform.domain.similarity import Edges, cosine_neighbours
from movierec_platform.errors import CheckFailed

TABLE = "similarity"
KEPT_VERSIONS = 5
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Computed:
    """One version of the similarity in the lake."""

    version: str
    edges: int
    movies: int
    pairs: int
    """Visible (user, movie) pairs that it was learned from."""
    unchanged: bool
    """The same edges as the newest version before: nothing was written."""


def compute_similarity(
    lake: Lake, now: datetime, n_neighbours: int, shrink: float, kept_versions: int = KEPT_VERSIONS
) -> Computed:
    """The lake's newest similarity version is the cosine of its interactions; older than the newest few are dropped.

    Raises CheckFailed, and writes nothing, if no two movies share a user.
    """
    interactions = lake.read("interactions", columns=["user_id", "movie_id", "seen_at_ms", "retracted_at_ms"])
    seen = interactions.filter(visible(interactions))
    edges = cosine_neighbours(seen["user_id"].to_numpy(), seen["movie_id"].to_numpy(), n_neighbours, shrink)
    if len(edges) == 0:
        raise CheckFailed(
            f"no two of {seen.num_rows} visible pairs share a user, so the similarity has no edges; load ratings first"
        )
    before = lake.partitions(TABLE, "version")
    version = next_version(edges.digest(), before[-1] if before else None, now)
    unchanged = version in before
    if not unchanged:
        lake.write(TABLE, _table(version, edges), partition=("version", version))
    lake.drop_partitions(TABLE, "version", sorted({*before, version})[:-kept_versions])
    movies = len(np.unique(edges.target))
    return Computed(version=version, edges=len(edges), movies=movies, pairs=seen.num_rows, unchanged=unchanged)


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
        }
    )
