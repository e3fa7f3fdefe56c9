"""Requests as granian hands them over: unfinished ones stop nobody, slow answers are not cut, names are as sent."""

import http.client
import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from pydantic import SecretStr

from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.local.web import ApiServer
from movierec_platform.services.keys import Keys
from movierec_tests.api.test_ingest import RATING
from movierec_tests.api.test_serve import DEADLINE_S, environment, until
from movierec_tests.servers import empty_settings

UNFINISHED = 300

ECHO = """
import json, sys, time
from functools import partial
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from movierec_platform.api.errors import Problem
from movierec_platform.api.front import serve_worker

def application(environ, start):
    try:
        given = environ["wsgi.input"].read()
    except Problem as problem:
        start(f"{problem.status} Refused", [])
        return [b""]
    time.sleep(float(environ.get("HTTP_ANSWER_AFTER_S", 0)))
    told = {name: value for name, value in environ.items() if isinstance(value, str)}
    told["body"] = given.decode("latin-1")
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]

def work(worker_id, process_name, load, *granian):
    serve_worker(load(), 1.0, worker_id, process_name, *granian)

if __name__ == "__main__":
    ours = {"interface": Interfaces.RSGI, "http": HTTPModes.http1, "websockets": False}
    server = Granian("echo", address="127.0.0.1", port=int(sys.argv[1]), **ours)
    server.serve(spawn_target=work, target_loader=lambda: application, wrap_loader=False)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of a server that tells what it was sent; its patience is a second."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", ECHO, str(port)], stderr=subprocess.PIPE, text=True) as server:
        until(lambda: can_connect(port), "it listens")
        yield port
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=DEADLINE_S)[1]
    assert "Traceback" not in said, said


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def sent(port: int, head: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    connection.sendall(
        f"{head}\r\nHost: localhost\r\n".replace("\n", "\r\n").replace("\r\r", "\r").encode() + b"\r\n" + body
    )
    return connection


def told(connection: socket.socket) -> dict[str, str]:
    with connection, http.client.HTTPResponse(connection) as answer:
        answer.begin()
        assert answer.status == 200
        return json.load(answer)


def test_a_request_is_told_as_wsgi_says(echo):
    headers = "Content-Type: text/x\nContent-Length: 3\nX-One: 1\nX-One: 2\nCookie: a=1\nCookie: b=2"
    head = f"POST /caf%C3%A9%2Fx?q=%20&r HTTP/1.1\n{headers}"
    environ = told(sent(echo, head, b"abc"))
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/café/x"
    wanted = {
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "q=%20&r",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "3",
        "HTTP_X_ONE": "1,2",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": str(echo),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "body": "abc",
    }
    assert {name: environ[name] for name in wanted} == wanted
    assert "HTTP_CONTENT_LENGTH" not in environ
    assert "PATH" not in environ


def test_a_body_without_a_length_is_read_to_its_end(echo):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (b"one", b"x" * 100_000, b"three"))
    environ = told(sent(echo, "POST / HTTP/1.1\nTransfer-Encoding: chunked", chunks + b"0\r\n\r\n"))
    assert environ["body"] == "one" + "x" * 100_000 + "three"


def test_an_answer_that_takes_us_longer_than_a_client_may_take_is_not_cut(echo):
    head = "POST / HTTP/1.1\nContent-Length: 3\nAnswer-After-S: 2.5"
    waiting = [sent(echo, head, b"abc") for _ in range(4)]
    stalled = sent(echo, "POST / HTTP/1.1\nContent-Length: 3", b"ab")  # so that somebody is cut meanwhile
    assert [told(one)["body"] for one in waiting] == ["abc"] * 4
    assert first_line(stalled) == "HTTP/1.1 408 Request Timeout"


@pytest.fixture(scope="module")
def keyed(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API that needs keys."""
    yield from started(settings, tmp_path_factory, require_keys=True)


@pytest.fixture(scope="module")
def unkeyed(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that needs none."""
    yield from started(settings, tmp_path_factory, require_keys=False)


def started(settings: Settings, homes: pytest.TempPathFactory, require_keys: bool) -> Iterator[ApiServer]:
    own = empty_settings(settings, homes.mktemp("front") / "home")
    own = own.model_copy(update={"require_keys": require_keys, "request_timeout_s": 3_600.0})  # time alone cuts nobody
    state = State.open(own)
    own = own.model_copy(update={"api_key": SecretStr(Keys(state.keys).create("shop", ["read", "ingest"]).text)})
    state.close()
    server = ApiServer(own.home, 0)
    server.environment = environment(own)
    server.start()
    server.headers = {"X-API-Key": own.api_key.get_secret_value()} if require_keys else {}
    yield server
    assert server.stop()
    assert "Traceback" not in server.log.read_text()


def unfinished(api: ApiServer, path: str, kind: str) -> list[socket.socket]:
    """Requests with no key, the last byte of whose bodies is never sent."""
    head = f"POST {path} HTTP/1.1\nContent-Type: {kind}\nContent-Length: 9"
    return [sent(api.port, head, b"next=%2F") for _ in range(UNFINISHED)]


REFUSED = {"HTTP/1.1 429 Too Many Requests", "HTTP/1.1 408 Request Timeout"}
AWAITED = 40
"""Of one address, or a few more; of forms that anybody may send fewer."""
FORM, JSON = "application/x-www-form-urlencoded", "application/json"


@pytest.mark.parametrize(
    ("server", "path", "kind"),
    [("keyed", "/key", FORM), ("keyed", "/preferences", FORM), ("unkeyed", "/ingest", JSON), ("unkeyed", "/key", FORM)],
)
def test_unfinished_requests_stop_nobody(request, server, path, kind):
    """They are more than there are threads, and come again at once."""
    api = request.getfixturevalue(server)
    open_ones: list[socket.socket] = []
    for _ in range(2):
        open_ones += unfinished(api, path, kind)
        assert requests.get(f"{api.url}/health/live", timeout=DEADLINE_S).status_code == 200
        with ThreadPoolExecutor(8) as clients:
            answers = [clients.submit(posted_until_taken, api) for _ in range(40)]
        assert {answer.result() for answer in answers} == {202}
        until_refused(open_ones)
        open_ones = [one for one in open_ones if one.fileno() >= 0]
    for one in open_ones:
        one.close()


def posted_until_taken(api) -> int:
    """The status of a good post from the same address; on a busy machine it may be slow too, and told to come again."""
    for _ in range(10):
        answer = requests.post(f"{api.url}/ingest", json=RATING, headers=api.headers, timeout=DEADLINE_S)
        if answer.status_code != 429:
            break
        time.sleep(0.5)
    return answer.status_code


def until_refused(open_ones: list[socket.socket]) -> None:
    """All but a few are."""
    until(lambda: sum(map(has_answer, open_ones)) >= len(open_ones) - AWAITED, "most are refused")
    assert {first_line(one) for one in open_ones if has_answer(one)} <= REFUSED


def test_a_form_that_anybody_may_send_is_awaited_shortly(keyed):
    (stalled, *others) = unfinished(keyed, "/key", FORM)
    for one in others:
        one.close()
    assert first_line(stalled) in REFUSED


def test_a_slow_client_that_goes_on_sending_is_served(unkeyed):
    body = json.dumps(RATING).encode()
    connection = sent(unkeyed.port, f"POST /ingest HTTP/1.1\nContent-Length: {len(body)}")
    for byte in body:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)
    assert first_line(connection) == "HTTP/1.1 202 Accepted"


@pytest.mark.parametrize("name", ["X_API_Key", "x_api_key", "Content_Encoding", "X-API_Key", "_"])
def test_a_header_that_wsgi_would_take_for_another_is_refused(keyed, name):
    key = keyed.headers["X-API-Key"]
    for more in ("", f"\nX-API-Key: {key}"):
        answer = sent(keyed.port, f"GET /metrics HTTP/1.1\n{name}: {key}{more}")
        assert first_line(answer) == "HTTP/1.1 400 Bad Request"
    assert first_line(sent(keyed.port, f"GET /metrics HTTP/1.1\nX-API-Key: {key}")) == "HTTP/1.1 200 OK"


def first_line(connection: socket.socket) -> str:
    with connection, connection.makefile("rb") as answer:
        return answer.readline().decode().strip()


def has_answer(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])
