"""Health and metrics tell which part is down, and still answer."""

import functools
import os
import re
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

import movierec_platform
from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.quarantine_refusals import Refusal
from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import State, Tally
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import Settings
from movierec_platform.domain import freshness
from movierec_platform.errors import GraphUnavailable, LakeUnavailable, Transient
from movierec_platform.local.stack import Stack
from movierec_platform.services.exposition import METRICS, PARTS, SERVERS
from movierec_platform.services.metrics import PlatformCollector, quality
from movierec_platform.services.questioner import Kept, Questioner
from movierec_platform.services.versions import Evaluated
from movierec_tests.api.conftest import ANA, MOVIES, VERSION


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
    of_this_process = ("process", str(os.getpid()))
    assert all(of_this_process in key for key in samples(exposition))
    found = {tuple(one for one in key if one != of_this_process): n for key, n in samples(exposition).items()}
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
            registry.register(PlatformCollector(settings, graph, state))
            return samples(generate_latest(registry).decode())

    return scrape


def test_the_exporter_shows_counters_depths_and_the_age_of_the_version(platform, exposition):
    state = State.open(platform.settings)
    state.add(
        {
            ("movierec_events_rejected_total", (("reason", "poison"),)): 2,
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
    assert [found["movierec_part_up", ("part", part)] for part in PARTS] == [1] * len(PARTS)
    assert found["movierec_events_rejected_total", ("reason", "poison")] == 2
    assert found["movierec_events_rejected_total", ("reason", "not_json")] == 0
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
    assert found["movierec_similarity_info", ("version", VERSION)] == 1
    assert found["movierec_lake_rows", ("table", "movies")] == len(MOVIES)
    assert found["movierec_lake_partitions", ("table", "similarity")] == 1
    assert found["movierec_drain_lease_held", ("queue", "raw"), ("slot", "0")] == 0


def test_the_age_of_what_waits_counts_from_an_empty_queue_or_from_what_was_taken_out_last(platform):
    settings = platform.settings
    queues, state = Queues.open(settings), State.open(settings)
    registry = CollectorRegistry()
    with Graph.open(settings, retry_s=0.1) as graph:
        registry.register(PlatformCollector(settings, graph, lambda: state))

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


@pytest.mark.parametrize("part", ["graph", "queues", "objects", "state", "leases"])
def test_a_part_that_is_down_is_said_and_the_others_keep_their_figures(platform, exposition, closed_port, part):
    changed = {
        "graph": {"neo4j_uri": f"bolt://127.0.0.1:{closed_port}"},
        "queues": {"clean_queue_url": f"{platform.settings.clean_queue_url}-gone"},
        "objects": {"bucket": f"{platform.settings.bucket}-gone"},
        "state": {"home": platform.settings.home / "below"},
        "leases": {"state_url": SecretStr(f"postgresql://nobody@127.0.0.1:{closed_port}/none")},
    }
    (platform.settings.home / "below" / "state.db").mkdir(parents=True)  # SQLite cannot open a folder
    found = exposition(**changed[part])
    # The bucket has the lake too, and a Postgres the leases.
    down = {"objects": {"objects", "lake"}, "leases": {"leases", "state"}}.get(part, {part})
    assert {name for name in PARTS if not found["movierec_part_up", ("part", name)]} == down
    assert (("movierec_published_similarity_age_seconds",) in found) == (part != "graph")
    names = {key[0] for key in found}
    assert ("movierec_queue_messages" in names) == (part != "queues")
    assert ("movierec_lake_rows" in names) == (part != "objects")
    assert ("movierec_drain_lease_held" in names) == (part != "leases")
    assert ("movierec_events_landed_total" in names) == (part not in ("state", "leases"))


def test_a_part_that_hangs_costs_the_others_nothing():
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


def test_a_costly_answer_is_kept_and_an_old_one_is_given_while_a_new_one_takes_long():
    now_s, release, answers = 0.0, threading.Event(), iter(range(9))

    def question() -> int:
        number = next(answers)
        if number == 1:
            release.wait()
            raise LakeUnavailable("refused")
        return number

    kept = Kept(question, keep_s=60, oldest_s=600, wait_s=0.02, monotonic_s=lambda: now_s)
    assert (kept(), kept()) == (0, 0)
    now_s = 60.0
    assert (kept(), kept()) == (0, 0)  # the second question hangs
    now_s = 600.0
    with pytest.raises(Transient, match="no answer within 540 s"):
        kept()
    now_s = 61.0
    release.set()
    with pytest.raises(LakeUnavailable, match="refused"):
        [kept() for _ in range(500)]
    now_s = 120.0
    assert kept() == 2


def judged(version: str, at_ms: int, beside: str | None, ndcg: float, **models: float) -> Evaluated:
    scores = {name.replace("_", ", "): {"ndcg": {"value": value}} for name, value in models.items()}
    return Evaluated(version, at_ms, beside, True, "", 9, ndcg, None, None, {}, scores, [])


def test_the_quality_of_the_published_version_is_that_of_its_latest_test():
    own = judged("v1", 1, None, 0.3, popularity=0.2)
    beside = judged("v2", 2, "v1", 0.5, popularity=0.21, published_learned=0.27)
    not_about_it = judged("v3", 3, "v2", 0.5, popularity=0.4, published_learned=0.6)
    assert quality([own], "v1") == {"when_published": 0.3, "published": 0.3, "popularity": 0.2}
    assert quality([own, beside, not_about_it], "v1") == {
        "when_published": 0.3,
        "published": 0.27,
        "popularity": 0.21,
    }
    assert quality([beside], "v9") == {}


def test_every_metric_that_anybody_counts_or_shows_is_described(client, exposition):
    client.get("/health/live")
    shown = {key[0] for key in [*samples(client.get("/metrics").text), *exposition()]}
    ours = {name for name in shown if name.startswith("movierec_") and not name.endswith("_created")}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in ours}
    assert shown <= METRICS.keys()
    source = Path(movierec_platform.__file__).parent
    text = "".join(file.read_text() for file in source.rglob("*.py") if file.name != "exposition.py")
    assert set(re.findall(r'"(movierec_[a-z_]+_(?:total|seconds))"', text)) <= METRICS.keys()
    assert tuple(server.name for server in Stack(Settings()).servers) == SERVERS
