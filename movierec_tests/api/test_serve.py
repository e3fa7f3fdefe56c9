"""The API and the exporter as processes: how they start, stop, and refuse to start."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
import requests

from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, inherited_environment, variables_of
from movierec_platform.local.web import ApiServer, MetricsServer
from movierec_platform.services.exposition import PARTS
from movierec_platform.services.keys import Keys
from movierec_tests.api.test_ingest import RATING, VIEW, landed

DEADLINE_S = 120.0


def until(condition: Callable[[], bool], what: str) -> None:
    """The condition holds; fails after the deadline."""
    ends = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {DEADLINE_S:.0f} s"
        time.sleep(0.02)


def environment(settings: Settings, **changed: str) -> dict[str, str]:
    return {**inherited_environment(), **variables_of(settings), **changed}


def refused(settings: Settings, role: str, **changed: str) -> str:
    """What it says when it refuses to start."""
    arguments = [sys.executable, "-m", "movierec_platform.cli", "serve", role]
    ended = subprocess.run(
        arguments, env=environment(settings, **changed), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.fixture
def api(fresh_settings: Settings) -> Iterator[ApiServer]:
    server = ApiServer(fresh_settings.home, 0)
    server.environment = environment(fresh_settings)
    server.start()
    yield server
    server.stop()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_request_in_flight_is_answered_and_the_lander_closed_before_it_ends(api, fresh_settings):
    body = json.dumps(RATING).encode()
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=DEADLINE_S)
    connection.putrequest("POST", "/ingest")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:10])
    other = requests.get(f"{api.url}/health/live", timeout=DEADLINE_S)  # so the first request is being worked on
    assert other.status_code == 200
    os.kill(api.process.pid, signal.SIGTERM)
    until(lambda: not listens(api.port), "the port is closed")
    connection.send(body[10:])
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["accepted"]) == (202, 1)
    connection.close()
    assert api.process.wait(DEADLINE_S) == 0
    assert "stopped: everything acknowledged is durable" in api.log.read_text()
    assert landed(fresh_settings) == [RATING]


def test_the_worker_does_not_outlive_a_parent_that_is_killed(api):
    (worker,) = psutil.Process(api.process.pid).children()
    api.process.kill()
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker has ended")
    assert not listens(api.port)
    assert "stopped: everything acknowledged is durable" in api.log.read_text()


def test_a_worker_that_is_killed_is_replaced(api, fresh_settings):
    parent = psutil.Process(api.process.pid)
    (worker,) = parent.children()
    assert requests.post(f"{api.url}/ingest", json=RATING, timeout=DEADLINE_S).status_code == 202
    worker.kill()
    until(lambda: posted(api, VIEW), "posts succeed again")
    assert api.process.poll() is None
    assert [child.pid for child in parent.children()] != [worker.pid]
    api.process.terminate()
    assert api.process.wait(DEADLINE_S) == 0
    assert "stopped: everything acknowledged is durable" in api.log.read_text()
    assert landed(fresh_settings) == [RATING, VIEW]


def posted(api: ApiServer, event: dict) -> bool:
    """Whether the event was acknowledged."""
    try:
        return requests.post(f"{api.url}/ingest", json=event, timeout=DEADLINE_S).status_code == 202
    except requests.ConnectionError:
        return False


def test_its_log_is_a_json_line_a_request(api):
    requests.get(f"{api.url}/recommend/zero", headers={"X-Request-ID": "r-7"}, timeout=DEADLINE_S)
    until(lambda: '"r-7"' in api.log.read_text(), "its line is written")
    lines = [json.loads(line) for line in api.log.read_text().splitlines()]
    assert "_granian" in {one["logger"] for one in lines}
    (line,) = [one for one in lines if one.get("request_id") == "r-7"]
    assert {name: line[name] for name in ("level", "logger", "route", "status")} == {
        "level": "info",
        "logger": "movierec_platform.access",
        "route": "/recommend/<user>",
        "status": 400,
    }


def test_the_processes_do_not_load_pandas(api):
    (worker,) = psutil.Process(api.process.pid).children()
    requests.get(f"{api.url}/health/ready", timeout=DEADLINE_S)
    mapped = {os.path.basename(file.path) for file in worker.memory_maps()}
    assert any(name.startswith("_multiarray_umath") for name in mapped)  # numpy: the look at the maps sees libraries
    assert not any("pandas" in file.path for file in worker.memory_maps())


@pytest.mark.parametrize(("role", "variable"), [("api", "MOVIEREC_API_HOST"), ("metrics", "MOVIEREC_METRICS_HOST")])
@pytest.mark.parametrize("host", ["::", "192.0.2.1", "example.org", "0.0.0.0"])  # noqa: S104
def test_an_address_that_others_reach_is_refused_while_there_are_no_keys(fresh_settings, role, variable, host):
    assert f"{host} is reachable from other machines" in refused(fresh_settings, role, **{variable: host})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"MOVIEREC_API_HOST": "192.0.2.1"}, "192.0.2.1 is reachable from other machines"),
        ({"MOVIEREC_REQUIRE_KEYS": "true"}, "MOVIEREC_REQUIRE_KEYS is true"),
    ],
    ids=["reached", "asked"],
)
def test_where_keys_are_required_it_does_not_start_before_there_is_one_that_holds(fresh_settings, changed, why):
    state = State.open(fresh_settings)
    keys = Keys(state.keys)
    keys.revoke(keys.create("gone", ["read"]).key.id)
    said = refused(fresh_settings, "api", **changed)
    assert f"{why} and there is no active API key: make one with `movierec keys create NAME --scope read`" in said
    keys.create("shop", ["read"])
    state.close()
    with socket.create_server(("127.0.0.1", 0)) as taken:  # the next thing that it checks
        port = str(taken.getsockname()[1])
        assert "cannot listen on" in refused(fresh_settings, "api", **changed, MOVIEREC_API_PORT=port)


def test_a_head_that_is_too_long_is_refused(api):
    def status(path: str, **headers: str) -> int:
        return requests.get(f"{api.url}{path}", headers=headers, timeout=DEADLINE_S).status_code

    assert status("/health/live", fits="x" * 20_000) == 200
    assert status("/health/live", **{f"h{number}": "x" for number in range(200)}) == 431
    assert status(f"/health/live?{'x' * 65_600}") == 414
    with contextlib.suppress(requests.ConnectionError):  # when it is closed before all was sent
        assert status("/health/live", long="x" * 500_000) == 431


@pytest.mark.parametrize(("role", "variable"), [("api", "MOVIEREC_API_PORT"), ("metrics", "MOVIEREC_METRICS_PORT")])
def test_a_busy_port_is_refused_rather_than_shared(fresh_settings, role, variable):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1 port {port}" in refused(fresh_settings, role, **{variable: port})


def test_the_exporter_serves_metrics_and_ends_when_it_is_asked_to(fresh_settings):
    server = MetricsServer(fresh_settings.home, 0)
    server.environment = environment(fresh_settings)
    server.start()
    try:
        text = requests.get(f"{server.url}/metrics", timeout=DEADLINE_S).text
        for part in PARTS:
            assert f'movierec_part_up{{part="{part}"}} 1.0' in text
        assert "process_start_time_seconds" in text
    finally:
        assert server.stop()
    assert server.process.returncode == 0


def test_clients_of_the_exporter_that_say_nothing_have_few_threads_and_stop_nobody(fresh_settings):
    server = MetricsServer(fresh_settings.home, 0)
    server.environment = environment(fresh_settings)
    server.start()
    process = psutil.Process(server.process.pid)
    before = process.num_threads()
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) for _ in range(100)]
    try:
        assert requests.get(f"{server.url}/health/live", timeout=DEADLINE_S).status_code == 200
        assert process.num_threads() < before + 40
        assert silent[0].recv(1) == b""
    finally:
        for one in silent:
            one.close()
        assert server.stop()
