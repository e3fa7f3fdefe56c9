"""Pages of other sites get nothing from the API, and browsers are told what to heed."""

import pytest

from movierec_platform.api.app import create_app, services_of

SITE = "https://app.example"


@pytest.fixture(scope="module")
def opened(settings, tmp_path_factory):
    """An application that one site may use, under one more name."""
    own = {
        "home": tmp_path_factory.mktemp("opened"),
        "raw_queue_url": "unused",
        "cors_origins": f"{SITE}, https://other.example/",
        "allowed_hosts": "movies.example",
    }
    app = create_app(settings.model_copy(update=own))
    yield app.test_client()
    services_of(app).close()


@pytest.mark.parametrize("path", ["/health/live", "/nothing", "/recommend/zero", "/docs"])
def test_every_answer_has_the_headers_that_browsers_heed(idle_client, path):
    headers = idle_client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:5000", 200),
        ("127.0.0.1:5000", 200),
        ("[::1]:5000", 200),
        ("evil.example:5000", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.evil.example", 400),
        ("[::1", 400),
        ("10.0.0.1", 400),
        ("me@evil.example", 400),
        ("localhost@evil.example", 400),
    ],
)
def test_without_keys_it_answers_by_its_own_names_only(idle_client, host, status):
    answer = idle_client.get("/health/live", headers={"Host": host})
    assert answer.status_code == status
    if status == 400:
        assert answer.json["type"] == "/problems/foreign-host"
        assert "add the name to MOVIEREC_ALLOWED_HOSTS" in answer.json["detail"]


def test_a_name_can_be_added(opened):
    assert opened.get("/health/live", headers={"Host": "movies.example:80"}).status_code == 200
    assert opened.get("/health/live", headers={"Host": "films.example"}).status_code == 400


def test_a_site_that_may_is_told_so_and_no_other(opened):
    allowed = opened.get("/health/live", headers={"Origin": SITE})
    assert allowed.headers["Access-Control-Allow-Origin"] == SITE
    assert "X-Request-ID" in allowed.headers["Access-Control-Expose-Headers"]
    assert "Origin" in allowed.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    for origin in ("https://evil.example", f"{SITE}.evil.example", "null", SITE.upper()):
        refused = opened.get("/health/live", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in refused.headers
        assert "Origin" in refused.headers["Vary"]


def test_a_preflight_tells_what_may_be_sent(opened):
    asked = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    headers = opened.options("/ingest", headers=asked).headers
    assert set(headers["Access-Control-Allow-Methods"].split(", ")) == {"OPTIONS", "POST"}
    assert {"Authorization", "Content-Type"} <= set(headers["Access-Control-Allow-Headers"].split(", "))
    assert headers["Access-Control-Max-Age"] == "600"


@pytest.mark.parametrize(
    ("origin", "status"), [(SITE, 400), ("https://other.example", 400), ("https://a.example", 403)]
)
def test_a_site_that_may_can_post(opened, origin, status):
    assert opened.post("/ingest", data="{", headers={"Origin": origin}).status_code == status
