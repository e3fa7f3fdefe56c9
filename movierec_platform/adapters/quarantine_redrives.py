"""The redrives of the quarantine: rows are claimed under a key, and finished under it, by that redrive or the next."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from movierec_platform.adapters.quarantine_tables import (
    BODY,
    CHUNK_ROWS,
    JOINED,
    STANDING,
    Count,
    Transaction,
    act_row,
    add_acts,
    by_ids,
    counts,
    selected,
    settle,
    update_standings,
)
from movierec_platform.domain.quarantine import MAX_ATTEMPTS, POISON, Selection, event_to_land

CHUNK_CHARS = 8_000_000
"""Bodies that one redrive holds in memory; a single longer one goes alone."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one step of a redrive or a discard did: rows by reason, rows left alone by why, and where to go on.

    `batch` names what was claimed, None if nothing was; `after` is None when there are no more rows.
    """

    done: Mapping[str, int]
    skipped: Mapping[str, int]
    batch: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a redrive claimed under one raw key and is still to finish: events by line, encoded, and whole messages.

    `claimed_at_ms` is None when nothing is left to finish.
    """

    claimed_at_ms: int | None
    events: Sequence[bytes]
    messages: Sequence[str]


class Redrives:
    """The redrives of one quarantine; thread-safe. Every method is one transaction, as in QuarantineTable."""

    def __init__(self, transaction: Transaction, count: Count) -> None:
        self._transaction = transaction
        self._count = count

    def claim(self, selection: Selection, after: str, raw_key: str, actor: str, now_ms: int) -> Chunk:
        """Held rows of the selection with attempts left, from the id `after` on, are being redriven: one chunk of them.

        Their events get lines of one raw object with this key. What cannot travel is skipped.
        """
        columns = (STANDING.c.id, STANDING.c.reason_code, STANDING.c.attempts, STANDING.c.received_at_ms)
        held = (STANDING.c.status == "held", STANDING.c.attempts < MAX_ATTEMPTS, STANDING.c.id > after)
        query = sa.select(STANDING.c.id, sa.func.length(BODY)).select_from(JOINED)
        query = query.where(*selected(selection), *held).order_by(STANDING.c.id).limit(CHUNK_ROWS)
        bodies = sa.select(*columns, BODY.label("body")).select_from(JOINED)
        updates, acts = [], []
        done: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        with self._transaction(STANDING) as connection:
            ids = _within(connection.execute(query).all(), CHUNK_CHARS)
            if not ids:
                return Chunk({}, {}, None, None)
            lines = 0
            for row in by_ids(connection, bodies, ids):
                line = None
                if row.reason_code != POISON:
                    if event_to_land(row.body, row.received_at_ms) is None:
                        skipped["cannot_travel"] += 1
                        continue
                    line, lines = lines, lines + 1
                attempt = row.attempts + 1
                updates.append(
                    {
                        "row_id": row.id,
                        "status": "redriving",
                        "attempts": attempt,
                        "redrive_key": raw_key,
                        "redrive_line": line,
                        "redrive_at_ms": now_ms,
                    }
                )
                acts.append(
                    act_row(row.id, "claimed", now_ms, actor, attempt, row.reason_code, raw_key=raw_key, line=line)
                )
                done[row.reason_code] += 1
            update_standings(connection, updates)
            add_acts(connection, acts)
        return Chunk(done, skipped, raw_key if updates else None, ids[-1])

    def unfinished(self, after: str = "") -> str | None:
        """The raw key, the first after this one, under which rows are being redriven; None when there is none."""
        query = sa.select(sa.func.min(STANDING.c.redrive_key))
        query = query.where(STANDING.c.status == "redriving", STANDING.c.redrive_key > after)
        with self._transaction(None) as connection:
            return connection.execute(query).scalar()

    def batch(self, raw_key: str) -> Batch:
        """What is being redriven under this key: all that was claimed, until something of it is refused again."""
        columns = (STANDING.c.redrive_line, STANDING.c.redrive_at_ms, STANDING.c.received_at_ms)
        query = sa.select(*columns, BODY.label("body")).select_from(JOINED)
        query = query.where(STANDING.c.redrive_key == raw_key, STANDING.c.status == "redriving")
        with self._transaction(None) as connection:
            rows = connection.execute(query.order_by(STANDING.c.redrive_line, STANDING.c.id)).all()
        events = [event_to_land(row.body, row.received_at_ms) for row in rows if row.redrive_line is not None]
        return Batch(
            claimed_at_ms=rows[0].redrive_at_ms if rows else None,
            events=[event for event in events if event is not None],
            messages=[row.body for row in rows if row.redrive_line is None],
        )

    def release(
        self, raw_key: str, lines: Collection[int] | None, bodies: Collection[str], why: str, actor: str, now_ms: int
    ) -> None:
        """What was being redriven under this key, on these lines (None: on any) or as whole messages with these bodies,
        is held again, and an act says why."""
        columns = (STANDING.c.id, STANDING.c.reason_code, STANDING.c.attempts, STANDING.c.redrive_line)
        query = sa.select(*columns, BODY.label("body")).select_from(JOINED)
        query = query.where(STANDING.c.redrive_key == raw_key, STANDING.c.status == "redriving")
        with self._transaction(STANDING) as connection:
            rows = [
                row
                for row in connection.execute(query)
                if (row.body in bodies if row.redrive_line is None else lines is None or row.redrive_line in lines)
            ]
            update_standings(connection, [{"row_id": row.id, "status": "held"} for row in rows])
            acts = [act_row(row.id, "held", now_ms, actor, row.attempts, row.reason_code, why) for row in rows]
            add_acts(connection, acts)

    def finish(self, raw_key: str, actor: str, now_ms: int) -> dict[str, int]:
        """What was being redriven under this key is redriven; how many by reason, without those finished already."""
        columns = (STANDING.c.id, STANDING.c.reason_code, STANDING.c.attempts)
        query = sa.select(*columns).where(STANDING.c.redrive_key == raw_key, STANDING.c.status == "redriving")
        with self._transaction(STANDING) as connection:
            rows = connection.execute(query).all()
            done = settle(connection, rows, "redriven", actor, now_ms)
            self._count(connection, counts("redriven", done))
        return done


def _within(lengths: Iterable[Any], limit: int) -> list[str]:
    """(id, length) each: the first ids whose lengths add up to `limit` at most; at least one, if there is one."""
    ids: list[str] = []
    total = 0
    for row_id, length in lengths:
        total += length
        if ids and total > limit:
            break
        ids.append(row_id)
    return ids
