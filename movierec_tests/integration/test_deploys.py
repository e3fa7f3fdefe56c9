"""A new release of code server and API while clients post and drain runs are at work: the flow goes on, no second run
drains beside one, and nothing that was acknowledged is lost.

The state is on Postgres; daemon, code server and API are as in the local stack. It takes half a minute: the sensor
daemon looks every five seconds, and each drain is launched twice.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg
import pytest
import requests
from pydantic import SecretStr

from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import STACK_ENV, Settings, inherited_environment, variables_of, write_env_file
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.domain.drains import LeaseView
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.dagster import Daemon, StreamServer, dagster_home, initialise_instance
from movierec_platform.local.processes import family
from movierec_platform.local.server import Command
from movierec_platform.local.web import ApiServer
from movierec_platform.services.verify import verify
from movierec_tests.integration.conftest import Platform
from movierec_tests.postgres import PostgresServer

pytestmark = pytest.mark.thorough("whole stacks")

DEADLINE_S = 240.0


class LoneDaemon(Daemon):
    """A daemon that knows one code location and is asked by no webserver."""

    def command(self) -> Command:
        arguments = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(self.home / "workspace.yaml")]
        return Command(arguments, self.environment)

    def is_ready(self) -> bool:
        return True


class Clients(threading.Thread):
    """Posts ratings without end; a batch that is not acknowledged is posted again."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.acknowledged = self.refused = 0
        """Ratings, of users 1 to `acknowledged`; requests that got no answer, or another one."""
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            users = range(self.acknowledged + 1, self.acknowledged + 6)
            batch = [{"user_id": user, "movie_id": 10, "rating": 4.0} for user in users]
            try:
                answered = requests.post(f"{self.url}/ingest", json=batch, timeout=60).status_code == 202
            except requests.RequestException:
                answered = False
            if answered:
                self.acknowledged += len(batch)
            else:
                self.refused += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


@dataclass
class Deployment:
    """A code server and an API, which may be replaced, what its runs do, and clients."""

    settings: Settings
    instance: dg.DagsterInstance
    stream: StreamServer
    api: ApiServer
    state: State
    clients: Clients
    sent: int = 0

    def send(self) -> None:
        """One more message that the quarantine can hold."""
        Queues.open(self.settings).dlq.send([f"poison {self.sent}"])
        self.sent += 1

    def flows(self) -> None:
        """What is sent now gets through, with everything before it."""
        self.send()
        until(lambda: sum(self.state.quarantine.by_reason().values()) == self.sent)

    def lease(self) -> LeaseView:
        return StreamResource(home=str(self.settings.home)).lease("dlq", 0).view()

    def runs(self) -> dict[str, str]:
        """Status by id of all runs of the quarantine, the first first."""
        found = self.instance.get_runs(dg.RunsFilter(job_name="quarantine"))
        return {run.run_id: run.status.value for run in reversed(found)}

    def replace_api(self) -> None:
        """The API ended by itself when it was asked to, and another one answers at its address; clients went on."""
        before = self.clients.acknowledged
        until(lambda: self.clients.acknowledged > before)
        assert self.api.stop()
        self.api.start()
        before = self.clients.acknowledged
        until(lambda: self.clients.acknowledged > before)


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < ends, "still not true"
        time.sleep(0.1)


def kill(leader: int) -> None:
    """The code server of this pid and all its runs are gone, none of which saw another end."""
    everything = family(leader)
    for process in everything:
        process.suspend()
    for process in everything:
        process.kill()


@pytest.fixture
def deployment(platform: Platform, postgres_server: PostgresServer) -> Iterator[Deployment]:
    settings = platform.settings.model_copy(
        update={
            "state_url": SecretStr(postgres_server.new_database()),
            "visibility_timeout_s": 5,  # what a killed run had received comes back then
        }
    )
    settings = settings.model_copy(update=asdict(provision(settings, prefix=f"deploy-{settings.bucket}")))
    home: Path = settings.home
    environment = {**inherited_environment(), **variables_of(settings), "DAGSTER_HOME": str(dagster_home(home))}
    write_env_file(home / STACK_ENV, variables_of(settings))
    initialise_instance(home, environment)
    leaders: list[int] = []
    stream = StreamServer(home, 0, on_spawn=lambda server: leaders.append(server.process.pid))
    daemon, api = LoneDaemon(home, 0), ApiServer(home, 0)
    stream.environment = daemon.environment = api.environment = environment
    stream.reserve_port()
    location = f"{{host: {stream.host}, port: {stream.port}, location_name: stream}}"
    (home / "workspace.yaml").write_text(f"load_from:\n  - grpc_server: {location}\n")
    with contextlib.ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(dagster_home(home))))
        state = State.open(settings)
        stack.callback(state.close)
        for server in (stream, daemon, api):
            stack.callback(server.stop)
            server.start()
        stack.callback(lambda: [kill(pid) for pid in leaders])
        clients = Clients(api.url)
        stack.callback(clients.end)
        clients.start()
        yield Deployment(settings, instance, stream, api, state, clients)


def test_a_deploy_under_load_stops_no_flow_loses_nothing_and_starts_no_second_drain(deployment: Deployment) -> None:
    stream = deployment.stream
    deployment.flows()
    [first] = deployment.runs()
    assert deployment.lease().holder == first

    deployment.replace_api()

    # A container ends with all that is in it: nobody is left to say that the run has failed.
    deployment.send()
    kill(stream.process.pid)
    stream.process.wait()
    deployment.send()  # the one before may be through already, and without work nobody is launched
    until(lambda: deployment.lease().holder is None)
    assert deployment.lease().lost_by == first
    assert deployment.runs() == {first: "STARTED"}
    stream.start()
    until(lambda: deployment.lease().holder is not None)
    [_, second] = deployment.runs()
    assert deployment.lease().holder == second
    assert deployment.runs() == {first: "FAILURE", second: "STARTED"}
    deployment.flows()

    # Asked to end, a code server waits for its runs; whoever replaces it kills it in the end, and its runs go on.
    stream.process.send_signal(signal.SIGTERM)
    deployment.flows()
    assert stream.is_running
    stream.process.kill()
    stream.process.wait()
    deployment.flows()
    assert deployment.lease().holder == second
    stream.start()
    deployment.flows()
    deployment.replace_api()

    assert deployment.lease().holder == second
    assert deployment.runs() == {first: "FAILURE", second: "STARTED"}

    clients = deployment.clients
    clients.end()
    assert clients.refused > 0
    parity = verify(deployment.settings, wait_s=DEADLINE_S)
    assert parity.equal
    assert parity.lake_pairs >= clients.acknowledged > 100
