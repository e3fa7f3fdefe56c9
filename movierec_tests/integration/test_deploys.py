"""A new release of the code server while a drain run is at work: the flow goes on, and no second run drains beside it.

Refused events are drained into a state database on Postgres, by a daemon and a code server as in the local stack. It
takes 25 seconds: the sensor daemon looks every five, and two runs are launched.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg
import pytest
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
from movierec_tests.postgres import PostgresServer

DEADLINE_S = 240.0


class LoneDaemon(Daemon):
    """A daemon that knows one code location and is asked by no webserver."""

    def command(self) -> Command:
        arguments = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(self.home / "workspace.yaml")]
        return Command(arguments, self.environment)

    def is_ready(self) -> bool:
        return True


@dataclass
class Deployment:
    """A code server, which may be replaced, and what its runs do."""

    settings: Settings
    instance: dg.DagsterInstance
    stream: StreamServer
    state: State
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
        """Status by id of all runs, the first first."""
        return {run.run_id: run.status.value for run in reversed(self.instance.get_runs())}


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
def deployment(fresh_settings: Settings, postgres_server: PostgresServer) -> Iterator[Deployment]:
    settings = fresh_settings.model_copy(
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
    daemon = LoneDaemon(home, 0)
    stream.environment = daemon.environment = environment
    stream.reserve_port()
    location = f"{{host: {stream.host}, port: {stream.port}, location_name: stream}}"
    (home / "workspace.yaml").write_text(f"load_from:\n  - grpc_server: {location}\n")
    with contextlib.ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(dagster_home(home))))
        state = State.open(settings)
        stack.callback(state.close)
        for server in (stream, daemon):
            stack.callback(server.stop)
            server.start()
        stack.callback(lambda: [kill(pid) for pid in leaders])
        yield Deployment(settings, instance, stream, state)


def test_a_deploy_neither_stops_the_flow_nor_starts_a_second_drain(deployment: Deployment) -> None:
    stream = deployment.stream
    deployment.flows()
    [first] = deployment.runs()
    assert deployment.lease().holder == first

    # A container ends with all that is in it: nobody is left to say that the run has failed.
    deployment.send()
    kill(stream.process.pid)
    stream.process.wait()
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

    assert deployment.lease().holder == second
    assert deployment.runs() == {first: "FAILURE", second: "STARTED"}
