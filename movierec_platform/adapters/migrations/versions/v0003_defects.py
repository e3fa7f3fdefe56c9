"""How often the work on a message has met a defect."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "defects",
        sa.Column("queue", sa.String, primary_key=True),
        sa.Column("message_id", sa.String, primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("sent_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_defects_sent_at_ms", "defects", ("sent_at_ms",))
