"""POST /ingest: what is acknowledged is in S3 and in the queue; what is refused is in neither."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import open_queue
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import Settings
from movierec_platform.errors import LandingBusy
from movierec_platform.services.land import Lander

RATING = {"event_id": "e-1", "user_id": 7, "movie_id": 1, "rating": 4.5}
VIEW = {"event_id": "e-2", "event_type": "view", "user_id": 7, "movie_id": 2}
NO_RATING = {"event_id": "e-3", "user_id": 7, "movie_id": 3}


@pytest.fixture
def limited(fresh_settings: Settings):
    """Settings with small limits, so that crossing them is cheap."""
    return fresh_settings.model_copy(update={"max_request_events": 3, "max_request_bytes": 2_000})


@pytest.fixture
def client(limited):
    app = create_app(limited)
    yield app.test_client()
    services_of(app).close()


@pytest.fixture
def known_movies(limited):
    """The movies of RATING and VIEW are in the graph."""
    with Graph.open(limited) as graph:
        graph.merge_movies(
            [
                {"id": movie, "title": str(movie), "year": None, "genres": [], "rating_count": 0, "rating_mean": None}
                for movie in (1, 2)
            ]
        )


def landed(settings: Settings) -> list:
    """The events of every raw object, once it is certain that the queue carries the same."""
    objects = open_objects(settings)
    stored = [json.loads(line)["event"] for key in objects.keys("raw/") for line in _lines(objects.get(key))]
    messages = open_queue(settings, "raw").receive()
    queued = [event for message in messages for event in json.loads(message.body)["events"]]
    assert sorted(map(str, queued)) == sorted(map(str, stored))
    return stored


def _lines(raw_object: bytes) -> list[bytes]:
    return gzip.decompress(raw_object).splitlines()


def test_an_event_is_in_the_store_and_in_the_queue_when_it_is_acknowledged(client, limited):
    answer = client.post("/ingest", json=RATING)
    assert answer.status_code == 202
    assert len(answer.json.pop("batch_id")) == 32
    assert answer.json == answer.json | {
        "accepted": 1,
        "rejected": 0,
        "results": [{"index": 0, "event_id": "e-1", "status": "accepted"}],
    }
    assert landed(limited) == [RATING]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (json.dumps([RATING, VIEW]).encode(), {"Content-Type": "application/json"}),
        (f"{json.dumps(RATING)}\n{json.dumps(VIEW)}\n".encode(), {"Content-Type": "application/x-ndjson"}),
        (f"{json.dumps(RATING)}\n{json.dumps(VIEW)}".encode(), {}),
        (gzip.compress(json.dumps([RATING, VIEW]).encode(), mtime=0), {"Content-Encoding": "gzip"}),
    ],
    ids=["array", "ndjson", "ndjson unsaid", "gzip"],
)
def test_every_form_of_a_batch_lands_in_its_order(client, limited, body, headers):
    answer = client.post("/ingest", data=body, headers=headers)
    assert [result["event_id"] for result in answer.json["results"]] == ["e-1", "e-2"]
    assert landed(limited) == [RATING, VIEW]


def test_whatever_is_json_is_landed_for_the_gate_to_judge(client, limited):
    answer = client.post("/ingest", data='[{"user_id": 123456789012345678901234567890}, 7, null]')
    assert (answer.status_code, answer.json["accepted"], answer.json["rejected"]) == (202, 3, 0)
    assert landed(limited) == [{"user_id": 123456789012345678901234567890}, 7, None]


@pytest.mark.parametrize("flag", ["true", "1", "TRUE"])
@pytest.mark.usefixtures("known_movies")
def test_validation_answers_what_the_gate_would_say_and_lands_the_rest(client, limited, flag):
    answer = client.post(f"/ingest?validate={flag}", json=[NO_RATING, RATING, "text"])
    assert (answer.status_code, answer.json["accepted"], answer.json["rejected"]) == (202, 1, 2)
    assert answer.json["results"] == [
        {
            "index": 0,
            "event_id": "e-3",
            "status": "rejected",
            "reason_code": "missing_field",
            "detail": "an event of type rating has a rating",
        },
        {"index": 1, "event_id": "e-1", "status": "accepted"},
        {
            "index": 2,
            "event_id": None,
            "status": "rejected",
            "reason_code": "not_an_object",
            "detail": "an event is a JSON object, not a string",
        },
    ]
    assert landed(limited) == [RATING]


def test_when_validation_leaves_nothing_nothing_is_landed(client, limited):
    answer = client.post("/ingest?validate=true", json=NO_RATING)
    assert (answer.status_code, answer.json["batch_id"], answer.json["accepted"]) == (202, None, 0)
    assert landed(limited) == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "slug"),
    [
        (b"", {}, 400, "no-events"),
        (b"[]", {}, 400, "no-events"),
        (json.dumps(RATING).encode() + b"\n{", {}, 400, "malformed-json"),
        (b'{"user_id": NaN}', {}, 400, "malformed-json"),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400, "malformed-gzip"),
        (b"[0,0,0,0]", {}, 413, "too-many-events"),
        (b"0\n0\n0\n0", {}, 413, "too-many-events"),
        (b" " * 2_001, {}, 413, "body-too-large"),
        (gzip.compress(b" " * 2_001, mtime=0), {"Content-Encoding": "gzip"}, 413, "body-too-large"),
        (b"{}", {"Content-Type": "text/csv"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Encoding": "br"}, 415, "unsupported-encoding"),
    ],
    ids=lambda value: None if isinstance(value, (bytes, dict)) else str(value),
)
def test_a_request_that_is_refused_lands_nothing(client, limited, body, headers, status, slug):
    answer = client.post("/ingest", data=body, headers=headers)
    assert (answer.status_code, answer.json["type"]) == (status, f"/problems/{slug}")
    assert landed(limited) == []


def test_one_event_that_is_too_large_refuses_the_request(fresh_settings):
    app = create_app(fresh_settings)
    try:
        answer = app.test_client().post("/ingest", json=[RATING, RATING | {"note": "x" * 70_000}])
        assert (answer.status_code, answer.json["type"]) == (413, "/problems/event-too-large")
        assert "event 1" in answer.json["detail"]
        assert landed(fresh_settings) == []
    finally:
        services_of(app).close()


@pytest.mark.parametrize("query", ["validate=maybe", "validate=", "validate=true&validate=false"])
def test_a_flag_that_is_neither_is_refused(idle_client, query):
    answer = idle_client.post(f"/ingest?{query}", json=RATING)
    assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-parameter")


@pytest.mark.parametrize("part", ["queue", "object store"])
def test_while_the_queue_or_the_store_is_away_nothing_is_promised(fresh_settings, part):
    changed = (
        {"raw_queue_url": f"{fresh_settings.raw_queue_url}-gone"}
        if part == "queue"
        else {"bucket": f"{fresh_settings.bucket}-gone"}
    )
    app = create_app(fresh_settings.model_copy(update=changed))
    try:
        answer = app.test_client().post("/ingest", json=RATING)
        assert (answer.status_code, answer.json["type"]) == (503, f"/problems/{part.replace(' ', '-')}-unavailable")
        assert "nothing was promised" in answer.json["detail"]
        assert answer.headers["Retry-After"] == "2"
        assert "127.0.0.1" not in answer.text
        # What is not in the store is not on the queue either: the graph would have what the lake has not.
        assert open_queue(fresh_settings, "raw").depth().total == 0
    finally:
        services_of(app).close()


def test_a_lander_that_is_closing_asks_to_come_back(client, limited):
    services_of(client.application).lander.close()
    answer = client.post("/ingest", json=RATING)
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/landing-busy")
    assert answer.headers["Retry-After"] == "2"
    assert landed(limited) == []


def test_bodies_in_hand_are_bounded_in_bytes_and_room_comes_back(fresh_settings):
    own = fresh_settings.model_copy(update={"landing_pending_bytes": 500})
    app = create_app(own)
    try:
        client = app.test_client()
        for _ in range(3):
            answer = client.post("/ingest", data=json.dumps(RATING).encode() + b" " * 500)
            assert (answer.status_code, answer.json["type"]) == (503, "/problems/landing-busy")
            assert answer.headers["Retry-After"] == "2"
        for _ in range(9):
            assert client.post("/ingest", json=RATING).status_code == 202
    finally:
        services_of(app).close()
    assert landed(fresh_settings) == [RATING] * 9


def test_what_waits_to_be_landed_is_bounded_in_bytes(fresh_settings):
    lander = Lander(fresh_settings.model_copy(update={"landing_pending_bytes": 1_024}))
    try:
        with pytest.raises(LandingBusy):
            lander.land([RATING | {"note": "x" * 1_024}])
        assert lander.land([RATING]).event_ids == ["e-1"]
    finally:
        lander.close()
    assert landed(fresh_settings) == [RATING]


def test_requests_side_by_side_share_commits_and_each_gets_its_own_receipt(fresh_settings):
    lander = Lander(fresh_settings.model_copy(update={"landing_gather_ms": 200.0}))

    def land(user: int) -> str:
        ids = [f"{user}-{number}" for number in range(3)]
        receipt = lander.land([RATING | {"event_id": one, "user_id": user} for one in ids])
        assert receipt.event_ids == ids
        return receipt.batch_id

    with ThreadPoolExecutor(16) as clients:
        batches = [batch for _ in range(3) for batch in clients.map(land, range(1, 17))]
    lander.close()
    assert len(set(batches)) < 12  # 48 requests
    assert len(list(open_objects(fresh_settings).keys("raw/"))) == len(set(batches))


def test_a_clock_that_jumps_overwrites_nothing(fresh_settings):
    start, hour = 1_700_000_000_000, 3_600_000
    times = [start, start - hour, start - hour, start + hour, start, start]
    clock = iter(times)
    lander = Lander(fresh_settings, clock_ms=lambda: next(clock))
    receipts = [lander.land([VIEW | {"event_id": None, "user_id": user}]) for user in range(1, 7)]
    lander.close()
    assert [receipt.received_at_ms for receipt in receipts] == times
    keys = list(open_objects(fresh_settings).keys("raw/"))
    assert sorted(key.rpartition("/")[2] for key in keys) == sorted(
        f"{receipt.received_at_ms}-{receipt.batch_id}.ndjson.gz" for receipt in receipts
    )
    assert sorted(event["user_id"] for event in landed(fresh_settings)) == [1, 2, 3, 4, 5, 6]


def test_validation_refuses_a_movie_that_snapshot_and_graph_lack(platform):
    app = create_app(platform.settings.model_copy(update={"snapshot_poll_s": 3600.0}))
    try:
        services_of(app).snapshots.refresh()
        # In the graph alone: loaded since the snapshot was made.
        platform.graph.merge_movies(
            [{"id": 77, "title": "New", "year": 2026, "genres": [], "rating_count": 0, "rating_mean": None}]
        )
        events = [{"user_id": 7, "movie_id": movie, "event_type": "view"} for movie in (1, 77, 123_456)]
        answer = app.test_client().post("/ingest?validate=true", json=events)
    finally:
        services_of(app).close()
    assert [one["status"] for one in answer.json["results"]] == ["accepted", "accepted", "rejected"]
    assert answer.json["results"][2]["reason_code"] == "unknown_movie"
    assert answer.json["results"][2]["detail"] == "movie 123456 is not in the catalogue"
