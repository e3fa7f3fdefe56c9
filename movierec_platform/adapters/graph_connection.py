"""A connection to the graph over Bolt: reads and writes are transactions, and the driver's errors become ours.

Writes are explicit transactions, atomic and durable when they return, retried on transient errors for up to 30 s.
A reader sees committed data. Failures are GraphUnavailable, GraphConflict where others wrote the same for all of that
time, and UsageError when the graph refuses the credentials.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import neo4j
from neo4j.exceptions import AuthError, ConstraintError, DriverError, Neo4jError, TransientError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from typing_extensions import LiteralString, Self

from movierec_platform.config import Settings
from movierec_platform.errors import GraphConflict, GraphUnavailable, NoStack, UsageError

CONNECT_TIMEOUT_S = 3.0
RETRY_S = 30.0
CONFLICTS = ("Deadlock", "Lock", "Outdated")
"""In the codes of errors that another writer caused. ArcadeDB has the first for all of them, and hides its reasons."""
REFUSED = "the graph refuses NEO4J_USER and NEO4J_PASSWORD: set those of this database"

Result = TypeVar("Result")


class Connection:
    """One graph database. Thread-safe; connects at first use. `with Connection.open(settings) as graph:` closes it."""

    def __init__(self, driver: neo4j.Driver, database: str) -> None:
        self._driver = driver
        self._database = database

    @classmethod
    def open(cls, settings: Settings, retry_s: float = RETRY_S) -> Self:
        """The graph that the settings name; `retry_s` bounds the retries of a transaction. Raises NoStack for none."""
        if not settings.neo4j_uri:
            raise NoStack("NEO4J_URI is not set: start the stack with `movierec up`, or set it in .env")
        with _errors():
            driver = neo4j.GraphDatabase.driver(
                settings.neo4j_uri,
                auth=(settings.neo4j_user, settings.neo4j_password.get_secret_value()),
                connection_timeout=CONNECT_TIMEOUT_S,
                connection_acquisition_timeout=2 * CONNECT_TIMEOUT_S,
                max_transaction_retry_time=retry_s,
                notifications_min_severity="OFF",
                telemetry_disabled=True,
            )
        return cls(driver, settings.neo4j_database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._driver.close()

    def ping(self) -> None:
        """Nothing, if the graph answers."""
        self._read("RETURN 1")

    def _count(self, statement: LiteralString, **parameters: Any) -> int:
        count: int = self._read(statement, **parameters)[0][0]
        return count

    def _read(self, statement: LiteralString, **parameters: Any) -> list[list[Any]]:
        return self._read_by(run, statement, **parameters)

    def _read_by(self, work: Callable[..., Result], *arguments: Any, **parameters: Any) -> Result:
        """What `work(transaction, ...)` returns."""
        with _errors(), self._driver.session(database=self._database) as session:
            return session.execute_read(work, *arguments, **parameters)

    def _write(self, work: Callable[..., Result], *arguments: Any, **parameters: Any) -> Result:
        """What `work(transaction, ...)` returns, once durable. Two MERGEs of a node can meet in a ConstraintError."""
        retry = Retrying(
            retry=retry_if_exception_type(ConstraintError),
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            reraise=True,
        )
        with _errors(), _conflicts(), self._driver.session(database=self._database) as session:
            result: Result = retry(session.execute_write, work, *arguments, **parameters)
            return result


def run(transaction: neo4j.ManagedTransaction, statement: LiteralString, /, **parameters: Any) -> list[list[Any]]:
    """The rows that the statement returns."""
    return [row.values() for row in transaction.run(statement, parameters)]


@contextmanager
def _conflicts() -> Iterator[None]:
    """A write that lost to others again and again says that, not that the graph does not answer."""
    try:
        yield
    except (ConstraintError, TransientError) as error:
        if isinstance(error, TransientError) and not any(word in (error.code or "") for word in CONFLICTS):
            raise
        raise GraphConflict(
            f"others write the same part of the graph ({error.code}), and this did not get its turn: try again when "
            "they are through"
        ) from error


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except AuthError as error:
        raise UsageError(REFUSED) from error
    except (Neo4jError, DriverError) as error:
        raise GraphUnavailable(f"the graph does not answer: {error}") from error
