"""Whatever goes wrong is a problem document with a request id; nothing of the inside is shown."""

import logging

import pytest
from flask import Flask

from movierec_platform.api.app import create_app, services_of
from movierec_platform.api.errors import answer_errors
from movierec_platform.errors import DagsterUnavailable, GraphUnavailable, LakeUnavailable, StateUnavailable, UsageError


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing/here", 404, "not-found"),
        ("GET", "/recommend//1", 404, "not-found"),
        ("GET", "/recommend/", 404, "not-found"),
        ("PUT", "/ingest", 405, "method-not-allowed"),
        ("BREW", "/recommend/1", 405, "method-not-allowed"),
        ("GET", "/recommend/zero", 400, "bad-parameter"),
    ],
)
def test_what_is_refused_is_a_problem(idle_client, method, path, status, slug):
    answer = idle_client.open(path, method=method)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert set(answer.json) == {"type", "title", "status", "detail", "request_id"}
    assert (answer.json["type"], answer.json["status"]) == (f"/problems/{slug}", status)
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


def test_a_wrong_method_names_the_right_ones(idle_client):
    assert set(idle_client.put("/ingest").headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def failing(error: Exception) -> Flask:
    app = Flask("movierec_platform.failing")
    answer_errors(app)

    @app.get("/")
    def fail() -> str:
        raise error

    return app


def test_a_defect_is_a_500_whose_traceback_is_in_the_log_only(caplog):
    answer = failing(ZeroDivisionError("secret detail")).test_client().get("/")
    assert (answer.status_code, answer.json["type"]) == (500, "/problems/internal-error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (GraphUnavailable("bolt://10.0.0.1 refused"), "graph-unavailable"),
        (LakeUnavailable("s3://10.0.0.1 refused"), "lake-unavailable"),
        (StateUnavailable("postgres://10.0.0.1 refused"), "state-unavailable"),
        (DagsterUnavailable("http://10.0.0.1 refused"), "unavailable"),
        (UsageError("10.0.0.1 refuses NEO4J_PASSWORD"), "misconfigured"),
    ],
)
def test_a_part_that_is_away_is_a_503_that_shows_no_address(caplog, error, slug):
    answer = failing(error).test_client().get("/")
    assert (answer.status_code, answer.json["type"]) == (503, f"/problems/{slug}")
    assert "10.0.0.1" not in answer.text
    assert "10.0.0.1" in caplog.text


def test_the_request_id_of_a_client_is_kept_and_one_that_is_none_is_replaced(idle_client):
    def request_id(given: str) -> str:
        return idle_client.get("/health/live", headers={"X-Request-ID": given}).headers["X-Request-ID"]

    assert request_id("order-66.a_B") == "order-66.a_B"
    assert len(request_id("two words")) == len(request_id("x" * 65)) == 32


def test_each_request_has_one_line_in_the_access_log(idle_client, caplog):
    with caplog.at_level(logging.INFO, "movierec_platform.access"):
        idle_client.get("/recommend/zero?n=5", headers={"X-Request-ID": "r-1"})
    (line,) = [record.msg for record in caplog.records if record.name == "movierec_platform.access"]
    assert line.pop("ms") >= 0
    assert line == {"method": "GET", "route": "/recommend/<user>", "status": 400, "request_id": "r-1"}


ODD = [
    "http://[",
    "//[",
    "[",
    "http://]",
    "http://[::1",
    "http://x:y:z",
    "http://℀",
    "%ff",
    ";;=,,",
    "q=;",
    '"',
    "é",
    "1e999",
    "Bearer",
]


@pytest.mark.parametrize(
    "header",
    [
        "Accept",
        "Accept-Language",
        "Authorization",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Host",
        "If-None-Match",
        "Origin",
        "Range",
        "Referer",
        "Sec-Fetch-Site",
        "X-API-Key",
        "X-Request-ID",
    ],
)
def test_no_header_however_odd_is_a_defect_of_ours(idle_client, keyed_client, header):
    for client in (idle_client, keyed_client):
        for method, path in (
            ("GET", "/nothing"),
            ("POST", "/preferences"),
            ("POST", "/ingest"),
            ("OPTIONS", "/ingest"),
        ):
            for value in ODD:
                given = {header: value.encode().decode("latin-1")}
                assert client.open(path, method=method, headers=given, data=b"[").status_code < 500, (path, value)


@pytest.fixture(scope="module")
def keyed_client(settings, tmp_path_factory):
    """Of an application that needs keys; it has none."""
    own = {"home": tmp_path_factory.mktemp("odd"), "raw_queue_url": "unused", "require_keys": True}
    app = create_app(settings.model_copy(update=own))
    yield app.test_client()
    services_of(app).close()


@pytest.mark.parametrize(
    ("origin", "status"), [("https://a.example", 403), ("null", 403), ("http://[", 403), ("http://localhost", 400)]
)
def test_a_page_of_another_site_cannot_post(idle_client, origin, status):
    answer = idle_client.post("/ingest", data="{", headers={"Origin": origin})
    assert answer.status_code == status
