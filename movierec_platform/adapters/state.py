"""The state database: quarantine, durable counters and marks. SQLite (WAL, synchronous FULL) or Postgres, by URL.

Every method is one transaction, durable when it returns. A writer waits up to 30 s for another. Failures are
StateUnavailable.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from movierec_platform.adapters.quarantine import QuarantineTable
from movierec_platform.adapters.quarantine import metadata as quarantine_tables
from movierec_platform.config import Settings
from movierec_platform.domain.freshness import CounterKey, Labels
from movierec_platform.errors import StateUnavailable

BUSY_TIMEOUT_S = 30

_metadata = sa.MetaData()

_counters = sa.Table(
    "counters",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("labels", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)
_marks = sa.Table(
    "marks",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)


class State:
    """One state database; thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self.quarantine = QuarantineTable(self._turn, self._insert, self._add)

    @classmethod
    def open(cls, settings: Settings) -> "State":
        """The database that the settings name, with its tables made where they are missing."""
        url = sa.make_url(settings.state_database_url)
        if url.get_backend_name() == "sqlite" and url.database:
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = sa.create_engine(url, hide_parameters=True)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _configure_sqlite)
        state = cls(engine)
        with state._transaction() as connection:
            for table in (*_metadata.sorted_tables, *quarantine_tables.sorted_tables):
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
        state.quarantine.adopt()
        return state

    def close(self) -> None:
        self._engine.dispose()

    # Counters

    def add(self, counts: Mapping[CounterKey, float]) -> None:
        """Each counter is greater by its count; one that was not there starts at it."""
        with self._transaction() as connection:
            self._add(connection, counts)

    def _add(self, connection: sa.Connection, counts: Mapping[CounterKey, float]) -> None:
        rows = [
            {"name": name, "labels": _labels_text(labels), "value": float(count)}
            for (name, labels), count in sorted(counts.items())
            if count
        ]
        if not rows:
            return
        insert: Any = self._insert(_counters)
        upsert = insert.on_conflict_do_update(
            index_elements=["name", "labels"], set_={"value": _counters.c.value + insert.excluded.value}
        )
        connection.execute(upsert, rows)

    def counters(self) -> dict[CounterKey, float]:
        """Every counter's value."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_counters)).all()
        return {(row.name, _labels_of(row.labels)): row.value for row in rows}

    # Marks

    def mark(self, name: str, value: int) -> None:
        """The mark stands at this value."""
        insert: Any = self._insert(_marks).values(name=name, value=value)
        with self._transaction() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def marked(self, name: str) -> int | None:
        """The mark's value; None when it was never set."""
        with self._transaction() as connection:
            return connection.execute(sa.select(_marks.c.value).where(_marks.c.name == name)).scalar()

    @contextmanager
    def _turn(self, table: sa.Table | None) -> Iterator[sa.Connection]:
        """A transaction; with a table, one that no other turn at that table overlaps."""
        with self._transaction() as connection:
            if table is not None and connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif table is not None:
                connection.exec_driver_sql(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE")
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StateUnavailable(f"the state database does not answer: {error}") from error


def _configure_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_S * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _labels_text(labels: Labels) -> str:
    return ",".join(f"{name}={value}" for name, value in labels)


def _labels_of(text: str) -> Labels:
    return tuple((name, value) for name, _, value in (pair.partition("=") for pair in text.split(",") if pair))
