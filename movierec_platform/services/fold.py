"""Interactions: what the lake knows of every (user, movie) pair, from bulk ratings and from every event ever landed.

The same registers as `domain.registers` folds event by event (a property test holds the two equal), column by column.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import ObjectStore
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge, parse_json
from movierec_platform.domain.interactions import INTERACTIONS
from movierec_platform.errors import UsageError

RAW_PREFIX = "raw/"

_PAIR = ["user_id", "movie_id"]
_RATING = ["rating", "rated_at_ms", "event_id"]

Landed = tuple[Any, int]
"""(the event as it was posted, parsed; received_at_ms)"""


def fold_lake(lake: Lake, objects: ObjectStore) -> pa.Table:
    """The interactions as of now: `folded_interactions` of the lake's ratings, its catalogue and the landed objects."""
    movie_ids = lake.read("movies", columns=["movie_id"])["movie_id"]
    return folded_interactions(lake.read("ratings"), movie_ids, read_landed(objects))


def folded_interactions(ratings: pa.Table, movie_ids: pa.ChunkedArray, landed: Iterable[Landed]) -> pa.Table:
    """One row per (user, movie) pair with its registers in normal form, schema INTERACTIONS, by user and movie.

    Events that the gate rejects are left out, and so is everything about movies that are not in `movie_ids`.
    """
    facts = pa.concat_tables([_facts_of_ratings(ratings), _facts_of_events(_accepted(landed))])
    facts = facts.filter(pc.is_in(facts["movie_id"], value_set=pc.unique(movie_ids)))
    # The greatest rating of a pair comes last. Sorting is by bytes of UTF-8, which is Python's order of strings too.
    facts = facts.sort_by([(name, "ascending") for name in (*_PAIR, "rated_at_ms", "event_id", "rating")])
    last_known = pc.ScalarAggregateOptions(skip_nulls=True)
    registers = facts.group_by(_PAIR, use_threads=False).aggregate(
        [
            *((name, "last", last_known) for name in _RATING),
            ("seen_at_ms", "max"),
            ("retracted_at_ms", "max"),
        ]
    )
    return _normal_form(registers.select([*_PAIR, *registers.column_names[2:]]).rename_columns(INTERACTIONS.names))


def read_landed(objects: ObjectStore) -> Iterator[Landed]:
    """Every event in the raw objects, in the order of their keys."""
    for key in objects.keys(RAW_PREFIX):
        try:
            lines = gzip.decompress(objects.get(key)).splitlines()
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _foreign(objects, key, f"not gzip: {error}") from error
        for number, line in enumerate(lines, start=1):
            record = parse_json(line)
            if (
                not isinstance(record, dict)
                or "event" not in record
                or not isinstance(record.get("received_at_ms"), int)
            ):
                raise _foreign(objects, key, f"line {number} is not a landed event")
            yield record["event"], record["received_at_ms"]


def imported_rating_ids(ratings: pa.Table) -> pa.ChunkedArray:
    """The event ids of bulk ratings, `ml-<user_id>-<movie_id>`: importing a rating again is the same event again."""
    user, movie = (pc.cast(ratings[name], pa.string()) for name in _PAIR)
    return pc.binary_join_element_wise("ml", user, movie, "-")


def _accepted(landed: Iterable[Landed]) -> list[Event]:
    verdicts = (judge(raw, received_at_ms) for raw, received_at_ms in landed)
    return [verdict for verdict in verdicts if isinstance(verdict, Event)]


def _facts_of_ratings(ratings: pa.Table) -> pa.Table:
    """One row per bulk rating: the registers that it alone gives its pair."""
    return pa.table(
        {
            **{name: ratings[name] for name in (*_PAIR, "rating", "rated_at_ms")},
            "event_id": imported_rating_ids(ratings),
            "seen_at_ms": ratings["rated_at_ms"],
            "retracted_at_ms": pa.nulls(ratings.num_rows, pa.int64()),
        },
        schema=INTERACTIONS,
    )


def _facts_of_events(events: list[Event]) -> pa.Table:
    """One row per event, likewise."""
    rated = [event.event_type == "rating" for event in events]
    retracted = [event.event_type == "retract" for event in events]
    return pa.table(
        {
            "user_id": [event.user_id for event in events],
            "movie_id": [event.movie_id for event in events],
            "rating": [event.rating for event in events],
            "rated_at_ms": [e.timestamp_ms if is_rating else None for e, is_rating in zip(events, rated, strict=True)],
            "event_id": [e.event_id if is_rating else None for e, is_rating in zip(events, rated, strict=True)],
            "seen_at_ms": [None if away else e.timestamp_ms for e, away in zip(events, retracted, strict=True)],
            "retracted_at_ms": [e.timestamp_ms if away else None for e, away in zip(events, retracted, strict=True)],
        },
        schema=INTERACTIONS,
    )


def _normal_form(registers: pa.Table) -> pa.Table:
    """A rating that a retract hides is no rating."""
    hidden = pc.fill_null(pc.less_equal(registers["rated_at_ms"], registers["retracted_at_ms"]), False)
    for name in _RATING:
        kept = pc.if_else(hidden, pa.scalar(None, registers[name].type), registers[name])
        registers = registers.set_column(registers.column_names.index(name), name, kept)
    return registers.cast(INTERACTIONS)


def _foreign(objects: ObjectStore, key: str, reason: str) -> UsageError:
    return UsageError(
        f"s3://{objects.bucket}/{key} was not written by the API or the gate ({reason}); move it out of {RAW_PREFIX}"
    )
