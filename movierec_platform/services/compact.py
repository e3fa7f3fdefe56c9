"""The table `events`: what was landed on a day, judged by the gate's own rules, each content once.

A partition is all of a day (UTC, by time received). Its file's label says what it was made of: a digest of the listing
of the day's raw objects and, where events of unknown movies were refused, one of the catalogue. A day is current while
its label is what the listing and the catalogue say now. The table `compactions` tells what was counted; a row of it
holds while its label is the partition's.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from movierec_platform.adapters.lake import Lake, Staged
from movierec_platform.adapters.objects import Listed, ObjectStore, open_objects
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import RAW_PREFIX, NotLanded, raw_lines, received_at_of
from movierec_platform.domain.event_checks import EventPolicy, Landed, event_findings, figures_of, findings_of_days
from movierec_platform.domain.findings import Finding
from movierec_platform.domain.gate import REASON_CODES
from movierec_platform.domain.landed import Judged, in_order, judge_lines
from movierec_platform.domain.set_aside import STRANGE_KEY, SetAside, end_ms, is_day, lines_set_aside
from movierec_platform.domain.tables import COMPACTIONS, EVENTS
from movierec_platform.errors import PromotionRefused
from movierec_platform.services.promote import promote_checked
from movierec_platform.services.set_aside import Aside, in_the_log

TABLE, LEDGER, BY_DAY = "events", "compactions", "date"
_ANY = "any"
_TRAILING_DAYS = 7
_CHUNK_LINES = 50_000
UNREADABLE = "unreadable"
"""What the ledger calls lines that could not be read, beside the reason codes of events."""


@dataclass(frozen=True)
class Catalogue:
    """The movies that events may be about."""

    movie_ids: pa.Array
    digest: str

    @classmethod
    def of(cls, movie_ids: Sequence[int] | pa.Array | pa.ChunkedArray) -> "Catalogue":
        """The catalogue of these movies, in whatever order and however often each is given."""
        distinct = np.unique(np.asarray(movie_ids, np.int64))
        return cls(pa.array(distinct, pa.int64()), hashlib.blake2b(distinct.tobytes(), digest_size=16).hexdigest())

    def knows(self, movie_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """For each of these movies, whether it is in the catalogue."""
        return pc.is_in(movie_ids, value_set=self.movie_ids)


@dataclass(frozen=True, slots=True)
class DayReport:
    """What a compaction of a day counted."""

    day: str
    objects: int
    bytes: int
    """Of the objects, compressed."""
    landed: int
    accepted: int
    duplicates: int
    rejected: Mapping[str, int]
    """By reason code; lines that could not be read are `unreadable`."""
    set_aside: Sequence[SetAside]
    """Objects that could not be read, or not all of them."""
    findings: Sequence[Finding]

    def as_metadata(self) -> dict[str, int]:
        """The figures by name, as an asset's materialisation shows them; 0 too, so that each can be plotted."""
        reasons = {f"rejected/{reason}": self.rejected.get(reason, 0) for reason in sorted(REASON_CODES)}
        counted = {name: getattr(self, name) for name in ("objects", "bytes", "landed", "duplicates")}
        counted["set_aside"] = len(self.set_aside)
        return {"dagster/partition_row_count": self.accepted, **counted, **reasons}


def compact_days(
    lake: Lake,
    objects: ObjectStore,
    days: Iterable[str],
    policy: EventPolicy,
    now_ms: int,
    waived: Collection[str] = (),
    progress: Callable[[DayReport], object] = lambda report: None,
) -> list[DayReport]:
    """Each of these days compacted, in order, with the catalogue of now.

    A day whose rows fail a blocking check does not keep the others from being promoted; PromotionRefused in the end
    has what was found on all days.
    """
    catalogue, strangers = read_catalogue(lake), foreign_names(*objects.folders(RAW_PREFIX))
    reports: list[DayReport] = []
    refusals: list[str] = []
    findings: dict[str, Sequence[Finding]] = {}
    for day in sorted(days):
        try:
            reports.append(compact_day(lake, objects, day, catalogue, policy, now_ms, waived, strangers))
            findings[day] = reports[-1].findings
            progress(reports[-1])
        except PromotionRefused as refused:
            findings[day] = refused.findings
            refusals.append(f"{day}: {refused}")
    if refusals:
        raise PromotionRefused("; ".join(refusals), findings_of_days(findings))
    return reports


def read_catalogue(lake: Lake) -> Catalogue:
    """The movies of the lake as of now. Raises LakeUnavailable before the first load."""
    return Catalogue.of(lake.read("movies", columns=["movie_id"])["movie_id"])


def compact_day(
    lake: Lake,
    objects: ObjectStore,
    day: str,
    catalogue: Catalogue,
    policy: EventPolicy,
    now_ms: int,
    waived: Collection[str] = (),
    strangers: Sequence[str] = (),
) -> DayReport:
    """The day's partition of `events` and its row of `compactions` are of the objects that a listing shows now.

    Doing it again gives the same rows in the same order. `strangers` are what `foreign_names` says. Raises
    PromotionRefused, and leaves both tables as they were, if a blocking check of the new rows failed that is not
    waived. Objects that cannot be read are set aside: the report names them.
    """
    staged, counted, set_aside = _staged(lake, objects, day, catalogue)
    figures = figures_of(lake.staged_batches(staged), catalogue.movie_ids)
    findings = event_findings(
        figures,
        Landed(counted["landed"], counted["accepted"], counted["duplicates"], sum(counted["rejected"].values())),
        earlier=_landed_before(lake, day),
        is_over=now_ms >= end_ms(day),
        strangers=strangers,
        set_aside=set_aside,
        policy=policy,
    )
    named = {"rejected": sorted(counted["rejected"].items()), "set_aside": [(one.key, one.reason) for one in set_aside]}
    row = pa.Table.from_pylist([{**counted, **named}], schema=COMPACTIONS)
    ledger = lake.stage(LEDGER, [row], COMPACTIONS, (BY_DAY, day), counted["label"])
    # The ledger first: whoever is stopped between the two leaves a day that is not current, and so is done again.
    promote_checked(lake, [ledger, staged], findings, waived)
    return DayReport(
        day, set_aside=set_aside, findings=findings, **{name: counted[name] for name in counted if name != "label"}
    )


def stale_days(
    lake: Lake, objects: ObjectStore, days: Iterable[str], catalogue: Catalogue | None = None
) -> dict[str, str]:
    """Those of these days whose partition is not current, each with a digest of what it would be made of now.

    A day on which nothing was landed and that has no partition is not stale. Without a catalogue it is the lake's.
    """
    catalogue = catalogue or read_catalogue(lake)
    labels = lake.labels(TABLE, BY_DAY)
    stale = {}
    for day in days:
        listed = list(objects.listing(day_prefix(day)))
        digest = listing_digest(listed)
        if (listed or day in labels) and not _is_current(labels.get(day), digest, catalogue):
            stale[day] = f"{digest}-{catalogue.digest}"
    return stale


def landed_events(
    lake: Lake,
    objects: ObjectStore,
    catalogue: Catalogue,
    until_ms: int | None = None,
    aside: Aside = in_the_log,
) -> Iterator[pa.RecordBatch]:
    """Every accepted event of a known movie that was ever landed (schema EVENTS), compacted or not, in no order.

    Days that are current are read from their partitions, the others from the raw objects: those have duplicates. A day
    whose raw objects are gone has no events. `until_ms` leaves out what was received later (epoch ms). Objects that
    cannot be read are passed over; `aside` is told of each.
    """
    labels = lake.labels(TABLE, BY_DAY)
    known_aside = _set_aside_before(lake, labels)
    folders, keys = objects.folders(RAW_PREFIX)
    for name in foreign_names(folders, keys):
        aside(SetAside(name, STRANGE_KEY))
    for day in _days_among(folders):
        listed = list(objects.listing(day_prefix(day)))
        if _is_current(labels.get(day), listing_digest(listed), catalogue):
            for one in known_aside.get(day, ()):
                aside(one)
            where = ds.field(BY_DAY) == day
            if until_ms is not None:
                where &= ds.field("received_at_ms") <= until_ms
            for batch in lake.batches(TABLE, EVENTS.names, where):
                known = batch.filter(pc.is_in(batch["movie_id"], value_set=catalogue.movie_ids))
                yield known.cast(EVENTS)
        else:
            for _, judged in _judged(objects, listed, catalogue, aside):
                kept = judged.accepted
                if until_ms is not None:
                    kept = kept.filter(pc.less_equal(kept["received_at_ms"], until_ms))
                yield from kept.to_batches()


def ranges_of(days: Iterable[str]) -> list[tuple[str, str]]:
    """The first and the last of each unbroken range of these days, ascending."""
    ranges: list[tuple[str, str]] = []
    for day in sorted(set(days)):
        before = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
        if ranges and ranges[-1][1] == before:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def stale_ranges(settings: Settings, today: date) -> list[tuple[str, str]]:
    """The unbroken ranges of stale days among today and the late days before it."""
    looked_at = [*days_before(today, settings.late_days), today.isoformat()]
    return ranges_of(stale_days(Lake(settings), open_objects(settings), looked_at))


def days_before(today: date, count: int) -> list[str]:
    """This many days before today, ascending."""
    return [(today - timedelta(days=back)).isoformat() for back in range(count, 0, -1)]


def landed_days(objects: ObjectStore) -> list[str]:
    """The days of which there are raw objects, ascending."""
    return _days_among(objects.folders(RAW_PREFIX)[0])


def foreign_names(folders: Iterable[str], keys: Iterable[str]) -> list[str]:
    """What of this stands directly under the prefix of raw objects and is no day."""
    return [f"{RAW_PREFIX}{folder}/" for folder in folders if not _is_day(folder)] + list(keys)


def day_prefix(day: str) -> str:
    """What the keys of the raw objects of a day start with."""
    return f"{RAW_PREFIX}date={day}/"


def listing_digest(listed: Iterable[Listed]) -> str:
    """32 hexadecimal digits that are others once an object is added, removed or rewritten."""
    digest = hashlib.blake2b(digest_size=16)
    for one in listed:
        digest.update(f"{one.key}\t{one.size}\t{one.etag}\n".encode())
    return digest.hexdigest()


def _is_current(label: str | None, digest: str, catalogue: Catalogue) -> bool:
    return label in (f"{digest}-{_ANY}", f"{digest}-{catalogue.digest}")


def _days_among(folders: Iterable[str]) -> list[str]:
    return sorted(folder.removeprefix("date=") for folder in folders if _is_day(folder))


def _is_day(folder: str) -> bool:
    return folder.startswith("date=") and is_day(folder.removeprefix("date="))


def _set_aside_before(lake: Lake, labels: Mapping[str, str]) -> dict[str, list[SetAside]]:
    """What was set aside when the partitions of these labels were made, by day."""
    if not lake.exists(LEDGER):
        return {}
    rows = lake.read(LEDGER, [BY_DAY, "label", "set_aside"]).to_pylist()
    return {
        row[BY_DAY]: [SetAside(key, reason) for key, reason in row["set_aside"]]
        for row in rows
        if row["set_aside"] and row["label"] == labels.get(row[BY_DAY])
    }


def _landed_before(lake: Lake, day: str) -> list[int]:
    """How many events were landed on each of the up to 7 latest days before this one that have been counted."""
    if not lake.exists(LEDGER):
        return []
    labels = lake.labels(TABLE, BY_DAY)
    rows = lake.read(LEDGER, [BY_DAY, "label", "landed"], [(BY_DAY, "<", day)]).to_pylist()
    counted = {row[BY_DAY]: row["landed"] for row in rows if row["label"] == labels.get(row[BY_DAY])}
    return [counted[earlier] for earlier in sorted(counted)[-_TRAILING_DAYS:]]


def _staged(
    lake: Lake, objects: ObjectStore, day: str, catalogue: Catalogue
) -> tuple[Staged, dict[str, Any], list[SetAside]]:
    """The day's events, staged, the fields of its row of `compactions`, and what could not be read."""
    listed = list(objects.listing(day_prefix(day)))
    landed, rejected = 0, Counter[str]()
    parts = [EVENTS.empty_table()]
    set_aside: list[SetAside] = []

    def aside(one: SetAside) -> None:
        in_the_log(one)
        set_aside.append(one)

    for lines, judged in _judged(objects, listed, catalogue, aside):
        landed += lines
        rejected += judged.rejected
        parts.append(judged.accepted)
    events = _joined(parts)
    order = in_order(events)
    counted = {
        "label": f"{listing_digest(listed)}-{catalogue.digest if rejected['unknown_movie'] else _ANY}",
        "objects": len(listed),
        "bytes": sum(one.size for one in listed),
        "landed": landed,
        "accepted": len(order),
        "duplicates": events.num_rows - len(order),
        "rejected": dict(rejected),
    }
    # A piece at a time, so that a sorted copy of the whole is never held.
    pieces = (
        events.take(pa.array(order[start : start + _CHUNK_LINES])) for start in range(0, len(order), _CHUNK_LINES)
    )
    return lake.stage(TABLE, pieces, EVENTS, (BY_DAY, day), counted["label"]), counted, set_aside


def _joined(parts: list[pa.Table]) -> pa.Table:
    """The rows of these tables, in one piece. Empties the list: of two copies of a column one goes before the next."""
    columns = []
    for name in EVENTS.names:
        pieces = [piece for part in parts for piece in part[name].chunks]
        columns.append(pa.concat_arrays(pieces) if pieces else pa.array([], EVENTS.field(name).type))
        parts[:] = [part.drop_columns([name]) for part in parts]
        del pieces
    parts.clear()
    return pa.table(columns, schema=EVENTS)


def _judged(
    objects: ObjectStore, listed: Sequence[Listed], catalogue: Catalogue, aside: Aside
) -> Iterator[tuple[int, Judged]]:
    """(lines, the verdicts on them, the catalogue's included) of these objects, 50,000 lines or an object at a time."""
    keys = []
    for one in listed:
        if received_at_of(one.key) is None:
            aside(SetAside(one.key, STRANGE_KEY))
        else:
            keys.append(one.key)
    lines: list[bytes] = []
    starts: list[tuple[int, str]] = []
    for key, body in zip(keys, objects.get_all(keys), strict=True):
        try:
            found = raw_lines(body)
        except NotLanded as error:
            aside(SetAside(key, str(error)))
            continue
        starts.append((len(lines), key))
        lines += found
        if len(lines) >= _CHUNK_LINES:
            yield len(lines), _verdicts(lines, starts, catalogue, aside)
            lines, starts = [], []
    if lines:
        yield len(lines), _verdicts(lines, starts, catalogue, aside)


def _verdicts(lines: Sequence[bytes], starts: Sequence[tuple[int, str]], catalogue: Catalogue, aside: Aside) -> Judged:
    judged = judge_lines(lines)
    for one in _faulty(len(lines), starts, judged.faults):
        aside(one)
    known = judged.accepted.filter(catalogue.knows(judged.accepted["movie_id"]))
    unknown = judged.accepted.num_rows - known.num_rows
    others = Counter({"unknown_movie": unknown, UNREADABLE: len(judged.faults)})
    return Judged(known, judged.rejected + others, judged.faults)


def _faulty(lines: int, starts: Sequence[tuple[int, str]], faults: Mapping[int, str]) -> Iterator[SetAside]:
    """The objects that some of these lines are of."""
    by_object: dict[int, list[tuple[int, str]]] = {}
    for number, why in faults.items():
        by_object.setdefault(bisect_right(starts, (number, "\U0010ffff")) - 1, []).append((number, why))
    ends = [start for start, _ in starts[1:]] + [lines]
    for at, found in by_object.items():
        start, key = starts[at]
        one = lines_set_aside(key, ends[at] - start, [(number - start, why) for number, why in found])
        if one is not None:
            yield one
