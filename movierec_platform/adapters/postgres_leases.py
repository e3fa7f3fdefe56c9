"""Leases between drain runs on any number of hosts: session-level advisory locks of the Postgres that holds the state.

Postgres frees the lock when the connection that took it ends: at once when its holder's process dies, within half a
minute when the holder's host or the network does. The table `leases` tells who holds it; all times in it are of the
database's clock. The connection must lead to one server process for as long as it lasts: no transaction pooler between.
A statement has 10 s, and so has a connect; an unreachable database is StateUnavailable.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from movierec_platform.adapters.leases import POLL_S
from movierec_platform.adapters.migrations import ensure_schema
from movierec_platform.domain.drains import FREE, LeaseView
from movierec_platform.errors import LeaseHeld, LeaseLost, StateUnavailable

TIMEOUT_S = 10
CONNECT_ARGUMENTS = {
    "connect_timeout": TIMEOUT_S,
    # Without these a holder whose database went away with its host would believe for hours that it holds the lease.
    "keepalives_idle": TIMEOUT_S,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": TIMEOUT_S * 1000,
}

metadata = sa.MetaData()
_leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("last_work_s", sa.Double, nullable=False),
    sa.Column("released_at_s", sa.Double),
)
_now_s = sa.extract("epoch", sa.func.clock_timestamp())


class PostgresLease:
    """A lease between all processes that use one database."""

    def __init__(self, database_url: str, queue: str, slot: int) -> None:
        self._name = f"{queue}-{slot}"
        self._key, self._wish_key = _key_of(self._name), _key_of(f"{self._name} wanted")
        self._engine = sa.create_engine(
            database_url,
            hide_parameters=True,
            poolclass=sa.NullPool,  # a pooled connection would keep the lock of a lease that was given back
            isolation_level="AUTOCOMMIT",
            connect_args=CONNECT_ARGUMENTS,
        )
        self._holding: sa.Connection | None = None
        self._owner = ""

    @contextmanager
    def held(self, owner: str, timeout_s: float) -> Iterator[None]:
        with self._connected(f"movierec {self._name} {owner}") as connection:
            with self._answering():
                ensure_schema(self._engine.execution_options(isolation_level="READ COMMITTED"))
                self._wait(connection, timeout_s)
                self._take(connection, owner)
            self._holding, self._owner = connection, owner
            try:
                yield
            finally:
                if self._holding is not None:
                    self._give_back(connection)

    def is_wanted(self) -> bool:
        with self._losing() as connection:
            return bool(connection.scalar(sa.select(_is_locked(self._wish_key))))

    def note_work(self) -> None:
        with self._losing() as connection:
            # It runs on the connection that has the lock: if it is carried out, so is the lock still there.
            noted = connection.execute(
                sa.update(_leases)
                .where(_leases.c.name == self._name, _leases.c.holder == self._owner)
                .values(last_work_s=_now_s)
            )
            if not noted.rowcount:
                raise LeaseLost(f"lease {self._name} is another run's now")

    def view(self) -> LeaseView:
        row_of = sa.select(_leases).where(_leases.c.name == self._name)
        with self._connected(f"movierec {self._name} view") as connection, self._answering():
            if not sa.inspect(connection).has_table(_leases.name):
                return FREE
            # The row before and after the lock: a lease that is taken or given back meanwhile is not taken for lost.
            before = connection.execute(row_of).one_or_none()
            locked = connection.scalar(sa.select(_is_locked(self._key)))
            row = connection.execute(row_of).one_or_none()
        if row is None:
            return FREE
        if row.released_at_s is not None and not locked:
            return LeaseView(None, row.last_work_s, released_by=row.holder, released_at_s=row.released_at_s)
        if locked or before is None or (before.holder, before.released_at_s) != (row.holder, None):
            return LeaseView(row.holder, row.last_work_s)
        return LeaseView(None, row.last_work_s, lost_by=row.holder)

    def _wait(self, connection: sa.Connection, timeout_s: float) -> None:
        """The lock is taken. Polled: a call that waits in the server could not be interrupted to cancel the run.

        Meanwhile a shared lock of another key tells the holder that somebody waits; it ends with the connection.
        """
        deadline = time.monotonic() + timeout_s
        connection.scalar(sa.select(sa.func.pg_advisory_lock_shared(self._wish_key)))
        while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(self._key))):
            if time.monotonic() >= deadline:
                raise LeaseHeld(f"lease {self._name} was held by another run for {timeout_s:g} s")
            time.sleep(POLL_S)
        connection.scalar(sa.select(sa.func.pg_advisory_unlock_shared(self._wish_key)))

    def _take(self, connection: sa.Connection, owner: str) -> None:
        taken: dict[str, Any] = {"holder": owner, "last_work_s": _now_s, "released_at_s": None}
        insert = postgresql.insert(_leases).values(name=self._name, **taken)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=taken))

    def _give_back(self, connection: sa.Connection) -> None:
        with self._losing():
            connection.execute(sa.update(_leases).where(_leases.c.name == self._name).values(released_at_s=_now_s))
            connection.scalar(sa.select(sa.func.pg_advisory_unlock(self._key)))
        self._holding = None

    @contextmanager
    def _losing(self) -> Iterator[sa.Connection]:
        """The holder's connection; a failure on it is LeaseLost, now and in all calls after it."""
        connection = self._holding
        if connection is None:
            raise LeaseLost(f"lease {self._name} is not held by this run")
        try:
            yield connection
        except (SQLAlchemyError, LeaseLost) as error:
            # Forgotten at once: SQLAlchemy would connect anew, without the lock, for the next statement.
            self._holding = None
            if isinstance(error, LeaseLost):
                raise
            raise LeaseLost(f"lease {self._name} was lost with its connection: {error}") from error

    @contextmanager
    def _connected(self, application_name: str) -> Iterator[sa.Connection]:
        """A connection of its own."""
        with self._answering():
            connection = self._engine.connect()
        try:
            with self._answering():
                for name, value in _session_settings(application_name).items():
                    connection.scalar(sa.select(sa.func.set_config(name, value, False)))
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StateUnavailable(f"the state database, which holds the leases, does not answer: {error}") from error


def _session_settings(application_name: str) -> dict[str, str]:
    return {
        "application_name": application_name,
        "statement_timeout": f"{TIMEOUT_S}s",
        # What is noted with each batch need not survive a crash: the lock does not either.
        "synchronous_commit": "off",
        # The server frees the lock of a host that fell silent.
        "tcp_keepalives_idle": str(TIMEOUT_S),
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }


def _key_of(name: str) -> int:
    """The lock's 64 bits. Postgres keeps the locks of each database apart."""
    digest = hashlib.blake2b(f"movierec lease {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _is_locked(key: int) -> sa.Exists:
    """Whether somebody in this database holds the lock of this key; it is looked at, not tried."""
    locks = sa.table("pg_locks", *map(sa.column, ("locktype", "database", "classid", "objid", "objsubid", "granted")))
    databases = sa.table("pg_database", sa.column("oid"), sa.column("datname"))
    here = sa.select(databases.c.oid).where(databases.c.datname == sa.func.current_database()).scalar_subquery()
    return sa.exists().where(
        locks.c.locktype == "advisory",
        locks.c.database == here,
        locks.c.classid == sa.cast(str(key >> 32 & 0xFFFF_FFFF), postgresql.OID),
        locks.c.objid == sa.cast(str(key & 0xFFFF_FFFF), postgresql.OID),
        locks.c.objsubid == 1,  # a key of one 64-bit number
        locks.c.granted,
    )
