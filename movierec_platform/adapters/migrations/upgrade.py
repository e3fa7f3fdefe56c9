"""Carries out the changes that a state database lacks, in one transaction."""

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from movierec_platform.adapters.migrations import VERSION_TABLE, schema_version
from movierec_platform.errors import NewerSchema

_LOCK = int.from_bytes(b"movierec", "big")
_one_at_a_time = threading.Lock()
"""While alembic works, its module `context` stands for one database."""


def upgrade(connection: sa.Connection) -> None:
    """The database has every change; `connection` is in a transaction in which nothing was done yet.

    Raises NewerSchema, and changes nothing, if it has one that this release does not know.
    """
    with _one_at_a_time:
        _upgrade(connection)


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a change of a large table may take its time
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    config = migrations(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if sa.inspect(connection).has_table(VERSION_TABLE):
        version = schema_version(connection)
        if version is not None and version not in known:
            raise NewerSchema(
                f"the state database was changed by a newer release (its schema is {version}, this release knows up to "
                f"{max(known)}): run that release, or restore a backup from before it"
            )
    command.upgrade(config, "head")


def migrations(connection: sa.Connection) -> Config:
    """What alembic's commands are given, to work on this connection."""
    config = Config(attributes={"connection": connection})
    # Alembic reads % in it as the beginning of a variable.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
