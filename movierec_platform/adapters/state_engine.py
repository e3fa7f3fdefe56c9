"""The state database's engine: SQLite (WAL, synchronous FULL), or Postgres with a limit on everything that may hang.

On Postgres a connect has CONNECT_TIMEOUT_S, a place in the pool POOL_TIMEOUT_S, a statement STATEMENT_TIMEOUT_S at the
server, and `cut_off_late` ends a transaction whose server, or what is between, has stopped answering.
"""

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 3
POOL_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 20
TRANSACTION_TIMEOUT_S = 30.0
"""Above a statement's: what the server ends by itself it also explains."""


def open_engine(url: sa.URL) -> sa.Engine:
    """The engine of this database; nothing is connected yet."""
    if url.get_backend_name() == "postgresql":
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s"
        given = url.query.get("options", "")
        return sa.create_engine(
            url,
            hide_parameters=True,
            pool_timeout=POOL_TIMEOUT_S,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": f"{given} {options}" if given else options,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
            },
        )
    engine = sa.create_engine(url, hide_parameters=True)
    sa.event.listen(engine, "connect", _configure_sqlite)
    return engine


@contextlib.contextmanager
def cut_off_late(connection: sa.Connection, timeout_s: float) -> Iterator[None]:
    """What is done on a Postgres connection inside fails once it takes longer: libpq itself waits for ever."""
    driven: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql" or driven is None:
        yield
        return
    # A descriptor of our own: the connection's may be closed, and be another's, by the time that the timer ends.
    with socket.socket(fileno=os.dup(driven.fileno())) as wire:
        timer = threading.Timer(timeout_s, _shut, [wire])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut(wire: socket.socket) -> None:
    """Whoever waits for it finds its end."""
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)


def _configure_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    # The change to WAL, once in a database's life, does not wait for others that open it: it fails at once.
    for attempt in Retrying(
        retry=retry_if_exception_type(sqlite3.OperationalError),
        wait=wait_random(0.01, 0.05),
        stop=stop_after_delay(BUSY_TIMEOUT_S),
        reraise=True,
    ):
        with attempt:
            cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
