"""What has to hold of a day's events before they replace those that the lake has. Pure: figures in, findings out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.events import RANK_AHEAD_MS
from movierec_platform.domain.findings import Finding
from movierec_platform.domain.landed import ratings_fit, same_as_before, tied_instants
from movierec_platform.domain.set_aside import SetAside, told_by_day
from movierec_platform.domain.tables import EVENTS

CHECKS = {
    "rating_range_and_step": True,
    "orphan_movies": True,
    "no_duplicate_events": True,
    "accepted_plus_rejected_is_landed": True,
    "volume_against_trailing_median": True,
    "timestamps_skew": True,
    "conflicting_event_ids": False,
    "no_objects_outside_days": False,
    "no_objects_set_aside": False,
}
"""Every check of the table `events`, and whether rows that fail it must not be promoted."""
_RANK_AHEAD = pa.scalar(RANK_AHEAD_MS, pa.int64())


@dataclass(frozen=True, slots=True)
class EventPolicy:
    """The thresholds of the checks."""

    volume_factor: float = 10.0
    """A day may have this many times the trailing median of landed events, or one part in so many of it."""
    volume_days: int = 3
    """With fewer earlier days there is no median to compare with."""
    ahead_share: float = 0.05
    """Of the events, those that claim a time RANK_AHEAD_MS or more after their receipt, at most.
    A few phones are always ahead; a whole producer in the wrong zone is more than this."""
    ahead_events: int = 100
    """Of fewer events no share is taken: one wrong clock would be all of them."""


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of the lines of a day's raw objects."""

    lines: int
    accepted: int
    duplicates: int
    rejected: int


@dataclass(frozen=True, slots=True)
class EventFigures:
    """What the staged events themselves show."""

    rows: int
    bad_ratings: int
    """Ratings that are absent, out of range or between half steps, and views or retracts that have one."""
    orphans: int
    """Events of movies that are not in the catalogue."""
    disordered: int
    """Rows that come before the row ahead of them, by user, movie and time."""
    repeated: int
    """Rows that equal another one in all but when they were received."""
    ahead: int
    """Events that claim a time too far after they were received, and rank earlier."""
    shared_ids: int
    """Rows more than there are event ids."""


def figures_of(batches: Iterable[pa.RecordBatch], movie_ids: pa.Array) -> EventFigures:
    """The figures of staged events (schema EVENTS) in their order; of the batches only ids are kept."""
    rows = bad_ratings = orphans = disordered = ahead = 0
    last = EVENTS.empty_table()
    tied: list[pa.Table] = [last]
    ids: list[pa.ChunkedArray] = [last["event_id"]]
    for batch in batches:
        events = pa.Table.from_batches([batch]).select(EVENTS.names).cast(EVENTS)
        if not events.num_rows:
            continue
        rows += events.num_rows
        bad_ratings += int(np.count_nonzero(~ratings_fit(events)))
        orphans += events.num_rows - _trues(pc.is_in(events["movie_id"], value_set=movie_ids))
        ahead += _trues(pc.greater_equal(pc.subtract(events["timestamp_ms"], events["received_at_ms"]), _RANK_AHEAD))
        ids.append(events["event_id"])
        joined = pa.concat_tables([last, events])
        disordered += _disordered(joined)
        tied.append(joined.filter(pa.array(tied_instants(joined))))
        last = events.slice(events.num_rows - 1)
    distinct = pc.count_distinct(pa.chunked_array([chunk for one in ids for chunk in one.chunks], pa.string())).as_py()
    return EventFigures(
        rows, bad_ratings, orphans, disordered, _repeated(pa.concat_tables(tied)), ahead, rows - distinct
    )


def event_findings(
    figures: EventFigures,
    landed: Landed,
    earlier: Sequence[int],
    is_over: bool,
    strangers: Sequence[str],
    set_aside: Sequence[SetAside],
    policy: EventPolicy,
) -> list[Finding]:
    """One finding for each of CHECKS.

    `earlier` has the landed events of the days before, `is_over` says whether the day is: before it is, it may still
    have few. `strangers` are names that stand among the raw objects and belong to no day,
    `set_aside` what of the day could not be read.
    """
    accounted = landed.accepted + landed.duplicates + landed.rejected
    share = figures.ahead / figures.rows if figures.rows else 0.0
    outcomes = {
        "rating_range_and_step": (
            figures.bad_ratings == 0,
            f"{figures.bad_ratings} of {figures.rows} events have a rating that is not 0.5 to 5 in halves for ratings"
            " and none for the others",
        ),
        "orphan_movies": (
            figures.orphans == 0,
            f"{figures.orphans} of {figures.rows} events are about movies that the catalogue lacks",
        ),
        "no_duplicate_events": (
            figures.repeated == 0 and figures.disordered == 0,
            f"{figures.repeated} of {figures.rows} events are there twice, {figures.disordered} are out of order",
        ),
        "accepted_plus_rejected_is_landed": (
            accounted == landed.lines and figures.rows == landed.accepted,
            f"{landed.lines} lines landed; {landed.accepted} accepted ({figures.rows} staged), {landed.duplicates}"
            f" duplicates and {landed.rejected} rejected are {accounted}",
        ),
        "volume_against_trailing_median": _volume(landed.lines, earlier, is_over, policy),
        "timestamps_skew": (
            figures.rows < policy.ahead_events or share <= policy.ahead_share,
            f"{figures.ahead} of {figures.rows} events claim a time {RANK_AHEAD_MS // 1000} s or more after they were"
            f" received; {policy.ahead_share:.0%} may",
        ),
        "conflicting_event_ids": (
            figures.shared_ids == 0,
            f"{figures.shared_ids} events have the id of another with other content; both count",
        ),
        "no_objects_outside_days": (
            not strangers,
            f"among the raw objects, read by no compaction: {', '.join(strangers) or 'nothing'}",
        ),
        "no_objects_set_aside": (
            not set_aside,
            "; ".join(told_by_day(set_aside)) or "every raw object of the day could be read",
        ),
    }
    return [Finding(check, *outcomes[check], blocking) for check, blocking in CHECKS.items()]


def findings_of_days(findings: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """One finding for each check of several days: it passed if it passed on all, else the days at fault say why."""
    merged = []
    for check, blocking in CHECKS.items():
        of_days = [(day, one) for day, found in findings.items() for one in found if one.check == check]
        failed = [(day, one) for day, one in of_days if not one.passed]
        detail = "; ".join(f"{day}: {one.detail}" for day, one in failed or of_days)
        merged.append(Finding(check, not failed, detail, blocking))
    return merged


def _volume(lines: int, earlier: Sequence[int], is_over: bool, policy: EventPolicy) -> tuple[bool, str]:
    if len(earlier) < policy.volume_days:
        return True, f"{lines} lines landed; {len(earlier)} earlier days are too few to compare with"
    usual = median(earlier)
    most, least = usual * policy.volume_factor, usual / policy.volume_factor if is_over else 0
    detail = f"{lines} lines landed; {least:g} to {most:g} are expected after a median of {usual:g}"
    return least <= lines <= most, detail


def _disordered(events: pa.Table) -> int:
    """How many rows come before their predecessor."""
    user, movie, at_ms = (events[name].to_numpy() for name in ("user_id", "movie_id", "timestamp_ms"))
    before = (
        (user[1:] < user[:-1])
        | ((user[1:] == user[:-1]) & (movie[1:] < movie[:-1]))
        | ((user[1:] == user[:-1]) & (movie[1:] == movie[:-1]) & (at_ms[1:] < at_ms[:-1]))
    )
    return int(np.count_nonzero(before))


def _repeated(events: pa.Table) -> int:
    """How many rows equal the one before them when sorted by all that must not be equal."""
    content = EVENTS.names[:-1]
    order = pc.sort_indices(events, sort_keys=[(name, "ascending") for name in content])
    return int(np.count_nonzero(same_as_before(events.select(content).take(order))))


def _trues(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)
