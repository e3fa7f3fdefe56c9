"""The API over real local servers, with six movies and a similarity whose sums fit in one's head."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pytest
from flask import Flask
from flask.testing import FlaskClient

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import Settings
from movierec_platform.domain.registers import PairState

VERSION = "20240501T120000Z-00000001"
MOVIES = {
    1: ("Alien", 1979, ["Horror", "Sci-Fi"]),
    2: ("Brazil", 1985, ["Sci-Fi"]),
    3: ("Casablanca", 1942, ["Drama", "Romance"]),
    4: ("Dune", 1984, ["Sci-Fi"]),
    5: ("Epidemic", None, []),
    6: ("Fargo", 1996, ["Crime", "Drama"]),
}
VIEWERS = {1: 5, 2: 4, 3: 3, 4: 2, 5: 1, 6: 0}
EDGES = [(1, 2, 0.5, 1, 10), (1, 3, 0.25, 1, 7), (2, 3, 0.5, 2, 4), (3, 4, 0.125, 1, 2)]
"""(source, target, score, rank, support)"""
ANA, UNKNOWN = 101, 999
SEEN_AT_MS = 1_600_000_000_000


def rated(rating: float | None, seen_at_ms: int = SEEN_AT_MS) -> PairState:
    """A rating, or (None) a view."""
    if rating is None:
        return PairState(seen_at_ms=seen_at_ms)
    return PairState(rating=rating, rated_at_ms=seen_at_ms, event_id=f"e-{seen_at_ms}", seen_at_ms=seen_at_ms)


@dataclass
class Platform:
    """What stands behind the API, to be changed by a test."""

    settings: Settings
    graph: Graph
    lake: Lake

    def load(self, movies: Mapping[int, tuple] = MOVIES, viewers: Mapping[int, int] = VIEWERS) -> None:
        """The catalogue and its popularity are in the lake, movies and Ana's history (movie 1: 5.0) in the graph."""
        rows = [(movie, *fields) for movie, fields in movies.items()]
        schema = pa.schema(
            {"movie_id": pa.int64(), "title": pa.string(), "year": pa.int32(), "genres": pa.list_(pa.string())}
        )
        self.lake.write("movies", pa.table(list(map(list, zip(*rows, strict=True))), schema=schema))
        seen = [movie for movie, count in viewers.items() for _ in range(count)]
        hidden = [6] * 9  # retracted: not a viewer
        self.lake.write(
            "interactions",
            pa.table(
                {
                    "user_id": pa.array(range(len(seen) + len(hidden)), pa.int64()),
                    "movie_id": pa.array(seen + hidden, pa.int64()),
                    "seen_at_ms": pa.array([SEEN_AT_MS] * (len(seen) + len(hidden)), pa.int64()),
                    "retracted_at_ms": pa.array([None] * len(seen) + [SEEN_AT_MS] * len(hidden), pa.int64()),
                }
            ),
        )
        self.graph.merge_movies(
            [
                {"id": movie, "title": title, "year": year, "genres": genres, "rating_count": 0, "rating_mean": None}
                for movie, (title, year, genres) in movies.items()
            ]
        )
        self.graph.apply_pairs({(ANA, 1): rated(5.0)})

    def store_similarity(self, version: str = VERSION, edges: list[tuple] = EDGES) -> None:
        """The version is in the lake."""
        names = ["source_id", "target_id", "score", "rank", "support"]
        kinds = [pa.int64(), pa.int64(), pa.float64(), pa.int32(), pa.int64()]
        columns = {
            name: pa.array(values, kind)
            for name, kind, values in zip(names, kinds, map(list, zip(*edges, strict=True)), strict=True)
        }
        table = pa.table({"version": pa.array([version] * len(edges)), **columns})
        self.lake.write("similarity", table, partition=("version", version))

    def publish(self, version: str = VERSION, edges: list[tuple] = EDGES) -> None:
        """The version is in the lake and readers are told to use it."""
        self.store_similarity(version, edges)
        self.graph.publish(version, SEEN_AT_MS)


@pytest.fixture
def empty_platform(fresh_settings: Settings, clean_graph: Graph) -> Platform:
    return Platform(fresh_settings, clean_graph, Lake(fresh_settings))


@pytest.fixture
def platform(empty_platform: Platform) -> Platform:
    empty_platform.load()
    empty_platform.publish()
    return empty_platform


@pytest.fixture
def app(platform: Platform) -> Iterator[Flask]:
    """The application; its snapshot is looked at when a test says so, not meanwhile."""
    app = create_app(platform.settings.model_copy(update={"snapshot_poll_s": 3600.0}))
    yield app
    services_of(app).close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="session")
def idle_app(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An application for requests that are refused before anything is read or written; nothing is loaded."""
    app = create_app(settings.model_copy(update={"home": tmp_path_factory.mktemp("idle"), "raw_queue_url": "unused"}))
    yield app
    services_of(app).close()


@pytest.fixture
def idle_client(idle_app: Flask) -> FlaskClient:
    return idle_app.test_client()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine on which nobody listens, and nobody will while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
