"""Refused events arrive in the quarantine: each is held once, and again if what its last redrive landed is refused."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from movierec_platform.adapters.quarantine_tables import (
    ACTS,
    FIRST,
    STANDING,
    act_row,
    add_acts,
    by_ids,
    counts,
    update_standings,
)
from movierec_platform.domain.freshness import CounterKey
from movierec_platform.domain.quarantine import POISON, user_id_in

CLOCK_SKEW_MS = 60_000
"""The clocks of SQS and of this machine are no further apart."""


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


def hold(
    connection: sa.Connection,
    insert: Callable[[sa.Table], Any],
    refusals: Sequence[Refusal],
    actor: str,
    now_ms: int,
) -> Counter[CounterKey]:
    """Each refused event is held, as `QuarantineTable.hold` says; returns what the durable counters gain."""
    first: dict[str, Refusal] = {}
    again: list[tuple[str, int | None, Refusal]] = []
    claims = _claims(connection, {one.raw_key for one in refusals if one.line is not None})
    for one in refusals:
        claim = claims.get((one.raw_key, one.line))
        if claim is None:
            first.setdefault(one.id, one)
        else:
            again.append((*claim, one))
    new = _hold_first(connection, insert, list(first.values()), actor, now_ms)
    again += [(one.id, None, one) for one in first.values() if one.reason_code == POISON and one.id not in new]
    held = Counter(first[row_id].reason_code for row_id in new)
    return counts("quarantined", held) + _hold_again(connection, again, actor, now_ms)


def _hold_first(
    connection: sa.Connection,
    insert: Callable[[sa.Table], Any],
    refusals: Sequence[Refusal],
    actor: str,
    now_ms: int,
) -> set[str]:
    """The ids of those that were not in the table; now they are."""
    if not refusals:
        return set()
    added = insert(FIRST).on_conflict_do_nothing(index_elements=["id"]).returning(FIRST.c.id)
    rows = {one.id: {**_first_refusal(one), "quarantined_at_ms": now_ms} for one in refusals}
    new = set(connection.execute(added, list(rows.values())).scalars())
    _stand(connection, [rows[row_id] for row_id in rows if row_id in new], actor)
    return new


def _stand(connection: sa.Connection, rows: Sequence[Mapping[Any, Any]], actor: str) -> None:
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
    connection.execute(sa.insert(STANDING), standings)
    acts = [
        act_row(row["id"], "held", row["quarantined_at_ms"], actor, 0, row["reason_code"], row["detail"])
        for row in rows
    ]
    add_acts(connection, acts)


def _hold_again(
    connection: sa.Connection, refusals: Sequence[tuple[str, int | None, Refusal]], actor: str, now_ms: int
) -> Counter[CounterKey]:
    """(row id, the attempt that was refused, the refusal): rows whose last attempt it was are held again.

    Returns what the durable counters gain.

    Nothing in a whole message says which attempt it was: for those it is None, and the time it was sent decides.
    """
    names = (STANDING.c.id, STANDING.c.status, STANDING.c.attempts, STANDING.c.reason_code)
    query = sa.select(*names, STANDING.c.redrive_at_ms).where(STANDING.c.status.in_(("redriving", "redriven")))
    rows = {row.id: row for row in by_ids(connection, query, {row_id for row_id, _, _ in refusals})}
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
            acts.append(act_row(row_id, "redriven", now_ms, actor, row.attempts, row.reason_code))
            redriven[row.reason_code] += 1
        acts.append(
            act_row(row_id, "refused again", now_ms, actor, row.attempts, one.reason_code, one.detail, one.body)
        )
        held[one.reason_code] += 1
    update_standings(connection, updates)
    add_acts(connection, acts)
    return counts("redriven", redriven) + counts("quarantined", held)


def _claims(
    connection: sa.Connection, raw_keys: Iterable[str | None]
) -> dict[tuple[str | None, int | None], tuple[str, int]]:
    """(row id, attempt) by the raw key and line that a redrive claimed for it."""
    columns = (ACTS.c.raw_key, ACTS.c.line, ACTS.c.row_id, ACTS.c.attempt)
    rows = by_ids(connection, sa.select(*columns), raw_keys, ACTS.c.raw_key)
    return {(row.raw_key, row.line): (row.row_id, row.attempt) for row in rows}


def _first_refusal(one: Refusal) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "sent_at_ms"}
