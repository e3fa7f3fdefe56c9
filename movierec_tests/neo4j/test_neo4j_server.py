"""The real Neo4j: closed to strangers, durable, with our constraints, and filled by its own import tool."""

import os
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import neo4j
import psutil
import pytest
from neo4j.exceptions import AuthError, ConstraintError

from movierec_platform.adapters.graph import Graph
from movierec_platform.local.graph import DATABASE
from movierec_platform.local.neo4j import Neo4jServer
from movierec_platform.services.rebuild import rebuild
from movierec_platform.services.rebuild_files import write_files
from movierec_tests.both_graphs import ON_NEO4J
from movierec_tests.integration.test_rebuild import NOW_MS, World, world  # noqa: F401
from movierec_tests.servers import ShortLivedNeo4j, with_graph


@pytest.fixture
def own_server(tmp_path: Path, neo4j_server: Neo4jServer) -> Iterator[Neo4jServer]:
    """One of this test alone, not started, with the artifacts of the shared one."""
    server = ShortLivedNeo4j(tmp_path, 0)
    server.folder.mkdir()
    server.library.symlink_to(neo4j_server.library)
    yield server
    server.stop()


def import_files(server: Neo4jServer, command: str) -> None:
    """What the printed command does, by the import tool among the artifacts."""
    program, *arguments = shlex.split(command)
    assert program == "neo4j-admin"
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{server.library}/*", "org.neo4j.cli.AdminTool"]
    own = {"NEO4J_HOME": str(server.folder), "NEO4J_CONF": str(server.folder / "conf")}
    done = subprocess.run([*java, *arguments], env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_what_the_import_tool_made_of_the_files_is_the_embedded_graph(
    own_server: Neo4jServer,
    world: World,  # noqa: F811
    tmp_path: Path,
) -> None:
    embedded = world.dump()
    import_files(own_server, write_files(world.settings, tmp_path / "files", None, NOW_MS, lambda *_: None))
    own_server.start()
    settings = with_graph(world.settings, own_server)
    rebuilt = rebuild(settings, None, lambda: NOW_MS, lambda *_: None)
    assert (rebuilt.resumed, rebuilt.way) == (True, "Bolt")
    with Graph.open(settings) as graph:
        assert World(settings, world.lake, graph).dump() == embedded
    assert own_server.stop()  # by itself, when asked to


def test_strangers_stay_outside_and_a_kill_loses_nothing(neo4j_server: Neo4jServer) -> None:
    for stranger in ("neo4j", "wrong"):
        with (
            neo4j.GraphDatabase.driver(neo4j_server.uri, auth=("neo4j", stranger)) as driver,
            pytest.raises(AuthError),
        ):
            driver.execute_query("RETURN 1", database_=DATABASE)
    for path, mode in ((neo4j_server.folder, 0o700), (neo4j_server.folder / "password", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    process = psutil.Process(neo4j_server.process.pid)
    assert not any(neo4j_server.password in argument for argument in process.cmdline())
    assert neo4j_server.password not in neo4j_server.log.read_text()
    listening = {one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    assert {(one.ip.removeprefix("::ffff:"), one.port) for one in listening} == {("127.0.0.1", neo4j_server.port)}

    auth = (neo4j_server.user, neo4j_server.password)
    with neo4j.GraphDatabase.driver(neo4j_server.uri, auth=auth) as driver:
        driver.execute_query("CREATE (:Kept {id: 7})", database_=DATABASE)
    neo4j_server.process.kill()
    neo4j_server.process.wait()
    neo4j_server.restart()
    with neo4j.GraphDatabase.driver(neo4j_server.uri, auth=auth) as driver:
        found = driver.execute_query("MATCH (n:Kept) WITH n, n.id AS id DELETE n RETURN id", database_=DATABASE).records
    assert [record.values() for record in found] == [[7]]


@ON_NEO4J
def test_ids_are_unique_and_indexed(clean_graph: Graph) -> None:
    clean_graph.ensure_schema()
    wanted = {("Usuario", "id"), ("Pelicula", "id"), ("Genero", "name"), ("Publicacion", "name"), ("Cambios", "name")}
    rows = clean_graph._read("SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties")
    assert {(*labels, *properties) for kind, labels, properties in rows if kind == "UNIQUENESS"} == wanted
    online = clean_graph._read("SHOW INDEXES YIELD state, labelsOrTypes, properties WHERE labelsOrTypes <> []")
    assert {(*labels, *properties) for state, labels, properties in online if state == "ONLINE"} == {
        *wanted,
        ("Cambio", "slot"),
    }
    with pytest.raises(ConstraintError):
        clean_graph._driver.execute_query("CREATE (:Usuario {id: 1}), (:Usuario {id: 1})", database_=DATABASE)
