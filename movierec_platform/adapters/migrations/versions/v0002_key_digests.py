"""API keys have a fast digest beside the slow hash; those that are there learn theirs when they are next used."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("digest", sa.LargeBinary))
