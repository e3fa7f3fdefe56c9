"""The tables as they were before changes were counted, made where they are missing, and every refused event held.

Databases of that time have some or all of them; the first had refused events without a standing.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from movierec_platform.domain.quarantine import user_id_in

revision = "0001"
down_revision = None

CHUNK_ROWS = 1_000


def upgrade() -> None:
    _make_counters()
    _make_quarantine()
    _make_keys_and_leases()
    _adopt()


def _make_counters() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("labels", sa.String, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "tallied",
        sa.Column("stage", sa.String, primary_key=True),
        sa.Column("raw_key", sa.String, primary_key=True),
        sa.Column("line", sa.Integer, primary_key=True),
        sa.Column("received_at_ms", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    _index("ix_tallied_received_at_ms", "tallied", "received_at_ms")
    op.create_table(
        "marks",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )


def _make_quarantine() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("reason_code", sa.String, nullable=False),
        sa.Column("field", sa.String),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("raw_key", sa.String),
        sa.Column("line", sa.Integer),
        sa.Column("received_at_ms", sa.BigInteger),
        sa.Column("quarantined_at_ms", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    _index("ix_quarantine_reason_code", "quarantine", "reason_code")
    _index("ix_quarantine_received_at_ms", "quarantine", "received_at_ms")
    op.create_table(
        "quarantine_standing",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason_code", sa.String, nullable=False),
        sa.Column("field", sa.String),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("received_at_ms", sa.BigInteger),
        sa.Column("quarantined_at_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("redrive_key", sa.String),
        sa.Column("redrive_line", sa.Integer),
        sa.Column("redrive_at_ms", sa.BigInteger),
        if_not_exists=True,
    )
    _index("ix_quarantine_standing_user_id", "quarantine_standing", "user_id")
    _index("ix_quarantine_standing_status_reason", "quarantine_standing", "status", "reason_code")
    _index("ix_quarantine_standing_status_id", "quarantine_standing", "status", "id")
    _index("ix_quarantine_standing_latest", "quarantine_standing", "quarantined_at_ms", "id")
    _index("ix_quarantine_standing_redrive", "quarantine_standing", "redrive_key", "status")
    op.create_table(
        "quarantine_acts",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("row_id", sa.String, nullable=False),
        sa.Column("act", sa.String, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("reason_code", sa.String, nullable=False),
        sa.Column("detail", sa.String),
        sa.Column("body", sa.Text),
        sa.Column("raw_key", sa.String),
        sa.Column("line", sa.Integer),
        if_not_exists=True,
    )
    _index("ix_quarantine_acts_row_id", "quarantine_acts", "row_id")
    _index("ix_quarantine_acts_landed", "quarantine_acts", "raw_key", "line")


def _make_keys_and_leases() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("scopes", sa.String, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger),
        sa.Column("revoked_at_ms", sa.BigInteger),
        sa.Column("last_used_on", sa.String),
        if_not_exists=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("last_work_s", sa.Double, nullable=False),
        sa.Column("released_at_s", sa.Double),
        if_not_exists=True,
    )


def _index(name: str, table: str, *columns: str) -> None:
    op.create_index(name, table, columns, if_not_exists=True)


def _adopt() -> None:
    """Refused events without a standing are held, without any attempt. They were counted when they came."""
    tables = sa.MetaData()
    first, standing, acts = (
        sa.Table(name, tables, autoload_with=op.get_bind())
        for name in ("quarantine", "quarantine_standing", "quarantine_acts")
    )
    query = sa.select(first).where(~sa.exists().where(standing.c.id == first.c.id)).limit(CHUNK_ROWS)
    while rows := op.get_bind().execute(query).mappings().all():
        op.bulk_insert(standing, [_held(row) for row in rows])
        op.bulk_insert(acts, [_act(row) for row in rows])


def _held(row: Any) -> dict[str, Any]:
    copied = ("id", "reason_code", "field", "detail", "received_at_ms", "quarantined_at_ms")
    return {**{name: row[name] for name in copied}, "status": "held", "attempts": 0, "user_id": user_id_in(row["body"])}


def _act(row: Any) -> dict[str, Any]:
    act = {"row_id": row["id"], "act": "held", "at_ms": row["quarantined_at_ms"], "actor": "adopted", "attempt": 0}
    return {**act, "reason_code": row["reason_code"], "detail": row["detail"]}
