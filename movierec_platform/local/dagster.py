"""Dagster on this machine: its instance, a server for each code location, the webserver and the daemon."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from movierec_platform.adapters.dagster import graphql
from movierec_platform.errors import DagsterUnavailable, ServerFailed, UsageError
from movierec_platform.local.server import Command, Server

HERE = Path(__file__).parent
REPOSITORY_WORKSPACE = HERE.parent.parent / "workspace.yaml"
PACKAGED_WORKSPACE = HERE / "workspace.yaml"
CANCEL_WITHIN_S = 10.0
CANCEL_POLL_S = 0.25
LOG_FORMAT = ("--log-format", "json")
LOCATIONS = ("stream", "batch")
POSTGRES_VARIABLE = "DAGSTER_POSTGRES_URL"


def dagster_home(home: Path) -> Path:
    return home.absolute() / "dagster"


def workspace_file() -> Path:
    """The repository's workspace.yaml, else the copy of it that is installed with the package."""
    return REPOSITORY_WORKSPACE if REPOSITORY_WORKSPACE.is_file() else PACKAGED_WORKSPACE


def refuse_unless_storable(home: Path) -> None:
    """Dagster can keep its SQLite files under this home. Raises UsageError: it puts their path into a URL as it is."""
    path = str(dagster_home(home) / "runs.db")
    if sa.make_url(f"sqlite:///{path}").database != path:
        raise UsageError(
            f"Dagster cannot keep its databases under {home}: choose a home (MOVIEREC_HOME or --home) without ? and % "
            f"in its path, or set {POSTGRES_VARIABLE}"
        )


def initialise_instance(home: Path, environment: Mapping[str, str]) -> None:
    """DAGSTER_HOME has its dagster.yaml and its databases, at this release's schema, and no run is active in them.

    They are SQLite files in it, or, where the environment has DAGSTER_POSTGRES_URL, in that Postgres.
    Servers that start at once would each make the databases, and all but one fail. A killed stack left its runs as if
    they went on: the sensors would wait for them before they launch others. Raises ServerFailed.
    """
    folder = dagster_home(home)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "dagster.yaml", folder / "dagster.yaml")
    if environment.get(POSTGRES_VARIABLE):
        with (folder / "dagster.yaml").open("a", encoding="utf-8") as file:
            file.write(_IN_POSTGRES)
    done = subprocess.run(
        [sys.executable, "-c", _INITIALISE], env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode:
        where = f"the Postgres of {POSTGRES_VARIABLE}" if environment.get(POSTGRES_VARIABLE) else folder
        raise ServerFailed(f"Dagster's databases in {where} cannot be made ready:\n{done.stderr[-2000:]}")


_IN_POSTGRES = f"""
storage:
  postgres:
    postgres_url:
      env: {POSTGRES_VARIABLE}
"""

_INITIALISE = """
import dagster as dg
active = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
with dg.DagsterInstance.get() as instance:
    instance.upgrade()
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus[name] for name in active])):
        instance.report_run_failed(run, "the stack that it belonged to was killed")
"""


class _DagsterServer(Server):
    environment: Mapping[str, str]
    """Set before `start`; what runs inherit."""


class CodeServer(_DagsterServer):
    """One code location over gRPC. The runs that it launches are its children."""

    stop_within_s = 10.0
    descendants_outlive_it = True
    location: str

    def command(self) -> Command:
        module = f"movierec_platform.defs.{self.location}.definitions"
        arguments = [sys.executable, "-m", "dagster", "api", "grpc", "-m", module, "--location-name", self.location]
        # Its runs are started with this interpreter and not with a `dagster` that happens to be on the PATH.
        arguments += ["--host", self.host, "--port", str(self.port), "--use-python-environment-entry-point"]
        arguments += LOG_FORMAT
        return Command(arguments, self.environment)

    def is_ready(self) -> bool:
        # It listens only after the definitions are loaded, and ends if they cannot be.
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((self.host, self.port)) == 0


class StreamServer(CodeServer):
    """The light code location: sensors and drains."""

    name = location = "stream"


class BatchServer(CodeServer):
    """The heavy code location: the assets."""

    name = location = "batch"


class WebServer(_DagsterServer):
    """Dagster's UI and GraphQL; ready once it has loaded every code location."""

    name = "dagster"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def command(self) -> Command:
        arguments = [sys.executable, "-m", "movierec_platform.defs.webserver", "-w", str(workspace_file())]
        return Command([*arguments, "--host", self.host, "--port", str(self.port), *LOG_FORMAT], self.environment)

    def is_ready(self) -> bool:
        try:
            found = graphql(self.url, _LOCATIONS)["workspaceOrError"]["locationEntries"]
        except DagsterUnavailable:
            return False
        loaded = {
            one["name"] for one in found if (one["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
        }
        return loaded == set(LOCATIONS)

    def cancel_runs(self, within_s: float = CANCEL_WITHIN_S) -> int:
        """Active runs have ended as canceled, or the time is over; how many are still active."""
        deadline = time.monotonic() + within_s
        asked: set[str] = set()
        while True:
            try:
                active = {run["id"] for run in graphql(self.url, _ACTIVE)["runsOrError"]["results"]}
                if new := active - asked:
                    graphql(self.url, _TERMINATE, {"ids": sorted(new)})
                    asked |= new
            except DagsterUnavailable:
                return len(asked)
            if not active or time.monotonic() > deadline:
                return len(active)
            time.sleep(CANCEL_POLL_S)


class Daemon(_DagsterServer):
    """Runs sensors and schedules; ready once it has said so in this start. It listens nowhere."""

    name = "daemon"
    webserver: WebServer
    """Asked whether the daemon is ready."""
    _started_at_s = 0.0

    def reserve_port(self) -> None:
        return

    def command(self) -> Command:
        self._started_at_s = time.time()
        arguments = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace_file()), *LOG_FORMAT]
        return Command(arguments, self.environment)

    def is_ready(self) -> bool:
        try:
            status = graphql(self.webserver.url, _SENSORS)["instance"]["daemonHealth"]["daemonStatus"]
        except DagsterUnavailable:
            return False
        return bool(status["healthy"]) and (status["lastHeartbeatTime"] or 0) >= self._started_at_s


_LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } } }
"""
_SENSORS = '{ instance { daemonHealth { daemonStatus(daemonType: "SENSOR") { healthy lastHeartbeatTime } } } }'
_ACTIVE = """
{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) {
    ... on Runs { results { id } } } }
"""
_TERMINATE = "mutation Stop($ids: [String!]!) { terminateRuns(runIds: $ids) { __typename } }"
