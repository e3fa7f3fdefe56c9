"""The state database's schema, by alembic: a file in `versions/` for each change, and the row that says which is there.

A deploy has two releases at work on one database. So a change leaves whatever the release before it reads and writes:
columns are added (nullable, or with a default) and only the release after stops keeping the old ones. The row stands in
a table of our own name, as Dagster's storage, which may be in the same Postgres database, has alembic's usual one.
"""

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError

HEAD = "0003"
"""The latest change: what this release works with."""
VERSION_TABLE = "state_version"
_VERSION = "SELECT version_num FROM state_version"


def ensure_schema(engine: sa.Engine) -> None:
    """The database has the tables of this release; many may ask at once, and one of them makes or changes them.

    Where they are there it is one query. Raises NewerSchema when a newer release has changed them, SQLAlchemyError when
    the database does not answer.
    """
    with engine.connect() as connection:
        if schema_version(connection) == HEAD:
            return
    # Importing alembic takes half a second: only for a database that is not up to date.
    from movierec_platform.adapters.migrations.upgrade import upgrade

    with engine.begin() as connection:
        upgrade(connection)


def schema_version(connection: sa.Connection) -> str | None:
    """The latest change that the database has; None before the first. It may end the transaction."""
    try:
        version: str | None = connection.exec_driver_sql(_VERSION).scalar()
    except (OperationalError, ProgrammingError):  # there is no such table; whatever else it was is met again
        return None
    return version
