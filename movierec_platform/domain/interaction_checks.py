"""What must hold of the interactions before they replace the ones before."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.findings import Finding

ROW_CHECKS = {
    "no_duplicate_pairs": "rows that do not come after the row before by user and movie",
    "rating_range_and_step": "ratings that are not 0.5 to 5 in halves",
    "orphan_movies": "rows about movies that the catalogue lacks",
    "registers_in_normal_form": "rows whose registers contradict each other",
}
"""What each check of single rows counts; one such row is one too many."""
CHECKS = (*ROW_CHECKS, "events_complete", "pairs_do_not_shrink")

_Wrong = npt.NDArray[np.bool_]


def row_findings(batches: Iterable[pa.RecordBatch], movie_ids: pa.Array) -> list[Finding]:
    """A finding for each of ROW_CHECKS about all rows of these batches (schema INTERACTIONS), in their order."""
    rows = 0
    wrong: Counter[str] = Counter()
    first: dict[str, str] = {}
    before: pa.RecordBatch | None = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        for check, rows_wrong in _wrong_rows(batch, before, movie_ids).items():
            if (count := int(rows_wrong.sum())) and check not in first:
                at = int(np.argmax(rows_wrong))
                first[check] = f"user {batch['user_id'][at].as_py()}, movie {batch['movie_id'][at].as_py()}"
            wrong[check] += count
        rows += batch.num_rows
        before = batch
    return [
        Finding(check, not wrong[check], f"{wrong[check]} of {rows} {what}{_example(first.get(check))}")
        for check, what in ROW_CHECKS.items()
    ]


def events_complete(stale_days: Sequence[str], late_days: int) -> Finding:
    """Passed if no past day has landed objects of which its partition of `events` was not made."""
    if not stale_days:
        return Finding("events_complete", True, f"every day of the {late_days} before today is compacted as it landed")
    days = ", ".join(stale_days)
    return Finding("events_complete", False, f"materialize the partitions of events that are not current: {days}")


def pairs_do_not_shrink(pairs: int, before: int, least_share: float) -> Finding:
    """Passed if there are at least `least_share` times as many pairs as before."""
    detail = f"{pairs} pairs after {before}; at least {least_share:.0%} of them are expected"
    return Finding("pairs_do_not_shrink", pairs >= least_share * before, detail)


def _example(row: str | None) -> str:
    return f", the first of {row}" if row else ""


def _wrong_rows(batch: pa.RecordBatch, before: pa.RecordBatch | None, movie_ids: pa.Array) -> dict[str, _Wrong]:
    return {
        "no_duplicate_pairs": _not_ascending(batch, before),
        "rating_range_and_step": _not_a_rating(batch),
        "orphan_movies": _mask(pc.invert(pc.is_in(batch["movie_id"], value_set=movie_ids))),
        "registers_in_normal_form": _contradicting(batch),
    }


def _not_ascending(batch: pa.RecordBatch, before: pa.RecordBatch | None) -> _Wrong:
    user_id, movie_id = (
        np.concatenate(([0 if before is None else before[name][-1].as_py()], _numbers(batch[name])))
        for name in ("user_id", "movie_id")
    )
    same_user_later_movie = (user_id[1:] == user_id[:-1]) & (movie_id[1:] > movie_id[:-1])
    ascending: _Wrong = (user_id[1:] > user_id[:-1]) | same_user_later_movie
    return ~ascending


def _not_a_rating(batch: pa.RecordBatch) -> _Wrong:
    doubled = pc.fill_null(batch["rating"], 0.5).to_numpy() * 2
    return _mask(pc.invert(pc.is_in(pa.array(doubled), value_set=pa.array(range(1, 11), pa.float64()))))


def _contradicting(batch: pa.RecordBatch) -> _Wrong:
    """A rating is there with its time and event or not at all, is later than any retract, and makes the movie seen."""
    rated, timed, named, seen, retracted = (
        _mask(batch[name].is_valid()) for name in ("rating", "rated_at_ms", "event_id", "seen_at_ms", "retracted_at_ms")
    )
    rated_ms, seen_ms, retracted_ms = (
        _numbers(pc.fill_null(batch[name], 0)) for name in ("rated_at_ms", "seen_at_ms", "retracted_at_ms")
    )
    impossible: _Wrong = rated & ((rated_ms <= retracted_ms) | (seen_ms < rated_ms))
    unlike: _Wrong = (rated != timed) | (rated != named)
    return unlike | impossible | ~(seen | retracted)


def _numbers(values: pa.Array) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = values.to_numpy()
    return numbers


def _mask(values: pa.Array) -> _Wrong:
    mask: _Wrong = values.to_numpy(zero_copy_only=False)
    return mask
