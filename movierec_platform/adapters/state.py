"""The state database: quarantine, defects, API keys, counters, marks. SQLite (WAL, synchronous FULL) or Postgres.

Every method is one transaction, durable when it returns. A writer waits for another, up to 30 s (Postgres: 20 s).
Failures are StateUnavailable; `state_engine` has the limits.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from movierec_platform.adapters.defects import DefectsTable
from movierec_platform.adapters.keys import KeysTable
from movierec_platform.adapters.migrations import ensure_schema
from movierec_platform.adapters.quarantine import QuarantineTable
from movierec_platform.adapters.state_engine import TRANSACTION_TIMEOUT_S, cut_off_late, open_engine
from movierec_platform.config import Settings
from movierec_platform.domain.freshness import CounterKey, Labels
from movierec_platform.errors import StateUnavailable

FORGOTTEN_MARK = "tallies_forgotten_before_ms"
_SET_ASIDE_MARK = "set_aside_objects"
_DRIFT_MARK = "parity_drift_pairs"
_COMPARED_MARK = "parity_compared_at_ms"

metadata = sa.MetaData()

_counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("labels", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)
_tallied = sa.Table(
    "tallied",
    metadata,
    sa.Column("stage", sa.String, primary_key=True),
    sa.Column("raw_key", sa.String, primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("received_at_ms", sa.BigInteger, nullable=False, index=True),
)
_marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)


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


@dataclass(frozen=True, slots=True)
class Drift:
    """How many pairs differed between graph and lake when they were compared."""

    pairs: int
    compared_at_ms: int


class State:
    """One state database; thread-safe."""

    def __init__(self, engine: sa.Engine, timeout_s: float = TRANSACTION_TIMEOUT_S) -> None:
        """`timeout_s` is for a transaction on Postgres."""
        self._engine = engine
        self._timeout_s = timeout_s
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self.keys = KeysTable(self.turn)
        self.quarantine = QuarantineTable(self.turn, self._insert, self._add)
        self.defects = DefectsTable(self.turn, self._insert)

    @classmethod
    def open(cls, settings: Settings) -> "State":
        """The database that the settings name, with the tables of this release.

        Raises NewerSchema, besides StateUnavailable, when a newer release has changed them.
        """
        url = sa.make_url(settings.state_database_url)
        if url.get_backend_name() == "sqlite" and url.database:
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = open_engine(url)
        with _answering():
            ensure_schema(engine)
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def ping(self) -> None:
        """Raises StateUnavailable if the database does not answer."""
        with self._transaction() as connection:
            connection.execute(sa.select(1))

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
            for stage in {tally.stage for tally in given.values()}:
                latest_ms = max(tally.received_at_ms for tally in given.values() if tally.stage == stage)
                if latest_ms > (_marked(connection, _worked_until(stage)) or 0):
                    self._mark(connection, _worked_until(stage), latest_ms)

    def worked_until_ms(self, stage: str) -> int | None:
        """When the latest event that this stage has worked on was received; None before the first."""
        return self.marked(_worked_until(stage))

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

    def note_drift(self, drift: Drift) -> None:
        """This is the latest comparison of graph and lake."""
        with self._transaction() as connection:
            self._mark(connection, _DRIFT_MARK, drift.pairs)
            self._mark(connection, _COMPARED_MARK, drift.compared_at_ms)

    def drift(self) -> Drift | None:
        """The latest comparison; None before the first."""
        with self._transaction() as connection:
            pairs, compared_at_ms = _marked(connection, _DRIFT_MARK), _marked(connection, _COMPARED_MARK)
        return None if pairs is None or compared_at_ms is None else Drift(pairs, compared_at_ms)

    def note_set_aside(self, objects: int) -> None:
        """So many raw objects could not be read."""
        self.mark(_SET_ASIDE_MARK, objects)

    def set_aside(self) -> int | None:
        """How many raw objects could not be read when that was looked at last; None before the first time."""
        return self.marked(_SET_ASIDE_MARK)

    def _mark(self, connection: sa.Connection, name: str, value: int) -> None:
        insert: Any = self._insert(_marks).values(name=name, value=value)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    @contextmanager
    def turn(self, table: sa.Table | None = None) -> Iterator[sa.Connection]:
        """A transaction; with a table, one that no other turn at that table overlaps."""
        with self._transaction() as connection:
            if table is not None and connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif table is not None:
                connection.exec_driver_sql(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE")
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with (
            _answering(),
            self._engine.connect() as connection,
            cut_off_late(connection, self._timeout_s),
            connection.begin(),
        ):
            yield connection


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        # Without the statement and the web address that SQLAlchemy adds.
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise StateUnavailable(f"the state database does not answer: {cause}") from error


def _worked_until(stage: str) -> str:
    return f"{stage}_worked_until_ms"


def _marked(connection: sa.Connection, name: str) -> int | None:
    value: int | None = connection.execute(sa.select(_marks.c.value).where(_marks.c.name == name)).scalar()
    return value


def _labels_text(labels: Labels) -> str:
    return ",".join(f"{name}={value}" for name, value in labels)


def _labels_of(text: str) -> Labels:
    return tuple((name, value) for name, _, value in (pair.partition("=") for pair in text.split(",") if pair))
