"""Who may ask what of the API, and what a request leaves in the log."""

import logging

import pytest
from pydantic import SecretStr

from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import Settings
from movierec_platform.domain.keys import SCOPES
from movierec_platform.services.keys import Keys

NEEDED = {
    ("POST", "/ingest"): "ingest",
    ("GET", "/recommend/1"): "read",
    ("GET", "/health/ready"): "read",
    ("GET", "/metrics"): "read",
    ("GET", "/v1/quarantine"): "admin",
    ("POST", "/v1/quarantine/discard"): "admin",
    ("GET", "/v1/keys"): "admin",
    ("POST", "/v1/keys"): "admin",
    ("DELETE", "/v1/keys/0"): "admin",
}
BEARER = 'Bearer realm="movierec"'


@pytest.fixture(scope="module")
def app(settings, tmp_path_factory):
    """An application that others reach; nothing is loaded."""
    own = {"home": tmp_path_factory.mktemp("keyed"), "raw_queue_url": "unused", "api_host": "192.0.2.1"}
    app = create_app(settings.model_copy(update=own))
    yield app
    services_of(app).close()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="module")
def made(app):
    """A key for each scope."""
    keys = Keys(services_of(app).state().keys)
    return {scope: keys.create(f"{scope}er", [scope]) for scope in SCOPES}


def bearer(made) -> dict[str, str]:
    return {"Authorization": f"Bearer {made.text}"}


@pytest.mark.parametrize(
    ("host", "forced", "required"),
    [
        ("127.0.0.1", False, False),
        ("127.9.9.9", False, False),
        ("::1", False, False),
        ("localhost", False, False),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, True),  # noqa: S104
        ("::", False, True),
        ("10.0.0.1", False, True),
        ("example.org", False, True),
        ("localhost.example.org", False, True),
    ],
)
def test_keys_are_required_where_others_reach_the_api_or_when_it_is_said(host, forced, required):
    assert Settings(api_host=host, require_keys=forced).keys_required is required


@pytest.mark.parametrize(("method", "path"), NEEDED, ids=[f"{method} {path}" for method, path in NEEDED])
def test_a_route_needs_a_key_with_its_scope_and_no_other_will_do(client, made, method, path):
    needed = NEEDED[method, path]
    without = client.open(path, method=method)
    assert (without.status_code, without.json["type"]) == (401, "/problems/key-required")
    assert without.headers["WWW-Authenticate"] == BEARER
    for scope in SCOPES:
        answer = client.open(path, method=method, headers=bearer(made[scope]))
        if scope == needed:
            assert answer.status_code not in (401, 403), scope
        else:
            assert (answer.status_code, answer.json["type"]) == (403, "/problems/missing-scope")
            assert answer.json["detail"] == f"this needs a key with the scope {needed}; yours has {scope}"
            assert answer.headers["WWW-Authenticate"] == f'{BEARER}, error="insufficient_scope", scope="{needed}"'


def test_every_route_has_its_scope_and_open_are_only_these(app):
    rules = [rule for rule in app.url_map.iter_rules() if "." in rule.endpoint]
    client = app.test_client()
    open_to_all = {
        rule.rule
        for rule in rules
        if client.open(rule.rule, method=min(rule.methods - {"HEAD", "OPTIONS"})).status_code != 401
    }
    assert len(rules) == len(list(app.url_map.iter_rules()))
    assert open_to_all == {
        "/health/live",
        "/openapi.json",
        "/docs",
        "/docs/start.js",
        "/docs/swagger-ui.css",
        "/docs/swagger-ui-bundle.js",
        "/static/<name>",
        "/preferences",
        "/key",
        "/guide",
        "/guide/<path:name>",
    }


def test_what_does_not_exist_needs_a_key_too(client, made):
    assert client.get("/nothing").status_code == 401
    assert client.get("/nothing", headers=bearer(made["read"])).status_code == 404
    assert client.put("/ingest").status_code == 401


def test_a_preflight_comes_without_a_key(client):
    assert client.options("/ingest").status_code == 200


def test_a_key_is_taken_from_either_header(client, made):
    text = made["read"].text
    for headers in ({"X-API-Key": text}, {"Authorization": f"bearer {text}"}, {"Authorization": f"Bearer  {text} "}):
        assert client.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "slug"),
    [
        ("Authorization", "Bearer mrk_000000000000_" + "x" * 43, "invalid-key"),
        ("Authorization", "Bearer nonsense", "invalid-key"),
        ("Authorization", "Bearer \xff", "invalid-key"),
        ("X-API-Key", "y" * 5_000, "invalid-key"),
        ("Authorization", "Bearer", "key-required"),
        ("Authorization", "Basic bWU6bWU=", "key-required"),
        ("X-API-Key", "", "key-required"),
    ],
)
def test_what_is_no_key_is_refused(client, name, value, slug):
    answer = client.get("/metrics", headers={name: value})
    assert (answer.status_code, answer.json["type"]) == (401, f"/problems/{slug}")
    assert answer.headers["WWW-Authenticate"].startswith(BEARER)
    assert answer.content_type == "application/problem+json"


def test_the_log_has_the_keys_id_and_nothing_secret(client, made, caplog):
    key = made["ingest"]
    with caplog.at_level(logging.DEBUG):
        client.post("/ingest?validate=77", headers=bearer(key), json={"user_id": 424_242})
    (line,) = [record.msg for record in caplog.records if record.name == "movierec_platform.access"]
    assert (line["key"], line["status"]) == (key.key.id, 400)
    said = caplog.text + str(line)
    assert key.text[-43:] not in said
    assert "424242" not in said
    assert "77" not in str({name: value for name, value in line.items() if name not in ("key", "request_id", "ms")})


def test_an_admin_makes_lists_rotates_and_revokes_keys(client, made):
    admin = bearer(made["admin"])
    created = client.post("/v1/keys", json={"name": "shop", "scopes": ["read"], "expires_days": 7}, headers=admin)
    assert (created.status_code, created.headers["Cache-Control"]) == (201, "no-store")
    shown = created.json["shown"]
    assert (shown["name"], shown["scopes"], shown["standing"]) == ("shop", ["read"], "active")
    first = {"X-API-Key": created.json["key"]}
    assert client.get("/metrics", headers=first).status_code == 200
    rotated = client.post(f"/v1/keys/{shown['id']}/rotate", json={"overlap_hours": 0}, headers=admin)
    assert rotated.status_code == 201
    assert client.get("/metrics", headers=first).status_code == 401
    second = {"X-API-Key": rotated.json["key"]}
    assert client.get("/metrics", headers=second).status_code == 200
    revoked = client.delete(f"/v1/keys/{rotated.json['shown']['id']}", headers=admin)
    assert revoked.json["standing"] == "revoked"
    assert client.get("/metrics", headers=second).status_code == 401
    listed = client.get("/v1/keys", headers=admin)
    assert {one["id"]: one["standing"] for one in listed.json["keys"]}[shown["id"]] == "expired"
    assert created.json["key"] not in listed.text
    assert not {"hash", "salt"} & set(listed.json["keys"][0])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "slug"),
    [
        ("POST", "", {"name": "", "scopes": ["read"]}, 400, "bad-request"),
        ("POST", "", {"name": "x", "scopes": []}, 400, "bad-body"),
        ("POST", "", {"name": "x", "scopes": ["root"]}, 400, "bad-body"),
        ("POST", "", {"name": "x", "scopes": ["read"], "expires_days": 0}, 400, "bad-body"),
        ("POST", "", {"name": "x", "scopes": ["read"], "admin": True}, 400, "bad-body"),
        ("POST", "", [], 400, "bad-body"),
        ("POST", "/0/rotate", {"overlap_hours": -1}, 400, "bad-body"),
        ("POST", "/0/rotate", {}, 404, "no-such-key"),
        ("DELETE", "/0", None, 404, "no-such-key"),
        ("PUT", "/0", None, 405, "method-not-allowed"),
    ],
)
def test_a_mistake_with_keys_is_a_problem(client, made, method, path, body, status, slug):
    answer = client.open(f"/v1/keys{path}", method=method, json=body, headers=bearer(made["admin"]))
    assert (answer.status_code, answer.json["type"]) == (status, f"/problems/{slug}")


def test_the_quarantine_knows_whose_key_it_was(app, client, made):
    from movierec_platform.adapters.quarantine_refusals import Refusal

    state = services_of(app).state()
    state.quarantine.hold([Refusal("0a", "not_json", None, "why", "{", "raw/k", 0, 1, 1)], "drain", 1)
    assert client.post("/v1/quarantine/discard", json={"ids": ["0a"]}, headers=bearer(made["admin"])).status_code == 200
    history = client.get("/v1/quarantine/0a", headers=bearer(made["admin"])).json["history"]
    assert [act["actor"] for act in history] == ["drain", f"api:{made['admin'].key.id}"]


def test_while_the_state_database_is_away_a_key_is_not_refused_but_asked_to_come_again(settings, tmp_path, closed_port):
    away = SecretStr(f"postgresql://me:opens-nothing@127.0.0.1:{closed_port}/none")
    own = {"home": tmp_path, "raw_queue_url": "unused", "require_keys": True, "state_url": away}
    app = create_app(settings.model_copy(update=own))
    key = {"X-API-Key": "mrk_000000000000_" + "x" * 43}
    answer = app.test_client().get("/metrics", headers=key)
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/state-unavailable")
    assert app.test_client().get("/health/live").status_code == 200
    services_of(app).close()


def test_on_this_machine_no_key_is_needed_and_a_wrong_one_is_no_harm(idle_client):
    assert idle_client.get("/metrics", headers={"X-API-Key": "nonsense"}).status_code == 200
    assert idle_client.get("/v1/keys").status_code == 200


def test_the_description_tells_which_keys_are_needed(client, idle_client):
    described = client.get("/openapi.json").json
    assert described["paths"]["/ingest"]["post"]["security"] == [{"bearer": ["ingest"]}, {"header": ["ingest"]}]
    assert "security" not in described["paths"]["/health/live"]["get"]
    assert set(described["components"]["securitySchemes"]) == {"bearer", "header"}
    assert "security" not in idle_client.get("/openapi.json").text.lower()
