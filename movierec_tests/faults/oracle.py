"""What must be in the graph: a second fold, written apart from the platform's, of what was really landed."""

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from movierec_platform.adapters.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Fact:
    """What one good event says of its pair. `at_ms` is None until the time received is known, where that counts."""

    kind: str
    user_id: int
    movie_id: int
    rating: float | None
    at_ms: int | None
    event_id: str

    @property
    def pair(self) -> tuple[int, int]:
        return self.user_id, self.movie_id

    def received(self, at_ms: int) -> "Fact":
        """The fact with its time: its own, else that at which it was received."""
        return self if self.at_ms is not None else replace(self, at_ms=at_ms)


class PairNow(NamedTuple):
    """A pair: its rating that counts as (time, event id, rating), when it was seen last, and retracted last."""

    rated: tuple[int, str, float] | None = None
    seen_ms: int | None = None
    retracted_ms: int | None = None


NOTHING = PairNow()


def after(before: PairNow, facts: Iterable[Fact]) -> PairNow:
    """The pair after these facts, in any order: the latest of each kind wins, and a retract hides what is not later."""
    rated, seen_ms, retracted_ms = before
    for fact in facts:
        assert fact.at_ms is not None
        if fact.kind == "retract":
            retracted_ms = fact.at_ms if retracted_ms is None else max(retracted_ms, fact.at_ms)
            continue
        seen_ms = fact.at_ms if seen_ms is None else max(seen_ms, fact.at_ms)
        if fact.kind == "rating":
            assert fact.rating is not None
            one = (fact.at_ms, fact.event_id, fact.rating)
            rated = one if rated is None else max(rated, one)
    if rated is not None and retracted_ms is not None and rated[0] <= retracted_ms:
        rated = None
    return PairNow(rated, seen_ms, retracted_ms)


def folded(facts: Iterable[Fact]) -> dict[tuple[int, int], PairNow]:
    """Every pair after these facts."""
    by_pair = facts_by_pair(facts)
    return {pair: after(NOTHING, ones) for pair, ones in by_pair.items()}


def facts_by_pair(facts: Iterable[Fact]) -> dict[tuple[int, int], list[Fact]]:
    by_pair: dict[tuple[int, int], list[Fact]] = {}
    for fact in facts:
        by_pair.setdefault(fact.pair, []).append(fact)
    return by_pair


class Landed(NamedTuple):
    """The raw objects: by the id of the batch, the time received and the event of each line."""

    batches: Mapping[str, list[tuple[int, Any]]]

    @property
    def lines(self) -> int:
        return sum(map(len, self.batches.values()))


def read_landed(objects: ObjectStore) -> Landed:
    """Everything that was ever made durable in S3."""
    batches = {}
    for key in objects.keys("raw/"):
        batches[batch_of(key)] = read_object(objects, key)
    return Landed(batches)


def read_object(objects: ObjectStore, key: str) -> list[tuple[int, Any]]:
    """The time received and the event of each line."""
    records = [json.loads(line) for line in gzip.decompress(objects.get(key)).splitlines()]
    return [(record["received_at_ms"], record["event"]) for record in records]


def batch_of(raw_key: str) -> str:
    """The id of the batch that was landed there."""
    return raw_key.rpartition("-")[2].removesuffix(".ndjson.gz")
