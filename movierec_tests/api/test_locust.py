"""The Locust load as `movierec traffic --locust` runs it, on an API that wants keys. Takes 15 s: two runs of Locust."""

import contextlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import requests
from flask import Flask
from typer.testing import CliRunner
from werkzeug.serving import make_server

from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.state import State
from movierec_platform.api.app import create_app, services_of
from movierec_platform.cli.main import app as movierec
from movierec_platform.config import inherited_environment
from movierec_platform.domain.envelope import raw_events
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge
from movierec_platform.errors import Transient, UsageError
from movierec_platform.services.keys import Keys
from movierec_tests.api.conftest import Platform
from movierec_tests.api.test_serve import DEADLINE_S, until

TITLES = (
    "The Godfather",
    "Amélie",
    "Toy Story",
    "Toy Story 2",
    "Se7en",
    "Back to the Future",
    "¡Three Amigos!",
    "12 Angry Men",
    "Ocean's Eleven",
    "Up",
    "Star Wars: Episode IV - A New Hope",
    "Casablanca",
)
FILMS = {number: (title, 1970 + number, ["Drama"]) for number, title in enumerate(TITLES, 1)}


@pytest.fixture
def platform(empty_platform: Platform) -> Platform:
    """Enough films for full lists, with titles that one can type wrong."""
    empty_platform.load(FILMS, {number: 2 * number for number in FILMS})
    empty_platform.publish()
    return empty_platform


@pytest.fixture
def app(platform: Platform) -> Iterator[Flask]:
    """The application; it wants keys."""
    app = create_app(platform.settings.model_copy(update={"snapshot_poll_s": 3600.0, "require_keys": True}))
    yield app
    services_of(app).close()


@pytest.fixture
def api_url(app: Flask) -> Iterator[str]:
    """The application over HTTP, in a thread of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def new_key(platform: Platform) -> Iterator[Callable[..., str]]:
    """Makes a key with these scopes."""
    state = State.open(platform.settings)
    yield lambda *scopes: Keys(state.keys).create("load", scopes).text
    state.close()


@pytest.fixture
def traffic(tmp_path: Path, api_url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `movierec traffic --locust` with this key; what still runs afterwards is asked to end."""
    started: list[subprocess.Popen[str]] = []

    def start(key: str, *options: str, **variables: str) -> subprocess.Popen[str]:
        own = {"MOVIEREC_HOME": str(tmp_path), "MOVIEREC_API_URL": api_url, "MOVIEREC_API_KEY": key, "COLUMNS": "200"}
        child = subprocess.Popen(
            [sys.executable, "-m", "movierec_platform.cli", "traffic", "--locust", *options],
            env={**inherited_environment(), **own, **variables, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.terminate()
        child.communicate(timeout=DEADLINE_S)


def rows_of(printed: str) -> dict[str, list[int]]:
    """The printed table's whole numbers by endpoint: requests, p50, p95 and p99 in ms, failures."""
    table = printed.partition("endpoint ")[2].splitlines()[1:]
    lines = [cells for line in table if len(cells := re.split("  +", line)) == 7]
    return {name: [int(cell.replace(",", "")) for cell in (n, *rest)] for name, n, _, *rest in lines}


def report_of(printed: str) -> str:
    """The HTML of the report that was printed."""
    (path,) = re.findall(r"^report: (.+)$", printed, re.MULTILINE)
    return Path(path).read_text(encoding="utf-8")


def test_a_load_of_everything_is_answered_in_full_and_what_it_posts_is_landed(traffic, new_key, platform) -> None:
    key = new_key("read", "ingest")
    asked = ("GET /recommend/[user]", "GET /v1/movies/[movie]/similar", "GET /v1/movies?q=")
    posted = tuple(f"POST /ingest, {kind}" for kind in ("one event", "a batch", "gzip NDJSON"))
    for duration in (5, 30, 120):  # on a busy machine Locust needs longer to have asked for everything
        run = traffic(key, "--users", "20", "--spawn-rate", "20", "--duration", str(duration))
        process = psutil.Process(run.pid)
        until(process.children, "Locust runs")
        arguments = [word for one in process.children() for word in one.cmdline()]
        printed, errors = run.communicate(timeout=duration + DEADLINE_S)
        rows = rows_of(printed)
        if rows.keys() == {*asked, *posted, "all"}:
            break
    assert run.returncode == 0, printed + errors
    assert rows.keys() == {*asked, *posted, "all"}
    *parts, together = rows.values()
    assert together[0] == sum(part[0] for part in parts)
    assert all(p50 <= p95 <= p99 and not failures for _, p50, p95, p99, failures in rows.values())
    report = report_of(printed)
    assert "/v1/movies/[movie]/similar" in report
    assert not [text for text in (*arguments, printed, errors, report) if key in text]
    assert "--headless" in arguments

    objects = open_objects(platform.settings)
    landed = [line for name in objects.keys("raw/") for line in raw_events(objects.get(name))]
    verdicts = [judge(event, received_at_ms) for event, received_at_ms in landed]
    accepted = [verdict for verdict in verdicts if isinstance(verdict, Event)]
    assert len(landed) >= rows["POST /ingest, one event"][0] + 500 * rows["POST /ingest, gzip NDJSON"][0]
    assert 0.9 * len(landed) < len(accepted) < len(landed)
    # an unknown movie passes the gate: it is the graph ingest that finds it
    assert {event.movie_id for event in accepted if event.movie_id < 2_000_000_000} <= FILMS.keys()


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that is taken, below those that the system gives to connections: the next stays free until it is used."""
    with socket.socket() as taken:
        while True:
            with contextlib.suppress(OSError):
                taken.bind(("127.0.0.1", random.randrange(10_000, 30_000)))
                break
        yield taken.getsockname()[1]


def test_a_load_from_the_page_that_ctrl_c_ends_is_reported_with_what_failed(traffic, new_key, busy_port) -> None:
    run = traffic(new_key("read"), "--ui", MOVIEREC_LOCUST_PORT=str(busy_port))
    line = run.stdout.readline()
    assert f"(port {busy_port} was busy)" in line
    (page,) = re.findall(r"http://127.0.0.1:\d+", line)

    def is_there() -> bool:
        assert run.poll() is None
        try:
            return requests.get(page, timeout=DEADLINE_S).status_code == 200
        except requests.ConnectionError:
            return False

    def fails() -> list[object]:
        return requests.get(f"{page}/stats/requests", timeout=DEADLINE_S).json()["errors"]

    until(is_there, "Locust's page is there")
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert requests.get(f"{page}/stop", headers=headers, timeout=DEADLINE_S).status_code == 403
    requests.post(f"{page}/swarm", {"user_count": 5, "spawn_rate": 5}, timeout=DEADLINE_S).raise_for_status()
    until(fails, "a post with a key that may only read fails")
    run.send_signal(signal.SIGINT)
    printed, errors = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == 1
    assert "requests failed: the report says which and why" in errors
    assert rows_of(printed)["all"][-1] > 0
    assert "status 403 and not 202" in report_of(printed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--locust", "--bad", "0.1"], "--bad can only be given without --locust"),
        (["--locust", "--events", "5", "--seed", "1"], "--events and --seed can only be given without --locust"),
        (["--users", "5"], "--users can only be given with --locust"),
        (["--ui", "--spawn-rate", "2"], "--spawn-rate and --ui can only be given with --locust"),
        (["--report", "here.html", "--bad", "0.1"], "--report can only be given with --locust"),
    ],
    ids=["bad", "events and seed", "users", "ui and spawn rate", "report"],
)
def test_options_of_the_other_kind_of_traffic_are_refused_before_anything_is_asked(
    arguments: Sequence[str], said: str
) -> None:
    error = CliRunner().invoke(movierec, ["traffic", *arguments]).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(said)


def test_a_load_that_cannot_begin_says_why(tmp_path, monkeypatch, api_url, closed_port) -> None:
    def refusal(url: str = api_url) -> BaseException | None:
        asked = {"MOVIEREC_HOME": str(tmp_path), "MOVIEREC_API_URL": url, "MOVIEREC_API_KEY": ""}
        return CliRunner().invoke(movierec, ["traffic", "--locust"], env=asked).exception

    away, no_key = refusal(f"http://127.0.0.1:{closed_port}"), refusal()
    assert isinstance(away, Transient)
    assert "start it with `movierec up`" in str(away)
    assert isinstance(no_key, UsageError)
    assert "needs an API key" in str(no_key)
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "locust", None)
        assert str(refusal()) == "locust is not installed: pip install '.[load]'"
    with monkeypatch.context() as installed:
        installed.setattr("movierec_platform.cli.invocation.__file__", str(tmp_path / "site" / "cli" / "invocation.py"))
        assert "movierec_tests is in the source repository" in str(refusal())
    assert not (tmp_path / "reports").exists()
