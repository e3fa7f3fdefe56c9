"""The quarantine in the state database: each event's first refusal, its standing now, and all that was done to it.

Every method is one transaction, and those that change rows take turns with each other, so that what one has read is
still true when it writes. The durable counters are changed in the same transaction: held now, by reason, is always
`quarantined - redriven - discarded`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from movierec_platform.adapters.quarantine_redrives import Chunk, Redrives
from movierec_platform.adapters.quarantine_refusals import Refusal, hold
from movierec_platform.adapters.quarantine_tables import (
    ACTS,
    BODY,
    CHUNK_ROWS,
    FIRST,
    JOINED,
    STANDING,
    Act,
    Count,
    Transaction,
    act_row,
    add_acts,
    conditions,
    counts,
    selected,
    settle,
    update_standings,
)
from movierec_platform.domain.quarantine import (
    EVERYTHING,
    HELD_NOW,
    MAX_ATTEMPTS,
    Filter,
    Selection,
    Status,
    user_id_in,
)


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


class QuarantineTable:
    """The quarantine of one state database; thread-safe. `insert` makes its own insert, which knows conflicts."""

    def __init__(self, transaction: Transaction, insert: Callable[[sa.Table], Any], count: Count) -> None:
        self._transaction = transaction
        self._insert = insert
        self._count = count
        self.redrives = Redrives(transaction, count)

    # Looking

    def rows(
        self,
        where: Filter,
        statuses: Sequence[Status],
        limit: int,
        after: tuple[int, str] | None = None,
    ) -> list[QuarantineRow]:
        """Rows that the filter finds, the latest first; `after` is (quarantined_at_ms, id) of the last one known."""
        query = _rows_query().where(*conditions(where), STANDING.c.status.in_(statuses))
        if after is not None:
            query = query.where(sa.tuple_(STANDING.c.quarantined_at_ms, STANDING.c.id) < sa.tuple_(*after))
        query = query.order_by(STANDING.c.quarantined_at_ms.desc(), STANDING.c.id.desc()).limit(limit)
        with self._transaction(None) as connection:
            return [QuarantineRow(*row) for row in connection.execute(query)]

    def by_reason(self, where: Filter = EVERYTHING, statuses: Sequence[Status] = HELD_NOW) -> dict[str, int]:
        """How many rows there are for each reason; without arguments, of those held now."""
        reason = STANDING.c.reason_code
        query = sa.select(reason, sa.func.count()).where(*conditions(where), STANDING.c.status.in_(statuses))
        with self._transaction(None) as connection:
            rows = connection.execute(query.group_by(reason).order_by(reason)).all()
        return {row[0]: row[1] for row in rows}

    def found(self, beginning: str) -> list[QuarantineRow]:
        """The rows whose ids start with this, two at most; one whose id is just this comes alone."""
        query = _rows_query().where(STANDING.c.id.startswith(beginning, autoescape=True)).limit(2)
        exactly = _rows_query().where(STANDING.c.id == beginning)
        with self._transaction(None) as connection:
            rows = connection.execute(exactly).all() or connection.execute(query).all()
        return [QuarantineRow(*row) for row in rows]

    def history(self, row_id: str) -> list[Act]:
        """All that was done to this row, in order."""
        query = sa.select(*_columns_of(ACTS, Act)).where(ACTS.c.row_id == row_id).order_by(ACTS.c.number)
        with self._transaction(None) as connection:
            return [Act(*row) for row in connection.execute(query)]

    # Refused events arrive

    def hold(self, refusals: Iterable[Refusal], actor: str, now_ms: int) -> None:
        """Each refused event is held, once, however often its refusal arrives.

        A refusal of what a row's last redrive landed holds that row again. One of an earlier redrive, or of what is
        known already, changes nothing.
        """
        with self._transaction(STANDING) as connection:
            self._count(connection, hold(connection, self._insert, list(refusals), actor, now_ms))

    # People act

    def patch(self, row_id: str, body: str, detail: str, actor: str, now_ms: int) -> Status:
        """The status that the row had: if it was held, its body is this one now, else nothing has changed."""
        query = sa.select(STANDING.c.status, STANDING.c.attempts, STANDING.c.reason_code)
        with self._transaction(STANDING) as connection:
            row = connection.execute(query.where(STANDING.c.id == row_id)).one()
            if row.status == "held":
                update_standings(connection, [{"row_id": row_id, "body": body, "user_id": user_id_in(body)}])
                act = act_row(row_id, "patched", now_ms, actor, row.attempts, row.reason_code, detail, body)
                add_acts(connection, [act])
            status: Status = row.status
            return status

    def left_alone(self, selection: Selection, acted_on: Sequence[Status], capped: bool) -> dict[str, int]:
        """How many of the selected rows an act on these statuses passes over: by status, or `attempts_used_up`.

        A filter is about what is held, so settled rows are told for ids only.
        """
        used_up = STANDING.c.attempts >= MAX_ATTEMPTS
        query = sa.select(STANDING.c.status, used_up, sa.func.count()).where(*selected(selection))
        left: Counter[str] = Counter()
        with self._transaction(None) as connection:
            for status, is_used_up, n in connection.execute(query.group_by(STANDING.c.status, used_up)):
                if capped and status == "held" and is_used_up:
                    left["attempts_used_up"] += n
                elif status not in acted_on and (selection.ids or status in HELD_NOW):
                    left[status] += n
        return left

    def discard(self, selection: Selection, after: str, actor: str, now_ms: int) -> Chunk:
        """Held rows of the selection, from the id `after` on, are discarded: one chunk of them."""
        columns = (STANDING.c.id, STANDING.c.reason_code, STANDING.c.attempts)
        query = sa.select(*columns).where(*selected(selection), STANDING.c.status == "held", STANDING.c.id > after)
        with self._transaction(STANDING) as connection:
            rows = connection.execute(query.order_by(STANDING.c.id).limit(CHUNK_ROWS)).all()
            if not rows:
                return Chunk({}, {}, None, None)
            done = settle(connection, rows, "discarded", actor, now_ms)
            self._count(connection, counts("discarded", done))
            return Chunk(done, {}, None, rows[-1].id)


def _rows_query() -> sa.Select[Any]:
    """Rows as QuarantineRow has them."""
    first = {"raw_key", "line"}
    columns = [
        BODY if field.name == "body" else (FIRST if field.name in first else STANDING).c[field.name]
        for field in fields(QuarantineRow)
    ]
    return sa.select(*columns).select_from(JOINED)


def _columns_of(table: sa.Table, kind: type) -> list[sa.Column[Any]]:
    return [table.c[field.name] for field in fields(kind)]
