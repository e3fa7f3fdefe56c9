"""The whole platform as child processes of this one, under one home. Stopped and started again, it has what it had."""

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import psutil
from pydantic import SecretStr

from movierec_platform.adapters.disk import MIB, free_bytes
from movierec_platform.adapters.leases import open_lease, slots_of
from movierec_platform.adapters.queues import QueueName, Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import STACK_ENV, Settings, inherited_environment, quoted, variables_of, write_env_file
from movierec_platform.domain.set_aside import SetAside, told_by_day
from movierec_platform.errors import Conflict, MovierecError, ServerFailed, Transient
from movierec_platform.infrastructure.env_file import ADDRESSES, EMULATOR_CREDENTIALS
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import ACCESS_KEY_ID, REGION, AwsServer
from movierec_platform.local.dagster import (
    POSTGRES_VARIABLE,
    BatchServer,
    Daemon,
    StreamServer,
    WebServer,
    dagster_home,
    initialise_instance,
    refuse_unless_storable,
)
from movierec_platform.local.graph import DATABASE, GraphServer
from movierec_platform.local.identity import kept_id
from movierec_platform.local.neo4j import Neo4jServer
from movierec_platform.local.ports import LOOPBACK, Ports
from movierec_platform.local.processes import family
from movierec_platform.local.record import HomeLock, StackRecord
from movierec_platform.local.server import Server
from movierec_platform.local.web import ApiServer, MetricsServer
from movierec_platform.services.note import note
from movierec_platform.services.replay import note_drained, replay_after_unclean_stop

NOTE_DRAINED_EVERY_S = 5.0
RESTARTS_WITHIN_S = 600.0
DRAINS_WITHIN_S = 120.0
DRAINS_POLL_S = 0.25
RESIDENT: tuple[QueueName, ...] = ("raw", "clean")
RESIDENT_RUNTIME_S = 3600.0
"""On one machine no deploy waits for a run to hand over, and each that does is two more in Dagster's list of runs."""

Report = Callable[[str, str], None]
"""Told (part, what happened to it) as it happens, from several threads."""

_log = logging.getLogger(__name__)


class Stack:
    """The servers of one home, each listening on this machine only. One that dies is started again, and says so."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.model_copy(
            update={
                "home": settings.home.absolute(),
                **_local_defaults(settings),
                "dagster_postgres_url": SecretStr(settings.dagster_database_url),
            }
        )
        self.unclean = False
        """Whether the stack before this one was killed; known after `start`."""
        self.seconds_to_ready = 0.0
        home, ports = self.settings.home, Ports()
        self.aws = AwsServer(home, settings.aws_port, ports, on_spawn=self._spawned)
        self.aws.min_free_mib = settings.min_free_mib
        graph = Neo4jServer if settings.graph == "neo4j" else GraphServer
        self.graph: GraphServer | Neo4jServer = graph(home, settings.bolt_port, ports, on_spawn=self._spawned)
        self.stream = StreamServer(home, 0, ports, on_spawn=self._spawned)
        self.batch = BatchServer(home, 0, ports, on_spawn=self._spawned)
        self.dagster = WebServer(home, settings.dagster_port, ports, on_spawn=self._spawned)
        self.daemon = Daemon(home, 0, ports, on_spawn=self._spawned)
        self.api = ApiServer(home, settings.api_port, ports, settings.api_host, on_spawn=self._spawned)
        self.metrics = MetricsServer(home, settings.metrics_port, ports, settings.metrics_host, on_spawn=self._spawned)
        self.daemon.webserver = self.dagster
        self._replay_due = False
        self._cannot_tell = False
        self._aws_secret = SecretStr(secrets.token_urlsafe(24))  # the emulator takes any
        self._lock: HomeLock | None = None
        self._record: StackRecord | None = None
        self._stopping = threading.Event()
        self._endings: queue.SimpleQueue[Server | None] = queue.SimpleQueue()

    @property
    def servers(self) -> list[Server]:
        return [self.aws, self.graph, self.stream, self.batch, self.dagster, self.daemon, self.api, self.metrics]

    @property
    def env_file(self) -> Path:
        return self.settings.home / STACK_ENV

    def start(self, report: Report = lambda part, message: None, only_stores: bool = False) -> Settings:
        """Every server is ready and stack.env says where; returns the settings with the real addresses.

        With `only_stores` these are emulator and graph, and nothing says where: a restore works on them alone.
        Raises UsageError if this home has a running stack or a path that cannot be used, Conflict if the graph that is
        wanted lacks what another had, ServerFailed if a server does not come up, or the disk is nearly full: then none
        runs.
        """
        begin = time.monotonic()
        if not self.settings.dagster_database_url:
            refuse_unless_storable(self.settings.home)
        _require_room(self.settings)
        quoted("MOVIEREC_HOME", str(self.settings.home))  # or it would fail at the end, when all runs
        self.settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = HomeLock(self.settings.home)
        try:
            self._start_stores(report)
            if not only_stores:
                self._start_servers(report)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.monotonic() - begin
        return self.settings

    def watch(self, report: Report = lambda part, message: None) -> None:
        """Returns after `request_stop`. A server that ends meanwhile is started again, beside the others.

        Raises ServerFailed, with the last lines of its log, when one ends more often than the settings allow. Notes
        every five seconds whether all that was landed is through, which bounds the next replay.
        """
        state, queues = State.open(self.settings), Queues.open(self.settings)
        endings: dict[str, list[float]] = {server.name: [] for server in self.servers}
        try:
            while True:
                try:
                    ended = self._endings.get(timeout=NOTE_DRAINED_EVERY_S)
                except queue.Empty:
                    self._note_drained(state, queues)
                    continue
                if ended is None:
                    return
                recent = [at_s for at_s in endings[ended.name] if time.monotonic() - at_s < RESTARTS_WITHIN_S]
                endings[ended.name] = [*recent, time.monotonic()]
                if len(recent) >= self.settings.stack_restarts:
                    raise ServerFailed(f"{ended.obituary()}\n{ended.last_lines()}")
                report(ended.name, f"{ended.obituary()}; starting it again")
                note(self.settings, {("movierec_server_restarts_total", (("server", ended.name),)): 1})
                # From now on the queues may be empty because they were forgotten: nothing is noted until the replay.
                self._replay_due = self._replay_due or ended is self.aws
                threading.Thread(target=self._restart, args=(ended, report), daemon=True).start()
        finally:
            state.close()

    def request_stop(self) -> None:
        """`watch` returns; may be called from a signal handler or another thread."""
        self._endings.put(None)

    def check(self) -> None:
        """Nothing, while every server runs. Raises ServerFailed when one has ended."""
        for server in self.servers:
            if server.process.poll() is not None:
                raise ServerFailed(f"{server.obituary()}\n{server.last_lines()}")

    def stop(self, report: Report = lambda part, message: None) -> None:
        """Nothing of the stack is left: requests answered, runs canceled, queues saved. Safe to call again."""
        if self._lock is None:
            return
        self._stopping.set()
        _each(self.api.stop, self.daemon.stop)  # no more events, no more launches
        if self.dagster.is_running and (left := self.dagster.cancel_runs()):
            report("dagster", f"{left} runs did not end in time; they are killed")
        _each(self.dagster.stop, self.stream.stop, self.batch.stop, self.metrics.stop)
        used = self.aws.was_started
        saved, _ = _each(self.aws.stop, self.graph.stop)
        self.env_file.unlink(missing_ok=True)
        if self._record is not None:
            self._record.finish(clean=not self._replay_due and (saved or not used))
        self._lock.release()
        self._lock = None

    def addresses(self) -> list[tuple[str, str, str]]:
        """(what, where, note) of every server that people or tools talk to."""
        login = f"user {self.graph.user}, password in {STACK_ENV}"
        return [
            ("API", self.api.url, self._moved(self.api)),
            ("Dagster", self.dagster.url, self._moved(self.dagster)),
            ("metrics", f"{self.metrics.url}/metrics", self._moved(self.metrics)),
            ("graph (Bolt)", self.graph.uri, self._moved(self.graph, login)),
            ("SQS and S3", self.aws.url, self._moved(self.aws, f"bucket {self.settings.bucket}")),
        ]

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory by server with all that it started; pages that they share count in each."""
        memory = {}
        for server in self.servers:
            memory[server.name] = 0
            for process in family(server.process.pid):
                with suppress(psutil.NoSuchProcess):
                    memory[server.name] += process.memory_info().rss
        return memory

    def _start_stores(self, report: Report) -> None:
        record = StackRecord(self.settings.home)
        before = record.graph or self.settings.graph
        changed = before != self.settings.graph
        if changed and self.graph.data.exists():
            raise Conflict(
                f"the graph in {self.graph.data} is older than the {before} one, which this home ran last: run that "
                f"(--graph {before}), or remove this folder, and the graph is made anew from the lake"
            )
        if isinstance(self.graph, Neo4jServer):
            self.graph.prepare(lambda message: report(self.graph.name, message))
        self._record = record  # what is refused until here leaves it as it was
        self._forget_killed_stack(record, report)
        record.begin(before)
        self.settings = self.settings.model_copy(update={"stack_id": kept_id(self.settings.home)})
        self.aws.stack_id = self.settings.stack_id
        instance_environment = {**_without_proxy(inherited_environment()), **self._variables()}

        self._together(
            lambda: self._ready(self.aws, report),
            lambda: self._ready(self.graph, report),
            lambda: initialise_instance(self.settings.home, instance_environment),
        )
        for listener in (self.stream, self.batch, self.dagster, self.api, self.metrics):
            listener.reserve_port()
        self.settings = self._with_addresses(self.settings)
        self.settings = self.settings.model_copy(update=asdict(provision(self.settings)))
        if changed:
            report(self.graph.name, f"this home ran the {before} one before: making this from the lake ...")
            self._graph_from_lake(report)
            record.now_runs(self.settings.graph)
        if self._replay_due:
            self._restore_queues(report)

    def _start_servers(self, report: Report) -> None:
        environment = {**_without_proxy(inherited_environment()), **self._variables(), **self._code_locations()}
        for child in (self.stream, self.batch, self.dagster, self.daemon, self.api, self.metrics):
            child.environment = environment
        self._together(*(self._starter(one, report) for one in (self.stream, self.batch, self.api, self.metrics)))
        environment.update(self._code_locations())  # a port may have moved
        self._together(*(self._starter(one, report) for one in (self.dagster, self.daemon)))
        if self.settings.resident_drains:
            self._await_drains(report)

        self.settings = self._with_addresses(self.settings)
        write_env_file(self.env_file, self._stack_env())
        for server in self.servers:
            server.watch(self._ended)

    def _await_drains(self, report: Report) -> None:
        """Gate and ingest are at work, so that the first event finds them; if that takes too long, they come later."""
        begin = time.monotonic()
        slots = [(queue, slot) for queue in RESIDENT for slot in range(slots_of(self.settings, queue))]
        left = [open_lease(self.settings, queue, slot) for queue, slot in slots]
        while left := [lease for lease in left if lease.view().holder is None]:
            if time.monotonic() - begin > DRAINS_WITHIN_S:
                report("drains", "are not at work yet: the first events will wait")
                return
            self.check()
            time.sleep(DRAINS_POLL_S)
        report("drains", f"at work after {time.monotonic() - begin:.1f} s")

    def _graph_from_lake(self, report: Report) -> None:
        """The graph, new in this home, has what the lake has, if anything was loaded; nothing else writes it yet."""
        # Imported here: a stack that only starts servers does without the lake.
        from movierec_platform.adapters.lake import Lake
        from movierec_platform.services.rebuild import rebuild

        if not Lake(self.settings).exists("movies"):
            return
        rebuilt = rebuild(self.settings, None, lambda: time.time_ns() // 1_000_000, lambda what, done, total: None)
        report(self.graph.name, f"has {rebuilt.movies:,} movies and {rebuilt.pairs:,} pairs of the lake")

    def _restart(self, server: Server, report: Report) -> None:
        """The server works again; if it cannot, that is one ending more."""
        try:
            server.restart()
            if server is self.aws:
                self._restore_queues(report)
        except (MovierecError, OSError) as error:  # a full disk takes neither log nor record of what is started
            if not self._stopping.is_set():
                report(server.name, f"cannot be started again: {error}")
                self._endings.put(server)
            return
        report(server.name, f"works again after {server.seconds_to_ready:.1f} s")
        server.watch(self._ended)

    def _restore_queues(self, report: Report) -> None:
        """The queues that a killed emulator forgot are there, with all that was landed and may not be through."""
        provision(self.settings)
        set_aside: list[SetAside] = []
        replayed = replay_after_unclean_stop(self.settings, set_aside.append)
        report("aws", f"it was killed: replayed {replayed} objects")
        for sentence in told_by_day(set_aside):
            report("aws", sentence)
        self._replay_due = False

    def _note_drained(self, state: State, queues: Queues) -> None:
        """Notes it if all that was landed is through; a warning, once, while nobody can tell."""
        if self._replay_due:
            return
        try:
            note_drained(self.settings, state, queues, time.time_ns() // 1_000_000)
            self._cannot_tell = False
        except Transient as error:
            if not self._cannot_tell:
                _log.warning("cannot tell whether the queues are empty: %s", error)
            self._cannot_tell = True

    def _forget_killed_stack(self, record: StackRecord, report: Report) -> None:
        """Whatever a killed stack left running is ended, and its stack.env gone; says whether it was killed."""
        ended = record.end_orphans()
        if ended:
            report("stack", f"ended {ended} processes that a killed stack had left")
        # Objects that no record vouches for: replaying them is harmless, not replaying them may lose them.
        self.unclean = record.clean is False or (record.clean is None and self.aws.has_state)
        self._replay_due = self.unclean
        self.env_file.unlink(missing_ok=True)

    def _with_addresses(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={
                "aws_endpoint_url": self.aws.url,
                "aws_region": REGION,
                "aws_access_key_id": ACCESS_KEY_ID,
                "aws_secret_access_key": self._aws_secret,
                "aws_session_token": None,
                "neo4j_uri": self.graph.uri,
                "neo4j_user": self.graph.user,
                "neo4j_password": SecretStr(self.graph.password),
                "neo4j_database": DATABASE,
                "graph_http_url": self.graph.http_url,
                "api_url": self.api.url,
                "metrics_url": f"{self.metrics.url}/metrics",
                "dagster_url": self.dagster.url,
                "state_url": SecretStr(settings.state_database_url),
            }
        )

    def _variables(self) -> dict[str, str]:
        """What every child is given, and with it whatever it starts."""
        return {
            **variables_of(self.settings),
            "AWS_DEFAULT_REGION": self.settings.aws_region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "DAGSTER_HOME": str(dagster_home(self.settings.home)),
        }

    def _code_locations(self) -> dict[str, str]:
        """The variables that workspace.yaml reads."""
        return {
            "MOVIEREC_STREAM_HOST": self.stream.host,
            "MOVIEREC_STREAM_PORT": str(self.stream.port),
            "MOVIEREC_BATCH_HOST": self.batch.host,
            "MOVIEREC_BATCH_PORT": str(self.batch.port),
        }

    def _stack_env(self) -> dict[str, str]:
        """Where everything is, for other processes: addresses and credentials, no tuning."""
        variables = self._variables()
        return {name: variables[name] for name in (*STACK_VARIABLES, POSTGRES_VARIABLE) if name in variables}

    def _moved(self, server: Server, note: str = "") -> str:
        """The note, and that the port is not the one asked for."""
        if not server.wanted_port or server.port == server.wanted_port:
            return note
        moved = f"port {server.wanted_port} was busy"
        return f"{moved}; {note}" if note else moved

    def _ready(self, server: Server, report: Report) -> None:
        report(server.name, "starting")
        server.start()
        report(server.name, f"ready in {server.seconds_to_ready:.1f} s")

    def _starter(self, server: Server, report: Report) -> Callable[[], None]:
        return lambda: self._ready(server, report)

    def _together(self, *starts: Callable[[], None]) -> None:
        """All are done. When one fails the others are stopped at once, and its failure is raised."""
        pool = ThreadPoolExecutor(len(starts))
        try:
            for done in as_completed([pool.submit(start) for start in starts]):
                done.result()
        except BaseException:
            self._stopping.set()
            for server in self.servers:
                server.stop()
            raise
        finally:
            pool.shutdown(wait=True)

    def _spawned(self, server: Server) -> None:
        if self._record is not None:
            self._record.add(server.name, server.process.pid)
        if self._stopping.is_set():
            raise ServerFailed(f"{server.name} was not wanted any more: the stack is stopping")

    def _ended(self, server: Server) -> None:
        if not self._stopping.is_set():
            self._endings.put(server)

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


STACK_VARIABLES = (
    *ADDRESSES,
    "MOVIEREC_HOME",
    "MOVIEREC_STACK_ID",
    "DAGSTER_HOME",
    "MOVIEREC_GRAPH_HTTP_URL",
    "AWS_DEFAULT_REGION",
    *EMULATOR_CREDENTIALS,
)


def _require_room(settings: Settings) -> None:
    """Raises ServerFailed when the home's disk has less space left than a stack keeps free."""
    free_mib = free_bytes(settings.home) // MIB
    if free_mib < settings.min_free_mib:
        raise ServerFailed(
            f"{free_mib} MiB are free on the disk of {settings.home}, and a stack keeps {settings.min_free_mib} free "
            "(MOVIEREC_MIN_FREE_MIB): make room there, then start it again"
        )


def _each(*stops: Callable[[], bool]) -> list[bool]:
    """What each returned; all at the same time."""
    with ThreadPoolExecutor(len(stops)) as pool:
        return list(pool.map(lambda stop: stop(), stops))


def _local_defaults(settings: Settings) -> dict[str, bool | float]:
    """What a local stack has where nobody said otherwise: drains that are always at work."""
    given = settings.model_fields_set
    resident = settings.resident_drains or "resident_drains" not in given
    if not resident or "drain_max_runtime_s" in given:
        return {"resident_drains": resident}
    return {"resident_drains": resident, "drain_max_runtime_s": RESIDENT_RUNTIME_S}


def _without_proxy(environment: dict[str, str]) -> dict[str, str]:
    """The environment in which nothing goes to this machine's own servers through a proxy.

    Our clients see to that themselves; this is for Dagster's, which are gRPC's among others.
    """
    excepted = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    names = [one.strip() for one in excepted.split(",") if one.strip()]
    listed = "*" if "*" in names else ",".join([*names, LOOPBACK, "localhost", "::1"])
    return {**environment, **dict.fromkeys(("NO_PROXY", "no_proxy", "no_grpc_proxy"), listed)}
