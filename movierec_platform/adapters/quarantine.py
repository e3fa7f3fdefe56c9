"""The quarantine in the state database: each event's first refusal, its standing now, and all that was done to it.

Every method is one transaction, and those that change rows take turns with each other, so that what one has read is
still true when it writes. The durable counters are changed in the same transaction: held now, by reason, is always
`quarantined - redriven - discarded`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa

from movierec_platform.domain.freshness import CounterKey
from movierec_platform.domain.quarantine import (
    EVERYTHING,
    HELD_NOW,
    MAX_ATTEMPTS,
    POISON,
    Filter,
    Selection,
    Status,
    event_to_land,
    user_id_in,
)

CHUNK_ROWS = 1_000
"""Rows in one transaction, and events in one redrive object."""
CHUNK_CHARS = 8_000_000
"""Bodies that one redrive holds in memory; a single longer one goes alone."""
CLOCK_SKEW_MS = 60_000
"""The clocks of SQS and of this machine are no further apart."""

metadata = sa.MetaData()

_first = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("reason_code", sa.String, nullable=False, index=True),
    sa.Column("field", sa.String),
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("raw_key", sa.String),
    sa.Column("line", sa.Integer),
    sa.Column("received_at_ms", sa.BigInteger, index=True),
    sa.Column("quarantined_at_ms", sa.BigInteger, nullable=False),
)
_standing = sa.Table(
    "quarantine_standing",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("reason_code", sa.String, nullable=False),
    sa.Column("field", sa.String),
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("body", sa.Text),  # null: as first refused
    sa.Column("user_id", sa.BigInteger, index=True),
    sa.Column("received_at_ms", sa.BigInteger),
    sa.Column("quarantined_at_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("redrive_key", sa.String),
    sa.Column("redrive_line", sa.Integer),  # null: a whole message, which is not landed
    sa.Column("redrive_at_ms", sa.BigInteger),
    sa.Index("ix_quarantine_standing_status_reason", "status", "reason_code"),
    sa.Index("ix_quarantine_standing_status_id", "status", "id"),
    sa.Index("ix_quarantine_standing_latest", "quarantined_at_ms", "id"),
    sa.Index("ix_quarantine_standing_redrive", "redrive_key", "status"),
)
_acts = sa.Table(
    "quarantine_acts",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("row_id", sa.String, nullable=False, index=True),
    sa.Column("act", sa.String, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason_code", sa.String, nullable=False),
    sa.Column("detail", sa.String),
    sa.Column("body", sa.Text),
    sa.Column("raw_key", sa.String),
    sa.Column("line", sa.Integer),
    sa.Index("ix_quarantine_acts_landed", "raw_key", "line"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One event that was refused, or (poison) one whole message, with the place that it was landed in, if it was.

    `sent_at_ms` is when the message that says so was sent.
    """

    id: str
    reason_code: str
    field: str | None
    detail: str
    body: str
    raw_key: str | None
    line: int | None
    received_at_ms: int | None
    sent_at_ms: int


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """An event in quarantine as it stands now. `raw_key` and `line` say where it was landed first, if it was;
    `redrive_key` and `redrive_line` where its last redrive landed it."""

    id: str
    status: Status
    attempts: int
    reason_code: str
    field: str | None
    detail: str
    body: str
    user_id: int | None
    raw_key: str | None
    line: int | None
    received_at_ms: int | None
    quarantined_at_ms: int
    redrive_key: str | None
    redrive_line: int | None


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was done to a row: held, patched, claimed (by a redrive), redriven, refused again, discarded.

    `attempt` is how many redrives there had been; `body` what the body became, None where it stayed.
    """

    act: str
    at_ms: int
    actor: str
    attempt: int
    reason_code: str
    detail: str | None
    body: str | None
    raw_key: str | None
    line: int | None


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


_BODY = sa.func.coalesce(_standing.c.body, _first.c.body)
_JOINED = _standing.join(_first, _standing.c.id == _first.c.id)


class QuarantineTable:
    """The quarantine of one state database; thread-safe.

    `transaction(table)` begins one that no other on this table overlaps, `transaction(None)` a common one; `insert`
    makes the database's own insert, which knows conflicts; `count` adds to the durable counters in a transaction.
    """

    def __init__(
        self,
        transaction: Callable[[sa.Table | None], AbstractContextManager[sa.Connection]],
        insert: Callable[[sa.Table], Any],
        count: Callable[[sa.Connection, Mapping[CounterKey, float]], None],
    ) -> None:
        self._transaction = transaction
        self._insert = insert
        self._count = count

    # Looking

    def rows(
        self,
        where: Filter,
        statuses: Sequence[Status],
        limit: int,
        after: tuple[int, str] | None = None,
    ) -> list[QuarantineRow]:
        """Rows that the filter finds, the latest first; `after` is (quarantined_at_ms, id) of the last one known."""
        query = _rows_query().where(*_conditions(where), _standing.c.status.in_(statuses))
        if after is not None:
            query = query.where(sa.tuple_(_standing.c.quarantined_at_ms, _standing.c.id) < sa.tuple_(*after))
        query = query.order_by(_standing.c.quarantined_at_ms.desc(), _standing.c.id.desc()).limit(limit)
        with self._transaction(None) as connection:
            return [QuarantineRow(*row) for row in connection.execute(query)]

    def by_reason(self, where: Filter = EVERYTHING, statuses: Sequence[Status] = HELD_NOW) -> dict[str, int]:
        """How many rows there are for each reason; without arguments, of those held now."""
        reason = _standing.c.reason_code
        query = sa.select(reason, sa.func.count()).where(*_conditions(where), _standing.c.status.in_(statuses))
        with self._transaction(None) as connection:
            rows = connection.execute(query.group_by(reason).order_by(reason)).all()
        return {row[0]: row[1] for row in rows}

    def found(self, beginning: str) -> list[QuarantineRow]:
        """The rows whose ids start with this, two at most; one whose id is just this comes alone."""
        query = _rows_query().where(_standing.c.id.startswith(beginning, autoescape=True)).limit(2)
        exactly = _rows_query().where(_standing.c.id == beginning)
        with self._transaction(None) as connection:
            rows = connection.execute(exactly).all() or connection.execute(query).all()
        return [QuarantineRow(*row) for row in rows]

    def history(self, row_id: str) -> list[Act]:
        """All that was done to this row, in order."""
        query = sa.select(*_columns_of(_acts, Act)).where(_acts.c.row_id == row_id).order_by(_acts.c.number)
        with self._transaction(None) as connection:
            return [Act(*row) for row in connection.execute(query)]

    # Refused events arrive

    def hold(self, refusals: Iterable[Refusal], actor: str, now_ms: int) -> None:
        """Each refused event is held, once, however often its refusal arrives.

        A refusal of what a row's last redrive landed holds that row again. One of an earlier redrive, or of what is
        known already, changes nothing.
        """
        first: dict[str, Refusal] = {}
        again: list[tuple[str, int | None, Refusal]] = []
        with self._transaction(_standing) as connection:
            given = list(refusals)
            claims = _claims(connection, {one.raw_key for one in given if one.line is not None})
            for one in given:
                claim = claims.get((one.raw_key, one.line))
                if claim is None:
                    first.setdefault(one.id, one)
                else:
                    again.append((*claim, one))
            new = self._hold_first(connection, list(first.values()), actor, now_ms)
            again += [(one.id, None, one) for one in first.values() if one.reason_code == POISON and one.id not in new]
            self._hold_again(connection, again, actor, now_ms)

    def _hold_first(self, connection: sa.Connection, refusals: Sequence[Refusal], actor: str, now_ms: int) -> set[str]:
        """The ids of those that were not in the table; now they are."""
        if not refusals:
            return set()
        insert = self._insert(_first).on_conflict_do_nothing(index_elements=["id"]).returning(_first.c.id)
        rows = {one.id: {**_first_refusal(one), "quarantined_at_ms": now_ms} for one in refusals}
        new = set(connection.execute(insert, list(rows.values())).scalars())
        self._stand(connection, [rows[row_id] for row_id in rows if row_id in new], actor)
        self._count(connection, _counts("quarantined", Counter(rows[row_id]["reason_code"] for row_id in new)))
        return new

    def _stand(self, connection: sa.Connection, rows: Sequence[Mapping[Any, Any]], actor: str) -> None:
        """These first refusals are held."""
        if not rows:
            return
        copied = ("id", "reason_code", "field", "detail", "received_at_ms", "quarantined_at_ms")
        standings = [
            {
                **{name: row[name] for name in copied},
                "status": "held",
                "attempts": 0,
                "user_id": user_id_in(row["body"]),
            }
            for row in rows
        ]
        connection.execute(self._insert(_standing), standings)
        acts = [
            _act(row["id"], "held", row["quarantined_at_ms"], actor, 0, row["reason_code"], row["detail"])
            for row in rows
        ]
        connection.execute(self._insert(_acts), acts)

    def _hold_again(
        self,
        connection: sa.Connection,
        refusals: Sequence[tuple[str, int | None, Refusal]],
        actor: str,
        now_ms: int,
    ) -> None:
        """(row id, the attempt that was refused, the refusal): rows whose last attempt it was are held again.

        Nothing in a whole message says which attempt it was: for those it is None, and the time it was sent decides.
        """
        names = (_standing.c.id, _standing.c.status, _standing.c.attempts, _standing.c.reason_code)
        query = sa.select(*names, _standing.c.redrive_at_ms).where(_standing.c.status.in_(("redriving", "redriven")))
        rows = {row.id: row for row in _by_ids(connection, query, {row_id for row_id, _, _ in refusals})}
        updates, acts = [], []
        redriven: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for row_id, attempt, one in refusals:
            row = rows.get(row_id)
            if row is None or (attempt or row.attempts) != row.attempts:
                continue
            if attempt is None and one.sent_at_ms < row.redrive_at_ms - CLOCK_SKEW_MS:
                continue
            del rows[row_id]
            updates.append(
                {
                    "row_id": row_id,
                    "status": "held",
                    "reason_code": one.reason_code,
                    "field": one.field,
                    "detail": one.detail,
                    "body": one.body,
                    "user_id": user_id_in(one.body),
                }
            )
            if row.status == "redriving":
                acts.append(_act(row_id, "redriven", now_ms, actor, row.attempts, row.reason_code))
                redriven[row.reason_code] += 1
            acts.append(
                _act(row_id, "refused again", now_ms, actor, row.attempts, one.reason_code, one.detail, one.body)
            )
            held[one.reason_code] += 1
        _update(connection, updates)
        if acts:
            connection.execute(self._insert(_acts), acts)
        self._count(connection, _counts("redriven", redriven) + _counts("quarantined", held))

    # People act

    def patch(self, row_id: str, body: str, detail: str, actor: str, now_ms: int) -> Status:
        """The status that the row had: if it was held, its body is this one now, else nothing has changed."""
        query = sa.select(_standing.c.status, _standing.c.attempts, _standing.c.reason_code)
        with self._transaction(_standing) as connection:
            row = connection.execute(query.where(_standing.c.id == row_id)).one()
            if row.status == "held":
                _update(connection, [{"row_id": row_id, "body": body, "user_id": user_id_in(body)}])
                act = _act(row_id, "patched", now_ms, actor, row.attempts, row.reason_code, detail, body)
                connection.execute(self._insert(_acts), [act])
            status: Status = row.status
            return status

    def left_alone(self, selection: Selection, acted_on: Sequence[Status], capped: bool) -> dict[str, int]:
        """How many of the selected rows an act on these statuses passes over: by status, or `attempts_used_up`.

        A filter is about what is held, so settled rows are told for ids only.
        """
        used_up = _standing.c.attempts >= MAX_ATTEMPTS
        query = sa.select(_standing.c.status, used_up, sa.func.count()).where(*_selected(selection))
        left: Counter[str] = Counter()
        with self._transaction(None) as connection:
            for status, is_used_up, n in connection.execute(query.group_by(_standing.c.status, used_up)):
                if capped and status == "held" and is_used_up:
                    left["attempts_used_up"] += n
                elif status not in acted_on and (selection.ids or status in HELD_NOW):
                    left[status] += n
        return left

    def discard(self, selection: Selection, after: str, actor: str, now_ms: int) -> Chunk:
        """Held rows of the selection, from the id `after` on, are discarded: one chunk of them."""
        columns = (_standing.c.id, _standing.c.reason_code, _standing.c.attempts)
        query = sa.select(*columns).where(*_selected(selection), _standing.c.status == "held", _standing.c.id > after)
        with self._transaction(_standing) as connection:
            rows = connection.execute(query.order_by(_standing.c.id).limit(CHUNK_ROWS)).all()
            if not rows:
                return Chunk({}, {}, None, None)
            _update(connection, [{"row_id": row.id, "status": "discarded"} for row in rows])
            acts = [_act(row.id, "discarded", now_ms, actor, row.attempts, row.reason_code) for row in rows]
            connection.execute(self._insert(_acts), acts)
            done = Counter(row.reason_code for row in rows)
            self._count(connection, _counts("discarded", done))
            return Chunk(done, {}, None, rows[-1].id)

    # Redrives

    def claim(self, selection: Selection, after: str, raw_key: str, actor: str, now_ms: int) -> Chunk:
        """Held rows of the selection with attempts left, from the id `after` on, are being redriven: one chunk of them.

        Their events get lines of one raw object with this key. What cannot travel is skipped.
        """
        columns = (_standing.c.id, _standing.c.reason_code, _standing.c.attempts, _standing.c.received_at_ms)
        held = (_standing.c.status == "held", _standing.c.attempts < MAX_ATTEMPTS, _standing.c.id > after)
        query = sa.select(_standing.c.id, sa.func.length(_BODY)).select_from(_JOINED)
        query = query.where(*_selected(selection), *held).order_by(_standing.c.id).limit(CHUNK_ROWS)
        bodies = sa.select(*columns, _BODY.label("body")).select_from(_JOINED)
        updates, acts = [], []
        done: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        with self._transaction(_standing) as connection:
            ids = _within(connection.execute(query).all(), CHUNK_CHARS)
            if not ids:
                return Chunk({}, {}, None, None)
            lines = 0
            for row in _by_ids(connection, bodies, ids):
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
                    _act(row.id, "claimed", now_ms, actor, attempt, row.reason_code, raw_key=raw_key, line=line)
                )
                done[row.reason_code] += 1
            _update(connection, updates)
            if acts:
                connection.execute(self._insert(_acts), acts)
        return Chunk(done, skipped, raw_key if updates else None, ids[-1])

    def unfinished(self, after: str = "") -> str | None:
        """The raw key, the first after this one, under which rows are being redriven; None when there is none."""
        query = sa.select(sa.func.min(_standing.c.redrive_key))
        query = query.where(_standing.c.status == "redriving", _standing.c.redrive_key > after)
        with self._transaction(None) as connection:
            return connection.execute(query).scalar()

    def batch(self, raw_key: str) -> Batch:
        """What is being redriven under this key: all that was claimed, until something of it is refused again."""
        columns = (_standing.c.redrive_line, _standing.c.redrive_at_ms, _standing.c.received_at_ms)
        query = sa.select(*columns, _BODY.label("body")).select_from(_JOINED)
        query = query.where(_standing.c.redrive_key == raw_key, _standing.c.status == "redriving")
        with self._transaction(None) as connection:
            rows = connection.execute(query.order_by(_standing.c.redrive_line, _standing.c.id)).all()
        events = [event_to_land(row.body, row.received_at_ms) for row in rows if row.redrive_line is not None]
        return Batch(
            claimed_at_ms=rows[0].redrive_at_ms if rows else None,
            events=[event for event in events if event is not None],
            messages=[row.body for row in rows if row.redrive_line is None],
        )

    def finish(self, raw_key: str, actor: str, now_ms: int) -> dict[str, int]:
        """What was being redriven under this key is redriven; how many by reason, without those finished already."""
        columns = (_standing.c.id, _standing.c.reason_code, _standing.c.attempts)
        query = sa.select(*columns).where(_standing.c.redrive_key == raw_key, _standing.c.status == "redriving")
        with self._transaction(_standing) as connection:
            rows = connection.execute(query).all()
            _update(connection, [{"row_id": row.id, "status": "redriven"} for row in rows])
            acts = [_act(row.id, "redriven", now_ms, actor, row.attempts, row.reason_code) for row in rows]
            if acts:
                connection.execute(self._insert(_acts), acts)
            done = Counter(row.reason_code for row in rows)
            self._count(connection, _counts("redriven", done))
        return done


def _rows_query() -> sa.Select[Any]:
    """Rows as QuarantineRow has them."""
    first = {"raw_key", "line"}
    columns = [
        _BODY if field.name == "body" else (_first if field.name in first else _standing).c[field.name]
        for field in fields(QuarantineRow)
    ]
    return sa.select(*columns).select_from(_JOINED)


def _conditions(where: Filter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if where.reason is not None:
        conditions.append(_standing.c.reason_code == where.reason)
    if where.since_ms is not None:
        conditions.append(_standing.c.received_at_ms >= where.since_ms)
    if where.user_id is not None:
        conditions.append(_standing.c.user_id == where.user_id)
    return conditions


def _selected(selection: Selection) -> list[sa.ColumnElement[bool]]:
    return [_standing.c.id.in_(selection.ids)] if selection.ids else _conditions(selection.where)


def _claims(
    connection: sa.Connection, raw_keys: Iterable[str | None]
) -> dict[tuple[str | None, int | None], tuple[str, int]]:
    """(row id, attempt) by the raw key and line that a redrive claimed for it."""
    columns = (_acts.c.raw_key, _acts.c.line, _acts.c.row_id, _acts.c.attempt)
    rows = _by_ids(connection, sa.select(*columns), raw_keys, _acts.c.raw_key)
    return {(row.raw_key, row.line): (row.row_id, row.attempt) for row in rows}


def _by_ids(
    connection: sa.Connection, query: sa.Select[Any], ids: Iterable[str | None], column: sa.Column[Any] = _standing.c.id
) -> Iterator[sa.Row[Any]]:
    """What the query finds for these ids, in their order, asked for in pieces that a statement can hold."""
    ordered = sorted(one for one in ids if one is not None)
    for start in range(0, len(ordered), CHUNK_ROWS):
        piece = ordered[start : start + CHUNK_ROWS]
        yield from connection.execute(query.where(column.in_(piece)).order_by(column))


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


def _update(connection: sa.Connection, updates: Sequence[Mapping[str, Any]]) -> None:
    """Each standing `row_id` has these values; all of them name the same columns."""
    if updates:
        connection.execute(sa.update(_standing).where(_standing.c.id == sa.bindparam("row_id")), list(updates))


def _act(
    row_id: str,
    act: str,
    at_ms: int,
    actor: str,
    attempt: int,
    reason_code: str,
    detail: str | None = None,
    body: str | None = None,
    raw_key: str | None = None,
    line: int | None = None,
) -> dict[str, Any]:
    return {"row_id": row_id, **asdict(Act(act, at_ms, actor, attempt, reason_code, detail, body, raw_key, line))}


def _first_refusal(one: Refusal) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "sent_at_ms"}


def _columns_of(table: sa.Table, kind: type) -> list[sa.Column[Any]]:
    return [table.c[field.name] for field in fields(kind)]


def _counts(what: str, by_reason: Mapping[str, int]) -> Counter[CounterKey]:
    return Counter({(f"movierec_events_{what}_total", (("reason", code),)): n for code, n in by_reason.items()})
