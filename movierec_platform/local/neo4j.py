"""The graph on this machine as a real Neo4j: its artifacts from Maven, once for a home, and a small launcher."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from movierec_platform.config import inherited_environment
from movierec_platform.errors import ServerFailed
from movierec_platform.local.graph import DATABASE, kept_password
from movierec_platform.local.server import Command, Server

LAUNCHER = Path(__file__).parents[1] / "deploy" / "neo4j"
OLDEST_JAVA = 17
LOGIN_TIMEOUT_S = 2.0

JAVA_ARGUMENTS = (
    "-Xms256m",
    "-Xmx1g",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF8",
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "nio", "io")),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)
"""Beside the heap there is a page cache of 256 MiB: see the launcher."""


class Neo4jServer(Server):
    """Neo4j Community under `<home>/neo4j`, with authentication. What it acknowledged survives a kill.

    The password is made once and kept there, 0600. The first start of a home downloads 120 MB, unless Maven has them.
    """

    name = "graph"
    user: ClassVar[str] = "neo4j"
    http_url: ClassVar[str] = ""
    """It has no bulk endpoint."""
    ready_within_s = 180.0
    stop_within_s = 30.0
    java_arguments: ClassVar[tuple[str, ...]] = JAVA_ARGUMENTS

    @property
    def uri(self) -> str:
        return f"bolt://{self.host}:{self.port}"

    @property
    def password(self) -> str:
        """Of the user `neo4j`; made if there is none yet."""
        return kept_password(self.folder / "password")

    @property
    def folder(self) -> Path:
        return self.home / "neo4j"

    @property
    def data(self) -> Path:
        """There once it was started."""
        return self.folder / "data"

    @property
    def library(self) -> Path:
        """The artifacts of the launcher's pom.xml; one that asks for others has another folder."""
        digest = hashlib.sha256((LAUNCHER / "pom.xml").read_bytes()).hexdigest()
        return self.folder / f"lib-{digest[:12]}"

    def prepare(self, tell: Callable[[str], None] = lambda message: None) -> str:
        """The artifacts are there; returns the Java that runs them. Raises ServerFailed, which says what to install."""
        java = find_java()
        if self.library.is_dir():
            return java
        mvn = find_maven()
        tell("fetching Neo4j with Maven, once for this home (120 MB) ...")
        part = self.folder / "lib.part"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={part}"]
        fetched = subprocess.run(
            [mvn, "-q", "-B", "-f", str(LAUNCHER / "pom.xml"), *goal],
            cwd=self.folder,
            env=inherited_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if fetched.returncode != 0:
            raise ServerFailed(f"Maven cannot fetch Neo4j: {_first_error(fetched.stdout)}")
        for outdated in self.folder.glob("lib-*"):
            shutil.rmtree(outdated)
        part.replace(self.library)
        return java

    def command(self) -> Command:
        _ = self.password
        # The class path by its name in the working folder: a path with a colon in it would be two.
        classes = ["-cp", f"{self.library.name}/*"]
        program = [self.prepare(), *self.java_arguments, *classes, str(LAUNCHER / "Neo4jServer.java")]
        arguments = [str(self.folder), str(self.port), str(self.folder / "password")]
        return Command([*program, *arguments], inherited_environment(), self.folder)

    def is_ready(self) -> bool:
        driver = neo4j.GraphDatabase.driver(
            self.uri,
            auth=(self.user, self.password),
            connection_timeout=LOGIN_TIMEOUT_S,
            connection_acquisition_timeout=LOGIN_TIMEOUT_S,
            telemetry_disabled=True,
        )
        try:
            with driver, driver.session(database=DATABASE) as session, session.begin_transaction() as transaction:
                transaction.run("RETURN 1").consume()
        except (Neo4jError, DriverError):
            return False
        return True


def find_java() -> str:
    """The program `java`, of a JDK that is new enough. Raises ServerFailed, which says what to install."""
    needs = f"Neo4j needs a JDK of at least Java {OLDEST_JAVA}"
    install = "install one (Debian and Ubuntu: apt-get install openjdk-17-jdk-headless), or run the embedded graph"
    java = shutil.which("java")
    if java is None:
        raise ServerFailed(f"{needs}, and there is no program `java`: {install}")
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=False).stdout
    base = re.search(r"^java\.base@(\d+)", modules, re.MULTILINE)
    version = int(base[1]) if base else 8  # older ones know no modules
    if version < OLDEST_JAVA:
        raise ServerFailed(f"{needs}, and {java} is older: {install}")
    if "jdk.compiler@" not in modules:
        raise ServerFailed(f"{needs}, and {java} has no compiler: {install}")
    return java


def find_maven() -> str:
    """The program `mvn`. Raises ServerFailed, which says what to install."""
    mvn = shutil.which("mvn")
    if mvn is None:
        raise ServerFailed(
            "Neo4j is fetched by Maven, and there is no program `mvn`: install it (Debian and Ubuntu: apt-get install "
            "maven), or run the embedded graph"
        )
    return mvn


def _first_error(output: str) -> str:
    """Maven's first line of error, without its colours and labels."""
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines() if line.strip()]
    errors = [line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]")]
    return next(iter([*errors, *lines[-1:]]), "it said nothing")
