"""A key, or an address where there is none, may ask only so often."""

import pytest
from pydantic import ValidationError

from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import load_settings
from movierec_platform.services.keys import Keys


@pytest.fixture(scope="module")
def app_with(settings, tmp_path_factory):
    """Makes an application with these settings; nothing is loaded."""
    apps = []

    def make(**changed):
        own = {"home": tmp_path_factory.mktemp("limited"), "raw_queue_url": "unused", **changed}
        apps.append(create_app(settings.model_copy(update=own)))
        return apps[-1]

    yield make
    for app in apps:
        services_of(app).close()


def test_beyond_the_tightest_limit_it_is_said_when_to_ask_again(app_with):
    client = app_with(rate_limit="100/second; 3/hour").test_client()
    answers = [client.get("/recommend/zero") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 429]
    assert [answer.headers["RateLimit-Limit"] for answer in answers] == ["3"] * 4
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.json["type"] == "/problems/too-many-requests"
    assert 3_590 < int(refused.headers["Retry-After"]) <= 3_600
    assert refused.json["detail"].startswith("more than 3 per 1 hour are not answered: ask again in 3")
    assert client.get("/recommend/zero", environ_base={"REMOTE_ADDR": "127.0.0.2"}).status_code == 400
    assert [client.get("/health/live").status_code for _ in range(5)] == [200] * 5


def test_each_key_has_its_own_limit_and_wrong_keys_use_up_that_of_their_address(app_with):
    app = app_with(rate_limit="2/hour", require_keys=True)
    keys = Keys(services_of(app).state().keys)
    one, two = ({"X-API-Key": keys.create(name, ["read"]).text} for name in ("one", "two"))
    client = app.test_client()

    def statuses(headers, times=3):
        return [client.get("/recommend/zero", headers=headers).status_code for _ in range(times)]

    assert statuses(one, times=1) == [400]
    assert statuses({"X-API-Key": "wrong"}) == [401, 401, 429]
    assert statuses(one) == [400, 429, 429]
    assert statuses(two) == [429, 429, 429]  # not known yet: it is not even looked up
    elsewhere = {"REMOTE_ADDR": "127.0.0.2"}
    assert client.get("/recommend/zero", headers=two, environ_base=elsewhere).status_code == 400
    assert statuses(two) == [400, 429, 429]


@pytest.mark.parametrize("path", ["/preferences", "/key"])
def test_what_needs_no_key_to_be_sent_counts_for_its_address(app_with, path):
    client = app_with(rate_limit="2/hour", require_keys=True).test_client()
    assert [client.post(path, data={}).status_code for _ in range(3)] == [303, 303, 429]
    assert client.get("/health/live").status_code == 200


def test_without_the_setting_nobody_counts(idle_client):
    assert "RateLimit-Limit" not in idle_client.get("/recommend/zero").headers


def test_a_limit_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("MOVIEREC_RATE_LIMIT", "plenty")
    with pytest.raises(ValidationError, match="'plenty' is no rate limit: write, for example, 50/second;2000/minute"):
        load_settings()
