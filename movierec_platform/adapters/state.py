"""The state database: quarantine, durable counters and marks. SQLite (WAL, synchronous FULL) or Postgres, by URL.

Every method is one transaction, durable when it returns. A writer waits up to 30 s for another. Failures are
StateUnavailable.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from movierec_platform.config import Settings
from movierec_platform.domain.freshness import CounterKey, Labels
from movierec_platform.errors import StateUnavailable

BUSY_TIMEOUT_S = 30
FORGOTTEN_MARK = "tallies_forgotten_before_ms"
_CREATING = int.from_bytes(b"movierec", "big")

_metadata = sa.MetaData()

_counters = sa.Table(
    "counters",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("labels", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)
_tallied = sa.Table(
    "tallied",
    _metadata,
    sa.Column("stage", sa.String, primary_key=True),
    sa.Column("raw_key", sa.String, primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("received_at_ms", sa.BigInteger, nullable=False, index=True),
)
_marks = sa.Table(
    "marks",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
_quarantine = sa.Table(
    "quarantine",
    _metadata,
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


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """One rejected event, as it was received, and why. `raw_key` and `line` say where it was landed, if it was."""

    id: str
    reason_code: str
    field: str | None
    detail: str
    body: str
    raw_key: str | None
    line: int | None
    received_at_ms: int | None
    quarantined_at_ms: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What one message adds to the counters at one stage of its way; `line` is that of its first event.

    Stage, raw object and line name it: a message that is worked on again, or replayed, has the same tally.
    """

    stage: str
    raw_key: str
    line: int
    received_at_ms: int
    counts: Mapping[CounterKey, float]


class State:
    """One state database; thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

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
            create_missing(connection, _metadata)
        return state

    def close(self) -> None:
        self._engine.dispose()

    # Counters

    def add(self, counts: Mapping[CounterKey, float]) -> None:
        """Each counter is greater by its count; one that was not there starts at it."""
        with self._transaction() as connection:
            self._add(connection, counts)

    def add_once(self, tallies: Iterable[Tally]) -> None:
        """The counters have each tally once, however often it is given.

        One that was received before `forget_tallies` is taken for counted: by then everything was through.
        """
        given = {(tally.stage, tally.raw_key, tally.line): tally for tally in tallies}
        if not given:
            return
        names = (_tallied.c.stage, _tallied.c.raw_key, _tallied.c.line)
        insert: Any = self._insert(_tallied).on_conflict_do_nothing().returning(*names)
        with self._transaction() as connection:
            forgotten_ms = _marked(connection, FORGOTTEN_MARK) or 0
            rows = [
                {"stage": one.stage, "raw_key": one.raw_key, "line": one.line, "received_at_ms": one.received_at_ms}
                for one in given.values()
                if one.received_at_ms >= forgotten_ms
            ]
            counts: Counter[CounterKey] = Counter()
            for name in connection.execute(insert, rows) if rows else ():
                counts.update(given[tuple(name)].counts)
            self._add(connection, counts)

    def forget_tallies(self, before_ms: int) -> None:
        """Tallies received before then are no longer kept. Only for what is known to be through, and counted."""
        with self._transaction() as connection:
            self._mark(connection, FORGOTTEN_MARK, before_ms)
            connection.execute(sa.delete(_tallied).where(_tallied.c.received_at_ms < before_ms))

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
        with self._transaction() as connection:
            self._mark(connection, name, value)

    def marked(self, name: str) -> int | None:
        """The mark's value; None when it was never set."""
        with self._transaction() as connection:
            return _marked(connection, name)

    def _mark(self, connection: sa.Connection, name: str, value: int) -> None:
        insert: Any = self._insert(_marks).values(name=name, value=value)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    # Quarantine

    def quarantine(self, rows: Sequence[QuarantineRow]) -> list[QuarantineRow]:
        """These rows are held; returns those that were not held before."""
        if not rows:
            return []
        insert: Any = self._insert(_quarantine).on_conflict_do_nothing(index_elements=["id"])
        unique = {row.id: row for row in rows}
        with self._transaction() as connection:
            added = connection.execute(
                insert.returning(_quarantine.c.id), [asdict(row) for row in unique.values()]
            ).scalars()
            return [unique[row_id] for row_id in added]

    def quarantined(
        self, reason: str | None = None, since_ms: int | None = None, limit: int = 100
    ) -> list[QuarantineRow]:
        """Held rows, the latest first; `since_ms` is the earliest time received."""
        query = sa.select(*_row_columns()).order_by(_quarantine.c.quarantined_at_ms.desc(), _quarantine.c.id)
        if reason is not None:
            query = query.where(_quarantine.c.reason_code == reason)
        if since_ms is not None:
            query = query.where(_quarantine.c.received_at_ms >= since_ms)
        with self._transaction() as connection:
            return [QuarantineRow(*row) for row in connection.execute(query.limit(limit))]

    def quarantined_row(self, row_id: str) -> QuarantineRow | None:
        """The row whose id starts with this, if exactly one does."""
        query = sa.select(*_row_columns()).where(_quarantine.c.id.startswith(row_id, autoescape=True)).limit(2)
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return QuarantineRow(*rows[0]) if len(rows) == 1 else None

    def quarantined_by_reason(self) -> dict[str, int]:
        """How many rows are held for each reason."""
        query = sa.select(_quarantine.c.reason_code, sa.func.count()).group_by(_quarantine.c.reason_code)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(_quarantine.c.reason_code)).all()
        return {row[0]: row[1] for row in rows}

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StateUnavailable(f"the state database does not answer: {error}") from error


def _marked(connection: sa.Connection, name: str) -> int | None:
    value: int | None = connection.execute(sa.select(_marks.c.value).where(_marks.c.name == name)).scalar()
    return value


def create_missing(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """These tables and their indexes are there; to be called in a transaction."""
    if connection.dialect.name == "postgresql":
        # There IF NOT EXISTS fails for one of two that create at the same time.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING)))
    for table in metadata.sorted_tables:
        connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))


def _row_columns() -> list[sa.Column[Any]]:
    return [_quarantine.c[field.name] for field in fields(QuarantineRow)]


def _configure_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_S * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _labels_text(labels: Labels) -> str:
    return ",".join(f"{name}={value}" for name, value in labels)


def _labels_of(text: str) -> Labels:
    return tuple((name, value) for name, _, value in (pair.partition("=") for pair in text.split(",") if pair))
