"""Health and metrics tell which part is down, and still answer."""

import functools
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.quarantine import Refusal
from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import State, Tally
from movierec_platform.api.app import create_app, services_of
from movierec_platform.domain import freshness
from movierec_platform.errors import GraphUnavailable
from movierec_platform.services.metrics import PlatformCollector, Questioner
from movierec_tests.api.conftest import ANA


def samples(exposition: str) -> dict[tuple, float]:
    """Value by (name, sorted labels)."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def test_a_live_process_says_so(idle_client):
    assert idle_client.get("/health/live").json == {"status": "live"}


def test_ready_when_every_part_answers(client):
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    assert answer.json["parts"] == {"graph": "up", "queue": "up", "objects": "up", "snapshot": "up"}


def test_not_ready_names_the_parts_that_are_down(platform, closed_port):
    changed = {"neo4j_uri": f"bolt://127.0.0.1:{closed_port}", "bucket": f"{platform.settings.bucket}-gone"}
    app = create_app(platform.settings.model_copy(update=changed))
    try:
        answer = app.test_client().get("/health/ready")
        assert (answer.status_code, answer.json["status"]) == (503, "not ready")
        assert answer.json["parts"] == {"graph": "down", "queue": "up", "objects": "down", "snapshot": "down"}
    finally:
        services_of(app).close()


def test_requests_are_counted_by_route_and_never_by_user(client):
    client.get(f"/recommend/{ANA}")
    client.get("/recommend/424242")
    client.get("/recommend/zero")
    client.get("/who/424242")
    client.open("/health/live", method="BREW")
    client.post("/ingest", json=[{"user_id": 1}, {"user_id": 2}])
    exposition = client.get("/metrics").text
    found = samples(exposition)
    requests = {
        tuple(dict(key[1:])[name] for name in ("route", "method", "status")): value
        for key, value in found.items()
        if key[0] == "movierec_http_requests_total"
    }
    assert requests == {
        ("/recommend/<user>", "GET", "200"): 2,
        ("/recommend/<user>", "GET", "400"): 1,
        ("unmatched", "GET", "404"): 1,
        ("unmatched", "other", "405"): 1,
        ("/ingest", "POST", "202"): 1,
    }
    assert found["movierec_http_request_seconds_count", ("method", "GET"), ("route", "/recommend/<user>")] == 3
    assert found["movierec_landed_events_total",] == 2
    assert "424242" not in exposition
    assert str(ANA) not in [value for key in found for _, value in key[1:]]


@pytest.fixture
def exposition(platform):
    """What the exporter says, with some settings changed."""

    def scrape(**changed: str) -> dict[tuple, float]:
        settings = platform.settings.model_copy(update=changed)
        registry = CollectorRegistry()
        with Graph.open(settings, retry_s=0.1) as graph:
            state = functools.partial(State.open, settings)
            registry.register(PlatformCollector(state, Queues.open(settings), graph, open_objects(settings)))
            return samples(generate_latest(registry).decode())

    return scrape


def test_the_exporter_shows_counters_depths_and_the_age_of_the_version(platform, exposition):
    state = State.open(platform.settings)
    state.add(
        {
            ("movierec_events_rejected_total", (("reason", "poison"),)): 2,
            ("movierec_events_rejected_total", ()): 1,
            ("movierec_events_landed_total", ()): 5,
            **(freshness.observe(0.015, 1) + freshness.observe(0.4, 2) + freshness.observe(1000.0, 1)),
        }
    )
    state.quarantine.hold([Refusal("0a", "not_json", None, "why", "{", "raw/k", 0, 1, 1)], "drain", 1)
    state.close()
    queues = Queues.open(platform.settings)
    queues.raw.send(["{}", "{}"])
    queues.raw.receive(1)
    found = exposition()
    assert {part: found[f"movierec_{part}_up",] for part in ("graph", "queues", "objects", "state")} == {
        "graph": 1,
        "queues": 1,
        "objects": 1,
        "state": 1,
    }
    assert found["movierec_events_rejected_total", ("reason", "poison")] == 2
    assert found["movierec_events_rejected_total",] == 1
    assert found["movierec_events_landed_total",] == 5
    assert found["movierec_quarantine_held_events", ("reason", "not_json")] == 1
    assert found["movierec_quarantine_held_events", ("reason", "poison")] == 0
    upto = {
        bound: found["movierec_freshness_seconds_bucket", ("le", bound)] for bound in ("0.01", "0.02", "0.5", "+Inf")
    }
    assert upto == {"0.01": 0, "0.02": 1, "0.5": 3, "+Inf": 4}
    assert found["movierec_freshness_seconds_sum",] == pytest.approx(1000.815)
    assert found["movierec_queue_messages", ("queue", "raw"), ("state", "visible")] == 1
    assert found["movierec_queue_messages", ("queue", "raw"), ("state", "in_flight")] == 1
    assert found["movierec_queue_messages", ("queue", "dlq"), ("state", "visible")] == 0
    assert found["movierec_published_similarity_age_seconds",] > 1e6


def test_the_age_of_what_waits_counts_from_an_empty_queue_or_from_what_was_taken_out_last(platform):
    settings = platform.settings
    queues, state = Queues.open(settings), State.open(settings)
    registry = CollectorRegistry()
    with Graph.open(settings, retry_s=0.1) as graph:
        registry.register(PlatformCollector(lambda: state, queues, graph, open_objects(settings)))

        def age_s(queue: str) -> float:
            return samples(generate_latest(registry).decode())[
                "movierec_queue_oldest_event_age_seconds", ("queue", queue)
            ]

        assert age_s("raw") == 0
        queues.raw.send(["{}"])
        assert 0 < (first := age_s("raw")) < age_s("raw")
        assert age_s("clean") == 0
        state.add_once([Tally("gate", "raw/k", 0, time.time_ns() // 1_000_000 + 60_000, {})])
        assert age_s("raw") == 0 < first
    state.close()


@pytest.mark.parametrize("part", ["graph", "queues", "objects", "state"])
def test_a_part_that_is_down_is_said_and_the_others_keep_their_figures(platform, exposition, closed_port, part):
    changed = {
        "graph": {"neo4j_uri": f"bolt://127.0.0.1:{closed_port}"},
        "queues": {"clean_queue_url": f"{platform.settings.clean_queue_url}-gone"},
        "objects": {"bucket": f"{platform.settings.bucket}-gone"},
        "state": {"home": platform.settings.home / "file" / "below"},
    }
    (platform.settings.home / "file").mkdir()
    (platform.settings.home / "file" / "below").mkdir()
    (platform.settings.home / "file" / "below" / "state.db").mkdir()  # SQLite cannot open a folder
    found = exposition(**changed[part])
    ups = {name: found[f"movierec_{name}_up",] for name in changed}
    assert ups == {name: float(name != part) for name in changed}
    assert (("movierec_published_similarity_age_seconds",) in found) == (part != "graph")
    assert any(key[0] == "movierec_queue_messages" for key in found) == (part != "queues")


def test_a_part_that_hangs_costs_the_others_nothing():
    import threading

    release = threading.Event()

    def refuses() -> None:
        raise GraphUnavailable("refused")

    questioner = Questioner({"hangs": release.wait, "answers": lambda: 7, "refuses": refuses}, timeout_s=0.2)
    try:
        for _ in range(3):
            answers = questioner.ask()
            assert answers["answers"] == 7
            assert str(answers["refuses"]) == "refused"
            assert str(answers["hangs"]) == "no answer within 0.2 s"
    finally:
        release.set()
    questioner.close()
