"""A database in one file: a consistent copy, taken while others write, and put back in one transaction.

SQLite by its online backup; Postgres by pg_dump and pg_restore, which have to be installed, and no older than the
server. A password goes to them in the environment, which only their user sees. Failures are StateUnavailable.
"""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from movierec_platform.config import inherited_environment
from movierec_platform.errors import StateUnavailable, UsageError

BUSY_TIMEOUT_S = 30
DEBIAN = Path("/usr/lib/postgresql")


def dump(url: str, file: Path) -> None:
    """The file holds what the database (SQLAlchemy URL) held at one moment; it must not be there yet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        _copy(Path(str(parsed.database)), file)
        with closing(sqlite3.connect(file)) as copied:
            copied.execute("PRAGMA journal_mode=DELETE")  # a file that is only read has nothing beside it
    else:
        _run("pg_dump", parsed, "--format=custom", "--no-owner", "--no-privileges", f"--file={file}")


def load(url: str, file: Path) -> None:
    """The database has the tables of the dump, as they were; others that it has stay."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(file, path)
    else:
        options = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction")
        _run("pg_restore", parsed, *options, str(file))


def counted(url: str, tables: Iterable[str]) -> dict[str, int]:
    """How many rows each of these tables has, of those that have any; nothing of a database that is not there."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        return {}
    engine = sa.create_engine(parsed, hide_parameters=True, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            there = set(sa.inspect(connection).get_table_names())
            counts = {
                name: int(connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name))) or 0)
                for name in tables
                if name in there
            }
    except SQLAlchemyError as error:
        raise StateUnavailable(f"{_shown(parsed)} does not answer: {error}") from error
    return {name: count for name, count in counts.items() if count}


def _copy(source: Path, target: Path) -> None:
    try:
        with (
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
            ) as origin,
            closing(sqlite3.connect(target, timeout=BUSY_TIMEOUT_S)) as copy,
        ):
            origin.backup(copy)
    except sqlite3.Error as error:
        raise StateUnavailable(f"{source} cannot be copied to {target}: {error}") from error


def _run(tool: str, url: sa.URL, *arguments: str) -> None:
    found = shutil.which(tool) or next((str(path) for path in sorted(DEBIAN.glob(f"*/bin/{tool}"), reverse=True)), None)
    if found is None:
        raise UsageError(f"{tool} is not installed, and the database is Postgres: apt-get install postgresql-client")
    done = subprocess.run(
        [found, f"--dbname={_shown(url)}", *arguments],
        env={**inherited_environment(), "PGPASSWORD": url.password or ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StateUnavailable(f"{tool} of {_shown(url)}: {why}")


def _shown(url: sa.URL) -> str:
    """The URL as libpq takes it, without the password."""
    query = {name: value for name, value in url.query.items() if name != "password"}
    shown = sa.URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string(hide_password=False)
