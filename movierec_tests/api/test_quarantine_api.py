"""/v1/quarantine does what the command line does, and refuses what is not meant."""

import json

import pytest
from pydantic import SecretStr

from movierec_platform.adapters.quarantine_refusals import Refusal
from movierec_platform.adapters.queues import open_queue
from movierec_platform.adapters.state import State
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import Settings
from movierec_platform.domain.quarantine import EVERYTHING, STATUSES

RECEIVED = 1_790_000_000_000
GOOD = {"user_id": 7, "movie_id": 1, "rating": 4.5}


def held(settings: Settings) -> State:
    """The database of these settings, which holds the events of users 1, 2 and 3; that of user 3 is not JSON."""
    state = State.open(settings)
    for number, reason in ((1, "wrong_type"), (2, "wrong_type"), (3, "not_json")):
        body = json.dumps({"user_id": number})
        refusal = Refusal(f"{number:04x}", reason, None, "why", body, "raw/k", number, RECEIVED + number, RECEIVED)
        state.quarantine.hold([refusal], "drain", RECEIVED + number)
    return state


@pytest.fixture
def state(fresh_settings):
    state = held(fresh_settings)
    yield state
    state.close()


@pytest.fixture
def client(fresh_settings):
    app = create_app(fresh_settings)
    yield app.test_client()
    services_of(app).close()


@pytest.fixture(scope="module")
def unchanged(settings, tmp_path_factory):
    """An application, and its database, for requests that change nothing."""
    own = settings.model_copy(update={"home": tmp_path_factory.mktemp("unchanged"), "raw_queue_url": "unused"})
    state, app = held(own), create_app(own)
    yield app.test_client(), state
    services_of(app).close()
    state.close()


def test_without_the_state_database_events_are_landed_and_only_the_quarantine_is_away(fresh_settings, closed_port):
    away = SecretStr(f"postgresql://me:opens-nothing@127.0.0.1:{closed_port}/none")
    app = create_app(fresh_settings.model_copy(update={"state_url": away}))
    client = app.test_client()
    assert client.post("/ingest", json=GOOD).status_code == 202
    answer = client.get("/v1/quarantine")
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/state-unavailable")
    services_of(app).close()


def statuses(state: State) -> dict[str, str]:
    return {row.id: row.status for row in state.quarantine.rows(EVERYTHING, STATUSES, limit=10)}


def test_rows_come_page_by_page_and_one_by_one(client, state):
    first = client.get("/v1/quarantine?limit=2").json
    assert [row["id"] for row in first["rows"]] == ["0003", "0002"]
    assert first["by_reason"] == {"not_json": 1, "wrong_type": 2}
    rest = client.get(f"/v1/quarantine?limit=2&cursor={first['next_cursor']}").json
    assert ([row["id"] for row in rest["rows"]], rest["next_cursor"]) == (["0001"], None)
    found = client.get("/v1/quarantine?reason=wrong_type&user=2&since=2020-01-01&status=all").json
    assert [row["id"] for row in found["rows"]] == ["0002"]
    row = client.get("/v1/quarantine/0001").json
    assert (row["body"], row["status"], row["attempts"]) == ('{"user_id": 1}', "held", 0)
    assert [act["act"] for act in row["history"]] == ["held"]


def test_a_patched_event_is_redriven_and_the_rest_discarded(client, state, fresh_settings):
    refused = client.patch("/v1/quarantine/0001", json={**GOOD, "rating": 9})
    assert (refused.status_code, refused.json["type"]) == (422, "/problems/gate-refuses")
    assert "rating_out_of_range" in refused.json["detail"]
    assert client.patch("/v1/quarantine/0001?force=true", json={}).json["stored"] is True
    assert client.patch("/v1/quarantine/0001", json=GOOD).json["row"]["user_id"] == 7

    redriven = client.post("/v1/quarantine/redrive", json={"ids": ["0001"]})
    assert redriven.json == {"redriven": {"wrong_type": 1}, "skipped": {}, "finished": {}}
    [message] = open_queue(fresh_settings, "raw").receive(wait_s=1)
    assert json.loads(message.body)["events"] == [{**GOOD, "timestamp": RECEIVED + 1}]
    assert client.patch("/v1/quarantine/0001", json=GOOD).status_code == 409
    assert client.post("/v1/quarantine/discard", json={"reason": "not_json"}).json["discarded"] == {"not_json": 1}
    assert client.post("/v1/quarantine/discard", json={"all": True}).json["discarded"] == {"wrong_type": 1}
    assert statuses(state) == {"0001": "redriven", "0002": "discarded", "0003": "discarded"}
    assert [act["actor"] for act in client.get("/v1/quarantine/0001").json["history"]][1:] == ["api"] * 4


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "slug"),
    [
        ("GET", "?limit=101", None, 400, "bad-parameter"),
        ("GET", "?user=x", None, 400, "bad-parameter"),
        ("GET", "?reason=ugly", None, 400, "bad-request"),
        ("GET", "?since=ugly", None, 400, "bad-request"),
        ("GET", "?status=ugly", None, 400, "bad-request"),
        ("GET", "?cursor=1-%00", None, 400, "bad-request"),
        ("GET", "/ffff", None, 404, "no-such-row"),
        ("GET", "/000", None, 404, "no-such-row"),
        ("PATCH", "/ffff", "{}", 404, "no-such-row"),
        ("PATCH", "/0001", "{", 400, "bad-request"),
        ("PATCH", "/0001", b"\xff", 400, "malformed-json"),
        ("PATCH", "/0001", json.dumps("x" * 70_000), 413, "event-too-large"),
        ("PATCH", "/0001", json.dumps("x" * 300_000), 413, "body-too-large"),
        ("PATCH", "/0001?force=maybe", "{}", 400, "bad-parameter"),
        ("POST", "/redrive", "{}", 400, "bad-request"),
        ("POST", "/redrive", "", 400, "bad-selection"),
        ("POST", "/discard", "[]", 400, "bad-selection"),
        ("POST", "/discard", '{"all": "true"}', 400, "bad-selection"),
        ("POST", "/discard", '{"everything": true}', 400, "bad-selection"),
        ("POST", "/discard", '{"all": true, "reason": "not_json"}', 400, "bad-request"),
        ("POST", "/discard", json.dumps({"ids": ["0001"] * 1_001}), 400, "bad-selection"),
        ("POST", "/discard", '{"ids": ["0001", "ffff"]}', 404, "no-such-row"),
        ("POST", "/redrive", '{"user": 9223372036854775808}', 400, "bad-selection"),
        ("DELETE", "/0001", None, 405, "method-not-allowed"),
    ],
)
def test_a_mistake_is_a_problem_and_changes_nothing(unchanged, method, path, body, status, slug):
    client, state = unchanged
    before = (statuses(state), state.counters())
    answer = client.open(f"/v1/quarantine{path}", method=method, data=body, content_type="application/json")
    assert (answer.status_code, answer.json["type"]) == (status, f"/problems/{slug}")
    assert (statuses(state), state.counters()) == before
