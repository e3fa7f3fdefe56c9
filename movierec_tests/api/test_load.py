"""Bad load on the API as a process: each has a defined answer, others are served, and memory stays bounded."""

import gzip
import http.client
import json
import random
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import requests

from movierec_platform.config import Settings
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.web import ApiServer
from movierec_tests.api.test_ingest import RATING, landed
from movierec_tests.api.test_serve import DEADLINE_S, environment, until

TINY_REQUESTS, TINY_REQUESTS_LONG = 3_000, 100_000
REQUEST_TIMEOUT_S = 2.0
MB = 1024 * 1024


@pytest.fixture(scope="module")
def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the server under load, which loses patience early."""
    home = tmp_path_factory.mktemp("load")
    own = settings.model_copy(
        update={
            "home": home,
            "bucket": "bad-load",
            "request_timeout_s": REQUEST_TIMEOUT_S,
            "max_request_events": 100_000,
        }
    )
    return own.model_copy(update=asdict(provision(own, prefix="bad-load")))


@pytest.fixture(scope="module")
def api(served: Settings) -> Iterator[ApiServer]:
    server = ApiServer(served.home, 0)
    server.environment = environment(served)
    server.start()
    yield server
    assert server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def grown(api: ApiServer) -> Callable[[], float]:
    """Megabytes that the worker took since the test began, at the most; on systems other than Linux, now."""
    (worker,) = psutil.Process(api.process.pid).children()
    reset, status = Path(f"/proc/{worker.pid}/clear_refs"), Path(f"/proc/{worker.pid}/status")
    if reset.exists():
        reset.write_text("5")
    before = worker.memory_info().rss

    def most() -> float:
        if not reset.exists():
            return (worker.memory_info().rss - before) / MB
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024 - before / MB

    return most


def post(api: ApiServer, body: bytes, **headers: str) -> requests.Response:
    return requests.post(f"{api.url}/ingest", body, headers=headers, timeout=DEADLINE_S)


def raw(api: ApiServer, sent: bytes) -> socket.socket:
    """A connection on which this was sent."""
    connection = socket.create_connection(("127.0.0.1", api.port), timeout=DEADLINE_S)
    connection.sendall(sent)
    return connection


def head(length: int) -> bytes:
    return (
        b"POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
        % length
    )


def bomb(megabytes: int) -> bytes:
    """So many megabytes of spaces as one gzip member."""
    compressor = zlib.compressobj(wbits=31)
    return b"".join(compressor.compress(b" " * MB) for _ in range(megabytes)) + compressor.flush()


def test_garbage_is_refused_and_leaves_nothing(api, grown):
    dice = random.Random(4)
    bodies = [dice.randbytes(size) for size in (1, 100, 10_000, MB, 4 * MB) for _ in range(4)]
    bodies += [b"[" * MB, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900, b"\x00" * MB, b'"' * MB, b"-" * MB]
    for kind in ("application/json", "application/x-ndjson", "application/octet-stream"):
        answers = [post(api, body, **{"Content-Type": kind}) for body in bodies]
        assert {answer.status_code for answer in answers} == {400}
        assert {answer.headers["Content-Type"] for answer in answers} == {"application/problem+json"}
    assert grown() < 60


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (bomb(50), 413, "body-too-large"),
        (bomb(1) * 50, 413, "body-too-large"),
        (gzip.compress(bomb(50), mtime=0), 400, "malformed-json"),
        (gzip.compress(b"[" * 4 * MB, mtime=0), 400, "malformed-json"),
    ],
    ids=["50 MB", "50 members of 1 MB", "a bomb in a gzip", "4 MB of nesting"],
)
def test_gzip_bombs_are_dropped_at_the_limit_however_many_come_at_once(api, grown, body, status, slug):
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: post(api, body, **{"Content-Encoding": "gzip"}), range(16)))
    assert {(answer.status_code, answer.json()["type"]) for answer in answers} == {(status, f"/problems/{slug}")}
    assert grown() < 150  # eight at once would take 400


def test_thousands_of_tiny_requests_are_all_answered(api, grown, request):
    tiny_requests(api, TINY_REQUESTS_LONG if request.config.getoption("--long") else TINY_REQUESTS)
    assert grown() < 40


def tiny_requests(api: ApiServer, count: int, clients: int = 20) -> None:
    """So many requests of one event over kept connections, each answered 202."""

    def post_many(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=DEADLINE_S)
        for index in range(count // clients):
            connection.request("POST", "/ingest", b'{"event_id": "%d-%d"}' % (number, index))
            answer = connection.getresponse()
            assert (answer.status, json.load(answer)["accepted"]) == (202, 1)
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(post_many, range(clients)))


def test_slow_clients_stop_nobody_and_are_cut_off(api):
    body = json.dumps(RATING).encode()
    stalled = [raw(api, head(1_000) + b"{") for _ in range(40)]
    dripping = [raw(api, head(1_000) + b"{") for _ in range(40)]
    left = set(stalled + dripping)

    def all_are_cut() -> bool:
        for connection in dripping:
            if connection in left and not drips(connection):
                left.discard(connection)
        for connection in stalled:
            if connection in left and is_closed(connection):
                left.discard(connection)
        assert post(api, body).status_code == 202
        assert requests.get(f"{api.url}/health/live", timeout=DEADLINE_S).status_code == 200
        return not left

    until(all_are_cut, "every slow client is cut off")
    for connection in stalled + dripping:
        connection.close()


def drips(connection: socket.socket) -> bool:
    """Whether one byte more could be sent."""
    try:
        connection.sendall(b" ")
    except OSError:
        return False
    return not is_closed(connection)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has ended it, by whatever answer."""
    connection.setblocking(False)
    try:
        connection.recv(1000)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(DEADLINE_S)


def test_connections_that_are_answered_again_and_again_are_kept(api):
    """They live longer than any one request may last, though they wait for an answer whenever one looks."""
    ends = time.monotonic() + 1.5 * REQUEST_TIMEOUT_S

    def post_until_then(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=DEADLINE_S)
        while time.monotonic() < ends:
            connection.request("POST", "/ingest", json.dumps(RATING).encode())
            answer = connection.getresponse()
            assert (answer.status, json.load(answer)["accepted"]) == (202, 1)
        connection.close()

    with ThreadPoolExecutor(24) as clients:
        list(clients.map(post_until_then, range(24)))


def test_a_client_that_goes_away_in_the_middle_lands_nothing(fresh_settings):
    server = ApiServer(fresh_settings.home, 0)
    server.environment = environment(fresh_settings)
    server.start()
    try:
        line = json.dumps(RATING).encode() + b"\n"
        for _ in range(20):
            raw(server, head(10 * len(line)) + line * 3).close()
        until(lambda: server.log.read_text().count('"status":400') == 20, "each has been given up")
        assert landed(fresh_settings) == []
        assert post(server, line).status_code == 202
    finally:
        assert server.stop()
    assert landed(fresh_settings) == [RATING]


def test_more_connections_than_fit_wait_for_their_turn(api):
    fitting = 1024
    idle = [raw(api, b"") for _ in range(fitting)]
    late = raw(api, head(len(b"{}")) + b"{}")
    idle[0].close()
    idle[1].close()
    assert late.recv(12) == b"HTTP/1.1 202"
    for connection in (*idle, late):
        connection.close()
    assert post(api, b"{}").status_code == 202
