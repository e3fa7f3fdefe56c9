"""Real servers are killed and started again under an API that goes on: what it answers meanwhile, and afterwards.

It has a graph and an emulator of its own, since it kills them; their starts are most of its time.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import load_settings
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer
from movierec_platform.local.graph import DATABASE, USER, GraphServer
from movierec_tests.api.conftest import ANA, UNKNOWN, VERSION, Platform, rated

DEADLINE_S = 180.0
BEA = 102


class World:
    """The servers, what they hold, and a client of the API over them."""

    def __init__(self, home) -> None:
        self.aws, self.graph_server = AwsServer(home, 0), GraphServer(home, 0)
        self.home = home

    def start(self) -> None:
        self.aws.start()
        self.graph_server.start()
        settings = load_settings(
            {
                "home": self.home,
                "aws_endpoint_url": self.aws.url,
                "aws_region": "us-east-1",
                "aws_access_key_id": ACCESS_KEY_ID,
                "aws_secret_access_key": SecretStr("opens-nothing"),
                "bucket": "degradation",
                "neo4j_uri": self.graph_server.uri,
                "neo4j_user": USER,
                "neo4j_password": SecretStr(self.graph_server.password),
                "neo4j_database": DATABASE,
                "snapshot_poll_s": 0.2,
            }
        )
        self.settings = settings.model_copy(update=asdict(provision(settings, prefix="degradation")))
        self.graph = Graph.open(self.settings)
        self.graph.ensure_schema()
        self.platform = Platform(self.settings, self.graph, Lake(self.settings))
        self.platform.load()
        self.app = create_app(self.settings)
        self.client: FlaskClient = self.app.test_client()

    def stop(self) -> None:
        if hasattr(self, "app"):
            services_of(self.app).close()
            self.graph.close()
        self.graph_server.stop()
        self.aws.stop()

    def recommended(self, user: int) -> tuple[bool, list[tuple[int, str]]]:
        """(degraded, the movies with their strategies)"""
        answer = self.client.get(f"/recommend/{user}")
        assert answer.status_code == 200, answer.text
        return answer.json["degraded"], [(one["item_id"], one["strategy"]) for one in answer.json["items"]]


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        world.start()
        yield world
    finally:
        world.stop()


POPULAR = [(1, "popular"), (2, "popular"), (3, "popular"), (4, "popular"), (5, "popular"), (6, "popular")]
SIMILAR = [(2, "graph_cf"), (3, "graph_cf"), (4, "popular"), (5, "popular"), (6, "popular")]


def test_the_api_goes_on_while_its_parts_are_killed_and_recovers_by_itself(world: World) -> None:
    until(lambda: world.client.get("/recommend/1").status_code == 200)
    assert world.recommended(ANA) == (False, POPULAR[1:])  # no similarity is published yet
    world.platform.publish()
    until(lambda: world.client.get("/recommend/1").json["snapshot"] == VERSION)
    assert world.recommended(ANA) == (False, SIMILAR)

    world.graph.apply_pairs({(ANA, 3): rated(4.0)})  # the feed tells of it
    until(lambda: world.recommended(ANA) == (False, [(2, "graph_cf"), (4, "graph_cf"), (5, "popular"), (6, "popular")]))

    world.graph_server.process.kill()
    world.graph_server.process.wait()
    until(lambda: world.recommended(ANA)[0])  # what is held is fresh for a moment more
    assert world.recommended(ANA) == (True, [(2, "graph_cf"), (4, "graph_cf"), (5, "popular"), (6, "popular")])
    assert world.recommended(UNKNOWN) == (True, POPULAR)
    held, unheld = (world.client.get(f"/v1/users/{user}/history") for user in (ANA, BEA))
    assert (held.json["degraded"], held.json["total"]) == (True, 2)
    assert (unheld.status_code, unheld.json["type"]) == (503, "/problems/graph-unavailable")
    assert world.client.get("/v1/movies?q=alien").status_code == 200
    assert world.client.get("/health/ready").json["parts"]["graph"] == "down"
    assert world.client.post("/ingest", json={"user_id": 1, "movie_id": 1, "event_type": "view"}).status_code == 202

    world.graph_server.restart()
    world.graph.apply_pairs({(ANA, 4): rated(4.0)})
    until(lambda: world.recommended(ANA) == (False, [(2, "graph_cf"), (5, "popular"), (6, "popular")]))

    world.aws.process.kill()
    world.aws.process.wait()
    refused = world.client.post("/ingest", json={"user_id": 1, "movie_id": 1, "event_type": "view"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert world.recommended(ANA) == (False, [(2, "graph_cf"), (5, "popular"), (6, "popular")])
    world.graph.apply_pairs({(BEA, 1): rated(5.0)})
    assert world.recommended(BEA) == (False, SIMILAR)
    world.aws.restart()
    provision(world.settings, prefix="degradation")  # a killed emulator has forgotten its queues
    until(lambda: world.client.post("/ingest", json={"user_id": 1, "movie_id": 1}).status_code == 202)
