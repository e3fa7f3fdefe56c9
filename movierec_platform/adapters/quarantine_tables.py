"""The tables of the quarantine, and how their rows are found and written in a transaction that has begun.

FIRST has each event as it was refused first, and never changes; STANDING how it stands now; ACTS what was done to it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from movierec_platform.domain.freshness import CounterKey
from movierec_platform.domain.quarantine import Filter, Selection

Transaction = Callable[[sa.Table | None], AbstractContextManager[sa.Connection]]
"""Given a table, begins a transaction that no other on this table overlaps; given None, a common one."""
Count = Callable[[sa.Connection, Mapping[CounterKey, float]], None]
"""Adds to the durable counters in a transaction."""

CHUNK_ROWS = 1_000
"""Rows in one transaction, and events in one redrive object."""

metadata = sa.MetaData()

FIRST = sa.Table(
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
STANDING = sa.Table(
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
ACTS = sa.Table(
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

BODY = sa.func.coalesce(STANDING.c.body, FIRST.c.body)
"""The body as it is now, in JOINED."""
JOINED = STANDING.join(FIRST, STANDING.c.id == FIRST.c.id)


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


def conditions(where: Filter) -> list[sa.ColumnElement[bool]]:
    """What holds of the standings that the filter finds."""
    found: list[sa.ColumnElement[bool]] = []
    if where.reason is not None:
        found.append(STANDING.c.reason_code == where.reason)
    if where.since_ms is not None:
        found.append(STANDING.c.received_at_ms >= where.since_ms)
    if where.user_id is not None:
        found.append(STANDING.c.user_id == where.user_id)
    return found


def selected(selection: Selection) -> list[sa.ColumnElement[bool]]:
    """What holds of the standings that the selection names."""
    return [STANDING.c.id.in_(selection.ids)] if selection.ids else conditions(selection.where)


def by_ids(
    connection: sa.Connection, query: sa.Select[Any], ids: Iterable[str | None], column: sa.Column[Any] = STANDING.c.id
) -> Iterator[sa.Row[Any]]:
    """What the query finds for these ids, in their order, asked for in pieces that a statement can hold."""
    ordered = sorted(one for one in ids if one is not None)
    for start in range(0, len(ordered), CHUNK_ROWS):
        piece = ordered[start : start + CHUNK_ROWS]
        yield from connection.execute(query.where(column.in_(piece)).order_by(column))


def update_standings(connection: sa.Connection, updates: Sequence[Mapping[str, Any]]) -> None:
    """Each standing `row_id` has these values; all of them name the same columns."""
    if updates:
        connection.execute(sa.update(STANDING).where(STANDING.c.id == sa.bindparam("row_id")), list(updates))


def act_row(
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
    """The row of an act, for `add_acts`."""
    return {"row_id": row_id, **asdict(Act(act, at_ms, actor, attempt, reason_code, detail, body, raw_key, line))}


def add_acts(connection: sa.Connection, acts: Sequence[Mapping[str, Any]]) -> None:
    """These acts were done, in this order."""
    if acts:
        connection.execute(sa.insert(ACTS), list(acts))


def settle(
    connection: sa.Connection, rows: Sequence[Any], status: Literal["redriven", "discarded"], actor: str, now_ms: int
) -> Counter[str]:
    """These rows, with id, reason_code and attempts, have this status, and an act says so; how many by reason."""
    update_standings(connection, [{"row_id": row.id, "status": status} for row in rows])
    add_acts(connection, [act_row(row.id, status, now_ms, actor, row.attempts, row.reason_code) for row in rows])
    return Counter(row.reason_code for row in rows)


def counts(what: str, by_reason: Mapping[str, int]) -> Counter[CounterKey]:
    """What the durable counters of `what` gain."""
    return Counter({(f"movierec_events_{what}_total", (("reason", code),)): n for code, n in by_reason.items()})
