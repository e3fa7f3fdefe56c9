"""Real local servers for all tests that need them: started once a session, on free ports, all state in temp folders."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import neo4j
import pytest
from pydantic import SecretStr

from movierec_platform.adapters.graph import Graph
from movierec_platform.config import Settings, load_settings
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer
from movierec_platform.local.graph import DATABASE, GraphServer
from movierec_platform.local.neo4j import JAVA_ARGUMENTS, Neo4jServer
from movierec_tests.postgres import PostgresServer, postgres_binaries


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """SQS and S3, empty but for what other tests made."""
    server = AwsServer(tmp_path_factory.mktemp("aws-home"), 0)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphServer]:
    """The embedded graph, with what other tests left in it; `clean_graph` empties it."""
    server = GraphServer(tmp_path_factory.mktemp("graph-home"), 0)
    server.start()
    yield server
    server.stop()


class ShortLivedNeo4j(Neo4jServer):
    """A Neo4j whose JVM spends little on compiling: half the CPU seconds of a start."""

    java_arguments = (*JAVA_ARGUMENTS, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jServer]:
    """A real Neo4j, with what other tests left in it."""
    server = ShortLivedNeo4j(tmp_path_factory.mktemp("neo4j-home"), 0)
    server.prepare()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def graph_kind(request: pytest.FixtureRequest) -> str:
    """The graph that `settings` name: the embedded one, or that of a test marked `both_graphs`."""
    return getattr(request, "param", "embedded")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Postgres; each test makes a database of its own in it."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("Postgres is not installed: apt-get install postgresql")
    server = PostgresServer(binaries)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def aws_settings(aws_server: AwsServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Where SQS and S3 are. The bucket is not made and the queues have no URL: that is `fresh_settings`."""
    return load_settings(
        {
            "home": tmp_path_factory.mktemp("home"),
            "aws_endpoint_url": aws_server.url,
            "aws_region": "us-east-1",
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SecretStr("opens-nothing"),
        }
    )


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest, aws_settings: Settings, graph_kind: str) -> Settings:
    """The same, and where the graph is."""
    return with_graph(aws_settings, request.getfixturevalue(f"{graph_kind}_server"))


def with_graph(settings: Settings, server: GraphServer | Neo4jServer) -> Settings:
    """The settings that name this graph."""
    return settings.model_copy(
        update={
            "neo4j_uri": server.uri,
            "neo4j_user": server.user,
            "neo4j_password": SecretStr(server.password),
            "neo4j_database": DATABASE,
            "graph_http_url": server.http_url,
        }
    )


@pytest.fixture
def fresh_settings(settings: Settings, tmp_path: Path) -> Settings:
    """A home, a state database, a bucket and three queues that no other test has; the graph is shared."""
    return empty_settings(settings, tmp_path / "home")


def empty_settings(settings: Settings, home: Path) -> Settings:
    """The same servers with this home, which is made, a state database, a bucket and three queues of its own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    own = settings.model_copy(update={"home": home, "bucket": name, "state_url": SecretStr("")})
    own.home.mkdir()
    return own.model_copy(update=asdict(provision(own, prefix=name)))


@pytest.fixture
def clean_graph(settings: Settings) -> Iterator[Graph]:
    """The graph with its constraints and nothing in it."""
    with emptied_graph(settings) as graph:
        yield graph


@contextmanager
def emptied_graph(settings: Settings) -> Iterator[Graph]:
    """The same, for a test module that keeps it for several tests."""
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    with neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n", database_=settings.neo4j_database)
    with Graph.open(settings) as graph:
        graph.ensure_schema()
        yield graph
