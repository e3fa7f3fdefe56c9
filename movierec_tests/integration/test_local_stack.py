"""The whole stack, as `movierec up` runs it: what it offers, how it ends, and how it comes back; `--long` on Postgres.

It takes about a minute: four whole stacks are started one after the other, each of a JVM and eight Python processes.
"""

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import neo4j
import psutil
import pytest
import requests

from movierec_platform.adapters.dagster import graphql
from movierec_platform.adapters.leases import open_lease
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import STACK_ENV, Settings, inherited_environment, load_settings
from movierec_platform.errors import OtherStack, UsageError
from movierec_platform.local.dagster import PACKAGED_WORKSPACE, REPOSITORY_WORKSPACE
from movierec_platform.local.identity import Part, require_ours, stack_at
from movierec_platform.local.processes import family
from movierec_platform.local.stack import STACK_VARIABLES, Stack
from movierec_tests.postgres import PostgresServer

UP = """
import signal, sys
from movierec_platform.config import load_settings
from movierec_platform.errors import MovierecError
from movierec_platform.local.stack import Stack

stack = Stack(load_settings({"home": sys.argv[1]}))
signal.signal(signal.SIGTERM, lambda *_: stack.request_stop())
try:
    with stack:
        def report(part, message):
            print(part, message, flush=True)
        stack.start(report)
        print("READY", "unclean" if stack.unclean else "clean", flush=True)
        stack.watch(report)
except MovierecError as error:
    print(error, flush=True)
    sys.exit(3)
"""
PORTS = {f"MOVIEREC_{name}_PORT": "0" for name in ("API", "METRICS", "DAGSTER", "BOLT", "AWS")}
SERVERS = {"aws", "graph", "stream", "batch", "dagster", "daemon", "api", "metrics"}


class Up:
    """A process that keeps a stack running, and what it said."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        environment = {**inherited_environment(), **PORTS, **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP, str(home)], env=environment, stdout=subprocess.PIPE, text=True
        )
        self.said: list[str] = []
        self.wait_for("READY")

    def wait_for(self, words: str) -> None:
        """It has said this."""
        for line in self._lines():
            self.said.append(line.strip())
            if words in line:
                return
        raise AssertionError(f"{words!r} was never said: {self.said}")

    @property
    def settings(self) -> Settings:
        return load_settings({"home": self.home})

    @property
    def pids(self) -> dict[str, int]:
        record = json.loads((self.home / "stack.json").read_text())
        return {server["name"]: server["pid"] for server in record["servers"]}

    def children(self) -> list[psutil.Process]:
        """Every process that the stack's servers are made of."""
        return [process for pid in self.pids.values() for process in family(pid)]

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said last."""
        rest = "".join(self._lines())
        return self.process.wait(), rest

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            yield line


def stop(up: Up) -> None:
    if up.process.poll() is None:
        up.process.terminate()
        up.ended()
    assert up.process.stdout is not None
    up.process.stdout.close()


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def until(true: Callable[[], bool], within_s: float = 180.0) -> None:
    """True at last; fails after that time."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "still not true"
        time.sleep(0.1)


def runs(settings: Settings) -> dict[str, str]:
    """Status by job of the last run of each."""
    url = settings.dagster_url
    found = graphql(url, "{ runsOrError { ... on Runs { results { jobName status } } } }")["runsOrError"]["results"]
    return {run["jobName"]: run["status"] for run in reversed(found)}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up"))
    yield up
    stop(up)


def test_gate_and_ingest_are_at_work_before_the_first_event(up: Up) -> None:
    assert [line for line in up.said if line.startswith("drains at work after ")]
    for queue in ("raw", "clean"):
        assert open_lease(up.settings, queue, 0).view().holder
    assert runs(up.settings) == {"quality_gate": "STARTED", "graph_ingest": "STARTED"}


def test_every_server_runs_and_none_is_heard_from_outside(up: Up) -> None:
    assert up.pids.keys() == SERVERS
    listening = {
        connection.laddr
        for process in up.children()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or (connection.type.name == "SOCK_DGRAM" and not connection.raddr)
    }
    assert len(listening) >= 8
    # Java and gRPC listen on IPv6 sockets for it: the same address, written ::ffff:127.0.0.1.
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_stack_env_leads_a_shell_and_plain_clients_to_the_servers(up: Up) -> None:
    path = up.home / STACK_ENV
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    script = f"set -a; . {shlex.quote(str(path))}; env -0"
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env={}, check=True).stdout
    environment = dict(line.split("=", 1) for line in output.split("\0") if line)
    assert set(STACK_VARIABLES) <= environment.keys()
    settings = up.settings
    assert environment["NEO4J_PASSWORD"] == settings.neo4j_password.get_secret_value()
    assert environment["MOVIEREC_RAW_QUEUE_URL"] == settings.raw_queue_url

    code = "import boto3; print(boto3.client('sqs').list_queues()['QueueUrls'])"
    client = {**inherited_environment(), **environment}
    listed = subprocess.run([sys.executable, "-c", code], env=client, capture_output=True, text=True, check=True)
    assert "movierec-raw" in listed.stdout
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    with neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver:
        driver.verify_connectivity()
    for url in (f"{settings.api_url}/health/live", settings.metrics_url, f"{settings.dagster_url}/server_info"):
        assert requests.get(url, timeout=10).status_code == 200


@dataclass(frozen=True)
class Asked:
    """A request that a page of another site could make a browser send."""

    url: str
    method: str = "GET"
    body: str | None = None
    kind: str = "application/x-www-form-urlencoded"
    own_status: int = 200

    def status(self, **headers: str) -> int:
        return self.answer(**headers).status_code

    def answer(self, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        kind = {"Content-Type": self.kind} if self.body else {}
        return requests.request(self.method, self.url, data=self.body, headers={**kind, **named}, timeout=30)


def asked_of(settings: Settings) -> list[Asked]:
    """Of each server that speaks HTTP: its page, and what changes something or tells all."""
    send, graphql_url = "Action=SendMessage&MessageBody=%7B%7D", f"{settings.dagster_url}/graphql"
    event = '{"user_id": 1, "movie_id": 1, "rating": 4.0}'
    return [
        Asked(f"{settings.aws_endpoint_url}/{settings.bucket}"),
        Asked(f"{settings.raw_queue_url}?{send}"),
        Asked(settings.raw_queue_url, "POST", send),
        Asked(f"{settings.aws_endpoint_url}/{settings.bucket}/raw/evil", "PUT", "x"),
        Asked(f"{settings.dagster_url}/server_info"),
        Asked(f"{graphql_url}?query=%7Bversion%7D"),
        Asked(graphql_url, "POST", '{"query": "{ version }"}', "application/json"),
        Asked(f"{graphql_url}?query=%7Bversion%7D", "POST", "a=b"),
        Asked(settings.metrics_url),
        Asked(f"{settings.api_url}/ingest", "POST", event, "text/plain", own_status=202),
        # It wants a password of everybody, and tells no page that it may send one.
        Asked(f"{settings.graph_http_url}/api/v1/server", own_status=401),
        Asked(f"{settings.graph_http_url}/api/v1/command/neo4j", "POST", "{}", "text/plain", own_status=401),
    ]


def test_no_page_of_another_site_reaches_a_server(up: Up) -> None:
    evil = "http://evil.example"
    for asked in asked_of(up.settings):
        for name in ("evil.example", f"evil.example:{urlsplit(asked.url).port}"):
            assert asked.status(Host=name) in (400, 401, 403), asked
        for headers in ({"Origin": evil}, {"Origin": "null"}, {"Origin": "http://["}):
            answer = asked.answer(**headers)
            assert answer.status_code in (400, 401, 403), (asked, headers)
            assert "Access-Control-Allow-Origin" not in answer.headers, (asked, headers)
        preflight = requests.options(
            asked.url, headers={"Origin": evil, "Access-Control-Request-Method": "PUT"}, timeout=30
        )
        assert "Access-Control-Allow-Origin" not in preflight.headers, asked
        # Not asked by a page, and by their own pages, they answer.
        own = urlsplit(asked.url).netloc
        assert asked.status() == asked.own_status, asked
        assert asked.status(Origin=f"http://{own}", Sec_Fetch_Site="same-origin") == asked.own_status, asked
        assert asked.status(Host=f"localhost:{urlsplit(asked.url).port}") == asked.own_status, asked


def test_a_get_without_origin_that_a_page_of_another_site_causes_is_refused(up: Up) -> None:
    for asked in asked_of(up.settings)[:-3]:  # those whose GET may do something, or tells all
        for site in ("cross-site", "same-site"):
            assert asked.status(Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image") == 403, asked
            assert asked.status(Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe") == 403, asked


def test_a_link_leads_to_the_pages_of_dagster(up: Up) -> None:
    follows = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    page = requests.get(f"{up.settings.dagster_url}/runs", headers=follows, timeout=30)
    assert (page.status_code, page.headers["Content-Type"].split(";")[0]) == (200, "text/html")


def test_dagsters_page_gets_its_updates_and_no_other_page_does(up: Up) -> None:
    where = urlsplit(up.settings.dagster_url)

    def handshake(origin: str) -> str:
        """The first line of the answer."""
        lines = [
            "GET /graphql HTTP/1.1",
            f"Host: {where.netloc}",
            f"Origin: {origin}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: graphql-ws",
        ]
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=30) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return connection.makefile("rb").readline().decode()

    assert " 101 " in handshake(up.settings.dagster_url)
    assert " 403 " in handshake("http://evil.example")


def test_no_secret_is_on_a_command_line_or_in_a_log(up: Up) -> None:
    settings = up.settings
    assert settings.aws_secret_access_key is not None
    secrets = [settings.neo4j_password.get_secret_value(), settings.aws_secret_access_key.get_secret_value()]
    assert all(secrets)
    seen = [" ".join(process.cmdline()) for process in up.children()]
    seen += [log.read_text(errors="replace") for log in (up.home / "logs").iterdir()]
    seen += up.said
    assert not [secret for secret in secrets for text in seen if secret in text]


def test_no_part_of_another_stack_is_taken_for_one_of_ours(up: Up, tmp_path: Path) -> None:
    parts: tuple[Part, ...] = ("api", "dagster", "lake")
    require_ours(up.settings, parts)
    other = up.settings.model_copy(update={"stack_id": "another", "home": tmp_path})
    for part in parts:
        with pytest.raises(OtherStack, match="is not that of the stack in"):
            require_ours(other, [part])
    replaced = other.model_copy(update={"home": up.home, "api_url": f"{other.api_url}/"})
    require_ours(replaced, ["api"])
    assert stack_at(up.settings.metrics_url) == up.settings.stack_id


def test_dagster_has_both_code_locations_and_a_daemon(up: Up) -> None:
    url = up.settings.dagster_url
    entries = graphql(url, "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
    assert {entry["name"] for entry in entries["workspaceOrError"]["locationEntries"]} == {"stream", "batch"}
    query = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
    daemons = graphql(url, query)["instance"]["daemonHealth"]["allDaemonStatuses"]
    assert {"SENSOR", "SCHEDULER", "MONITORING"} <= {one["daemonType"] for one in daemons if one["required"]}


def test_a_second_stack_on_the_same_home_is_refused(up: Up) -> None:
    with pytest.raises(UsageError, match=rf"already running in {up.home} \(pid {up.process.pid}\)"):
        Stack(load_settings({"home": up.home})).start()
    assert len(alive(up.children())) >= len(SERVERS)
    assert (up.home / STACK_ENV).exists()


def test_it_fits_in_three_gigabytes(up: Up) -> None:
    assert sum(process.memory_info().rss for process in up.children()) < 3 * 1024**3


def test_stopping_cancels_runs_and_leaves_no_process(up: Up) -> None:
    settings, children = up.settings, up.children()
    event = {"user_id": 1, "movie_id": 1, "rating": 4.0}
    assert requests.post(f"{settings.api_url}/ingest", json=event, timeout=10).status_code == 202
    until(lambda: set(runs(settings).values()) == {"STARTED"})  # also of what other tests posted
    children += up.children()

    up.process.terminate()
    assert up.ended()[0] == 0
    assert alive(children) == []
    assert json.loads((up.home / "stack.json").read_text()) == {"clean": True, "servers": [], "graph": "embedded"}
    assert not (up.home / STACK_ENV).exists()
    code = "import dagster as dg; print(*(run.status.value for run in dg.DagsterInstance.get().get_runs()))"
    environment = {**inherited_environment(), "DAGSTER_HOME": str(up.home / "dagster")}
    listed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) == {"CANCELED"}


@pytest.mark.thorough("whole stacks")
def test_killed_in_every_way_it_comes_back_with_all_it_had(tmp_path: Path) -> None:
    ups = [Up(tmp_path)]
    try:
        up = ups[0]
        assert up.said[-1] == "READY clean"
        settings = up.settings
        event = {"user_id": 1, "movie_id": 1, "rating": 4.0}
        assert requests.post(f"{settings.api_url}/ingest", json=event, timeout=10).status_code == 202
        password = settings.neo4j_password.get_secret_value()
        with neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=(settings.neo4j_user, password)) as driver:
            driver.execute_query("CREATE (:Pelicula {id: 990001})", database_=settings.neo4j_database)
        landed = list(open_objects(settings).keys("raw/"))
        assert len(landed) == 1

        first = up.children()
        up.process.kill()
        for process in first:
            if process.is_running():
                process.kill()
        up.ended()
        ups.append(Up(tmp_path))
        up = ups[1]
        assert up.said[-1] == "READY unclean"
        assert "aws it was killed: replayed 1 objects" in up.said
        settings = up.settings
        assert list(open_objects(settings).keys("raw/")) == landed
        with neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=(settings.neo4j_user, password)) as driver:
            found = driver.execute_query("MATCH (m:Pelicula {id: 990001}) RETURN m", database_=settings.neo4j_database)
        assert len(found.records) == 1

        second = up.children()
        up.kill()
        assert len(alive(second)) >= len(SERVERS)  # they go on alone until the next start
        ups.append(Up(tmp_path, MOVIEREC_STACK_RESTARTS="1"))
        up = ups[2]
        assert up.said[-1] == "READY unclean"
        assert alive(second) == []

        killed = up.pids["metrics"]
        os.kill(killed, signal.SIGKILL)
        up.wait_for("metrics works again")
        assert up.pids["metrics"] != killed
        scraped = requests.get(up.settings.metrics_url, timeout=10).text
        assert 'movierec_server_restarts_total{server="metrics"} 1.0' in scraped

        third = up.children()
        os.kill(up.pids["metrics"], signal.SIGKILL)
        code, said = up.ended()
        assert code == 3
        assert "metrics (pid " in said
        assert "was killed by signal 9" in said
        assert alive(third) == []
        assert json.loads((tmp_path / "stack.json").read_text())["clean"] is True
    finally:
        for up in ups:
            stop(up)


@pytest.mark.long
def test_urls_alone_put_it_on_postgres(tmp_path: Path, postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()  # one for both: their tables do not get in each other's way
    database = url.rpartition("/")[2]
    up = Up(tmp_path, MOVIEREC_STATE_URL=url, DAGSTER_POSTGRES_URL=url)
    try:
        settings = up.settings
        auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
        with neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver:
            driver.execute_query("CREATE (:Pelicula {id: 1})", database_=settings.neo4j_database)
            event = {"user_id": 1, "movie_id": 1, "rating": 4.0}
            assert requests.post(f"{settings.api_url}/ingest", json=event, timeout=10).status_code == 202
            seen = "MATCH (:Usuario {id: 1})-[seen:VIO]->(:Pelicula {id: 1}) RETURN seen.rating"
            until(lambda: driver.execute_query(seen, database_=settings.neo4j_database).records)

        locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory'"
        held = "SELECT name FROM leases WHERE released_at_s IS NULL ORDER BY name"
        assert postgres_server.execute(f"{locks} AND d.datname = '{database}'") == [(2,)]
        assert postgres_server.execute(held, database) == [("clean-0",), ("raw-0",)]
        jobs = postgres_server.execute("SELECT pipeline_name, status FROM runs ORDER BY 1", database)
        assert jobs == [("graph_ingest", "STARTED"), ("quality_gate", "STARTED")]
        landed = "SELECT value FROM counters WHERE name = 'movierec_events_landed_total'"
        assert postgres_server.execute(landed, database) == [(1.0,)]
        assert not [*tmp_path.rglob("*.db")]
    finally:
        stop(up)
    assert postgres_server.execute("SELECT DISTINCT status FROM runs", database) == [("CANCELED",)]


@pytest.mark.thorough("whole stacks")
def test_a_server_that_cannot_start_takes_the_others_with_it(tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "databases").write_text("not a folder")
    environment = {**inherited_environment(), **PORTS}
    done = subprocess.run(
        [sys.executable, "-c", UP, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert not [one for one in psutil.process_iter() if str(tmp_path) in " ".join(_words(one))]


def _words(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
    return words


def test_the_installed_workspace_is_the_repository_s() -> None:
    assert PACKAGED_WORKSPACE.read_text() == REPOSITORY_WORKSPACE.read_text()
