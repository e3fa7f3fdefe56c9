"""Makes the graph equal to the lake where it is not, while ingest goes on."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from movierec_platform.adapters.graph_connection import RETRY_S
from movierec_platform.config import Settings
from movierec_platform.domain.differences import KINDS, Difference, Kind
from movierec_platform.domain.registers import Pair, bucket_of
from movierec_platform.domain.set_aside import SetAside, latest_claim_ms
from movierec_platform.services.turns import OnWait, writing_in_bulk
from movierec_platform.services.verify import Progress, Sides, unheard

BATCH_PAIRS = 1_000
"""Pairs in one transaction, at most."""
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did, or by `dry_run` would do."""

    dry_run: bool
    differing_buckets: tuple[int, ...]
    """At the beginning; nothing else was looked at pair by pair, or touched."""
    pairs: int
    """That stand as the lake says now."""
    kinds: dict[str, int]
    """Those by what had been wrong with them."""
    left: int
    """That changed whenever they were looked at, or whose movie the graph lacks."""
    kept: int
    """That the graph may have from a raw object which could not be read: they are left as they are."""
    set_aside: tuple[SetAside, ...]
    """Raw objects that could not be read."""
    unknown_movies: tuple[int, ...]
    """Movies of the lake that the graph lacks: the asset catalog_graph writes them."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def repair(
    settings: Settings,
    dry_run: bool = False,
    rounds: int = ROUNDS,
    progress: Progress = unheard,
    on_wait: OnWait = lambda sentence: None,
) -> Repaired:
    """Every pair that differed stands in the graph as the lake says, or as ingest has written since.

    Only the differing pairs of the differing buckets are written, each with the turn of its user and only if it is
    still as it was read. Since the graph is read before the lake, an event that ingest writes in between is either in
    what the lake says, or finds the pair changed: it is never undone. Changed pairs are looked at again, in `rounds`
    rounds at most. Interrupted, it can be run again.

    While raw objects of some day cannot be read, nothing is taken from the graph that an event of that day may have
    said: only those objects would tell.
    """
    turn: AbstractContextManager[None] = nullcontext() if dry_run else writing_in_bulk(settings, on_wait)
    with turn, Sides.opened(settings, progress, RETRY_S) as sides:
        buckets, _, _ = sides.differing_buckets()
        kinds: Counter[Kind] = Counter()
        unknown_movies: set[int] = set()
        left: set[Pair] | None = None
        without_movie = 0
        open_buckets: Collection[int] = buckets
        kept: set[Pair] = set()
        for _ in range(rounds if open_buckets else 0):
            changed: set[Pair] = set()
            for batch in _batches(_told(sides, open_buckets, kept), left):
                if dry_run:
                    kinds.update(one.kind for one in batch)
                    continue
                replaced = sides.graph.replace_pairs(batch)
                kinds.update(one.kind for one in batch if one.pair in replaced.done)
                changed |= replaced.changed
                unknown_movies |= replaced.unknown_movies
                without_movie += len(batch) - len(replaced.done) - len(replaced.changed)
                progress("repaired", kinds.total())
            left, open_buckets = changed, {bucket_of(user_id) for user_id, _ in changed}
            if not changed:
                break
    return Repaired(
        dry_run=dry_run,
        differing_buckets=tuple(sorted(buckets)),
        pairs=kinds.total(),
        kinds={kind: kinds[kind] for kind in KINDS},
        left=len(left or ()) + without_movie,
        kept=len(kept),
        set_aside=tuple(sorted(sides.set_aside)),
        unknown_movies=tuple(sorted(unknown_movies)),
    )


def _told(sides: Sides, buckets: Collection[int], kept: set[Pair]) -> Iterator[list[Difference]]:
    """The differences of these buckets of which the lake tells all; `kept` gets the pairs of the others."""
    for some in sides.differences(buckets):
        latest_ms = latest_claim_ms(sides.set_aside)
        doubted = {one.pair for one in some if latest_ms is not None and one.may_be_of_events_until(latest_ms)}
        kept |= doubted
        yield [one for one in some if one.pair not in doubted]


def _batches(found: Iterable[list[Difference]], only: set[Pair] | None) -> Iterator[list[Difference]]:
    """The differences of these pairs, or all, in lists of BATCH_PAIRS at most."""
    for some in found:
        wanted = [one for one in some if only is None or one.pair in only]
        for start in range(0, len(wanted), BATCH_PAIRS):
            yield wanted[start : start + BATCH_PAIRS]
