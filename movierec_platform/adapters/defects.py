"""How often the work on a message has met a defect, in the state database: SQS also counts receives that outages cost.

An attempt is counted before it begins, so that one which kills its process counts too; one that a dependency's outage
ended is taken back. Every method is one transaction.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

_defects = sa.Table(
    "defects",
    metadata,
    sa.Column("queue", sa.String, primary_key=True),
    sa.Column("message_id", sa.String, primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("sent_at_ms", sa.BigInteger, nullable=False, index=True),
)

Turn = Callable[[sa.Table | None], AbstractContextManager[sa.Connection]]


class DefectsTable:
    """The attempts on messages of one state database; thread-safe. `insert` makes its own insert."""

    def __init__(self, turn: Turn, insert: Callable[[sa.Table], Any]) -> None:
        self._turn = turn
        self._insert = insert

    def begin(self, queue: str, message_id: str, sent_at_ms: int) -> int:
        """One attempt more is counted; returns how many there are, with this one."""
        row = {"queue": queue, "message_id": message_id, "attempts": 1, "sent_at_ms": sent_at_ms}
        upsert = self._insert(_defects).on_conflict_do_update(
            index_elements=["queue", "message_id"], set_={"attempts": _defects.c.attempts + 1}
        )
        with self._turn(None) as connection:
            attempts: int = connection.execute(upsert.values(row).returning(_defects.c.attempts)).scalar_one()
        return attempts

    def take_back(self, queue: str, message_id: str) -> None:
        """The last attempt did not fail by a defect."""
        with self._turn(None) as connection:
            connection.execute(
                sa.update(_defects).where(_is(queue, message_id)).values(attempts=_defects.c.attempts - 1)
            )

    def forget(self, queue: str, message_id: str) -> None:
        """The message is done."""
        with self._turn(None) as connection:
            connection.execute(sa.delete(_defects).where(_is(queue, message_id)))

    def forget_before(self, sent_at_ms: int) -> None:
        """Messages sent before then are in no queue any more."""
        with self._turn(None) as connection:
            connection.execute(sa.delete(_defects).where(_defects.c.sent_at_ms < sent_at_ms))


def _is(queue: str, message_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(_defects.c.queue == queue, _defects.c.message_id == message_id)
