"""The graph on this machine: ArcadeDB, which speaks Bolt to the neo4j driver. What it acknowledged survives a kill."""

import importlib.util
import os
import secrets
from pathlib import Path
from typing import ClassVar

from movierec_platform.errors import ServerFailed
from movierec_platform.local.ports import LOOPBACK, is_free
from movierec_platform.local.server import Command, Server, http_status

USER = "root"
DATABASE = "neo4j"

JAVA_ARGUMENTS = (
    "-Xms256m",
    "-Xmx1g",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF8",
    "--add-modules=jdk.incubator.vector",
    "--enable-native-access=ALL-UNNAMED",
    "-Darcadedb.server.mode=production",
    "-Darcadedb.server.defaultDatabases=neo4j[]",
    "-Darcadedb.bolt.defaultDatabase=neo4j",
    "-Darcadedb.server.plugins=Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
    "-Darcadedb.server.httpWorkerThreads=16",
    "-Darcadedb.server.httpBodyContentMaxSize=-1",
    "-Darcadedb.txWAL=true",
    "-Darcadedb.txWalFlush=2",
    "-Darcadedb.command.timeout=120000",
    "-Darcadedb.queryMaxConcurrent=32",
    "-Darcadedb.support.autoRegister=false",
    "-Darcadedb.serverMetrics=false",
    "-Darcadedb.opencypher.loadCsv.allowFileUrls=false",
    "-Darcadedb.opencypher.loadCsv.allowRemoteUrls=false",
    "-Darcadedb.polyglotEngineEnabled=false",
)
"""A heap of 1 GiB holds 5M ratings; the write-ahead log is synced at every commit; queries end after 120 s."""


class GraphServer(Server):
    """ArcadeDB on its own JRE, with its data under `<home>/graph`. The password is made once and kept there, 0600."""

    name = "graph"
    user: ClassVar[str] = USER
    http_port = 0

    @property
    def ports(self) -> set[int]:
        return {*super().ports, self.http_port} - {0}

    @property
    def uri(self) -> str:
        return f"bolt://{self.host}:{self.port}"

    @property
    def http_url(self) -> str:
        """Of the bulk endpoint; known once it has started."""
        return f"http://{self.host}:{self.http_port}"

    @property
    def data(self) -> Path:
        """There once it was started."""
        return self._folder

    @property
    def password(self) -> str:
        """Of the user `root`; made if there is none yet."""
        return kept_password(self._folder / "root.pw")

    def command(self) -> Command:
        if not self.http_port or not is_free(self.http_port):  # started again, it is where stack.env says
            self.http_port = self._ports.take(0)
        for name in ("databases", "log"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        _ = self.password
        package = _package()
        java = [str(package / "jre" / "bin" / "java"), *JAVA_ARGUMENTS, "-cp", f"{package}/jars/*"]
        places = [f"-Darcadedb.{name}={value}" for name, value in self._places().items()]
        environment = {"PATH": os.defpath, "HOME": str(self._folder), "LANG": "C.UTF-8"}
        return Command([*java, *places, "com.arcadedb.server.ArcadeDBServer"], environment, self._folder)

    def _places(self) -> dict[str, object]:
        """ArcadeDB's settings of where it keeps what, and where it listens."""
        return {
            "server.rootPath": self._folder,
            "server.databaseDirectory": self._folder / "databases",
            "server.logsDirectory": self._folder / "log",
            "server.rootPasswordPath": self._folder / "root.pw",
            "bolt.host": LOOPBACK,
            "bolt.port": self.port,
            "server.httpIncomingHost": LOOPBACK,
            "server.httpIncomingPort": self.http_port,
        }

    def is_ready(self) -> bool:
        # Not the Bolt port: it opens before logins work, and a failed login locks the user out for 30 s.
        return http_status(self.http_port, "/api/v1/ready") == 204

    @property
    def _folder(self) -> Path:
        return self.home / "graph"


def kept_password(path: Path) -> str:
    """What this file holds, for its owner only; made if there is none yet."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(path, secrets.token_urlsafe(24))
    return path.read_text(encoding="utf-8").strip()


def _package() -> Path:
    """The folder of arcadedb_embedded, which is found and not imported: that would load a JVM into this process."""
    spec = importlib.util.find_spec("arcadedb_embedded")
    if spec is None or spec.origin is None:
        raise ServerFailed("the graph needs the package arcadedb-embedded: pip install arcadedb-embedded")
    return Path(spec.origin).parent


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
