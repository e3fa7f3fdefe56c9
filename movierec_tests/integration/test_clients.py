"""Clients reach the servers that the settings name, whatever else the environment says."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretStr

from movierec_platform.adapters.aws import object_store_options, s3_client
from movierec_platform.adapters.dagster import graphql
from movierec_platform.adapters.graph_bulk import BatchEndpoint
from movierec_platform.adapters.http import http_session
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.queues import Queues
from movierec_platform.config import STACK_ENV, Settings, load_settings, write_env_file
from movierec_platform.errors import DagsterUnavailable, GraphUnavailable, UsageError
from movierec_platform.local.client import credentials, get_recommendations
from movierec_platform.local.traffic import post_traffic
from movierec_tests.hostile import KINDS, NOBODY, hostile_environment

Seen = tuple[str, str, str | None]
"""(port of the server, path, Authorization)"""


class Echo(http.server.ThreadingHTTPServer):
    """Answers everything with what each client asks for, and keeps what it was asked; /to/URL redirects there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _EchoHandler)
        self.seen: list[Seen] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _EchoHandler(http.server.BaseHTTPRequestHandler):
    server: Echo

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((str(self.server.server_port), self.path, self.headers["Authorization"]))
        onward = self.path.partition("/to/")[2]
        self.send_response(302 if onward else 202 if self.path == "/ingest" else 200)
        if onward:
            self.send_header("Location", onward)
        body = b'{"data": {}, "items": [], "accepted": 1, "rejected": 0, "result": []}'
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(params=KINDS)
def hostile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The process's environment is of this kind."""
    for name, text in hostile_environment(request.param, tmp_path / "user").items():
        monkeypatch.setenv(name, text)
    kind: str = request.param
    return kind


def test_objects_queues_and_lake_are_those_of_the_settings(fresh_settings: Settings, hostile: str) -> None:
    # A secret that no test had before: clients are kept by it.
    settings = fresh_settings.model_copy(update={"aws_secret_access_key": SecretStr(f"under {hostile}")})
    s3_client(settings).put_object(Bucket=settings.bucket, Key="k", Body=b"x")
    queue = Queues.open(settings).raw
    queue.send(["{}"])
    assert [message.body for message in queue.receive(wait_s=5)] == ["{}"]
    lake = Lake(settings)
    lake.write("t", pa.table({"a": [1, 2]}))
    assert lake.count("t") == 2
    listed = s3_client(settings).list_objects_v2(Bucket=settings.bucket)["Contents"]
    assert {one["Key"].partition("/")[0] for one in listed} == {"k", "lake"}


def test_the_api_dagster_and_the_graph_are_asked_with_our_credentials(
    fresh_settings: Settings, hostile: str, echo: Echo
) -> None:
    settings = fresh_settings.model_copy(update={"api_key": SecretStr("our-key"), "graph_http_url": echo.url})
    headers = credentials(settings)
    get_recommendations(echo.url, 1, {"n": 1}, headers)
    post_traffic(echo.url, iter([("good", {})]), 1, 0, headers=headers)
    graphql(echo.url, "{ version }")
    BatchEndpoint(settings).write([{}])
    said = [authorization for _, _, authorization in echo.seen]
    assert said[:3] == ["Bearer our-key", "Bearer our-key", None]
    assert str(said[3]).startswith("Basic ")


def test_a_server_elsewhere_is_asked_through_the_proxy(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", echo.url)
    with http_session({"Authorization": "Bearer our-key"}) as session:
        session.get("http://elsewhere.invalid/x", timeout=10)
    assert echo.seen == [(str(echo.server_port), "http://elsewhere.invalid/x", "Bearer our-key")]


def test_a_redirect_takes_no_key_elsewhere_and_finds_none_there(
    echo: Echo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for kind in ("proxy", "netrc"):
        for name, text in hostile_environment(kind, tmp_path).items():
            monkeypatch.setenv(name, text)
    with Echo() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with http_session({"Authorization": "Bearer our-key"}) as session:
            session.get(f"{echo.url}/to/{other.url.replace('127.0.0.1', 'localhost')}/x", timeout=10)
        other.shutdown()
        assert [authorization for _, _, authorization in (*echo.seen, *other.seen)] == ["Bearer our-key", None]


@pytest.mark.parametrize("url", ["http://[", "nonsense", "http://127.0.0.1:9"])
def test_an_address_that_leads_nowhere_gets_a_sentence(url: str, fresh_settings: Settings) -> None:
    with pytest.raises(DagsterUnavailable, match="does not answer"):
        graphql(url, "{ version }")
    with pytest.raises(GraphUnavailable, match="MOVIEREC_GRAPH_HTTP_URL"):
        BatchEndpoint(fresh_settings.model_copy(update={"graph_http_url": url})).write([{}])


def test_on_aws_its_own_configuration_counts_and_is_named_where_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, aws_access_key_id="k", aws_secret_access_key=SecretStr("aws"))
    assert settings.aws_endpoint_url is None
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    with pytest.raises(UsageError, match="nosuch"):
        s3_client(settings)
    assert "proxy_url" not in object_store_options(settings)
    elsewhere = settings.model_copy(update={"aws_endpoint_url": "https://s3.example.org"})
    assert "proxy_url" not in object_store_options(elsewhere)
    assert s3_client(elsewhere).meta.endpoint_url == "https://s3.example.org"


def test_region_and_credentials_of_a_stack_come_with_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in hostile_environment("other_account", tmp_path).items():
        monkeypatch.setenv(name, text)
    stack = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4567",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "movierec",
        "AWS_SECRET_ACCESS_KEY": "of-the-stack",
    }
    write_env_file(tmp_path / STACK_ENV, stack)

    def found(**given: str) -> tuple[str | None, str, str | None, bool]:
        at = load_settings({"home": tmp_path, **given})
        return at.aws_endpoint_url, at.aws_region, at.aws_access_key_id, at.aws_session_token is None

    of_the_stack = ("http://127.0.0.1:4567", "us-east-1", "movierec", True)
    assert found() == of_the_stack
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack["AWS_ENDPOINT_URL"])
    assert found() == of_the_stack
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOBODY)
    assert found() == (NOBODY, "eu-west-1", "123456789012", False)
    assert found(aws_endpoint_url="http://127.0.0.1:1")[1:] == ("eu-west-1", "123456789012", False)
    (tmp_path / STACK_ENV).unlink()
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert found() == (None, "eu-west-1", "123456789012", False)
