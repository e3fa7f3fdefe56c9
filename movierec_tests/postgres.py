"""A Postgres of its own for a test session: Debian's, on a free port, everything in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import sqlalchemy as sa

from movierec_platform.local.ports import LOOPBACK, Ports

USER = "movierec"
OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
}


def postgres_binaries() -> Path | None:
    """The folder with initdb and pg_ctl; Debian's is not on the PATH. None where Postgres is not installed."""
    on_path = shutil.which("pg_ctl")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in folders if all((one / name).is_file() for name in ("initdb", "pg_ctl"))), None)


class PostgresServer:
    """One server; `restart` ends every connection to it and loses nothing."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="movierec-postgres-"))
        self._data = self._folder / "data"
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # which Postgres refuses to run as
            account = _unprivileged()
            os.chown(self._folder, account.pw_uid, account.pw_gid)
            self._as_user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        with Ports() as ports:
            self.port = ports.take(0)

    def start(self) -> None:
        """It answers; the first time, in an empty data folder."""
        if not self._data.exists():
            self._run("initdb", "--username", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        options = " ".join(f"-c {name}='{value}'" for name, value in {**OPTIONS, "port": self.port}.items())
        self._run("pg_ctl", "start", "--wait", "--log", str(self._folder / "log"), "--options", options)

    def stop(self) -> None:
        """It has ended, and with it every connection."""
        self._run("pg_ctl", "stop", "--wait", "--mode=fast")

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        """Nothing of it is left."""
        self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@{LOOPBACK}:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database that no other test has."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[sa.Row]:
        """The rows of a statement carried out by its superuser."""
        url = sa.make_url(self.url(database)).set(drivername="postgresql+psycopg2")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement))
            return list(result.all()) if result.returns_rows else []

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._binaries / program), "--pgdata", str(self._data), *arguments]
        # What it starts keeps the output open: a pipe would never end.
        with (self._folder / f"{program}.out").open("wb") as output:
            done = subprocess.run(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
        assert done.returncode == 0, (self._folder / f"{program}.out").read_text()


def _unprivileged() -> pwd.struct_passwd:
    names = {account.pw_name: account for account in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
