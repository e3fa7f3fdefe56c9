"""The graph made from the lake equals the one that the platform made step by step, whatever interrupts it."""

import csv
import gzip
import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
import pytest
import requests
from typer.testing import CliRunner

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_bulk import Reconstruction, open_bulk
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.leases import open_lease
from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.cli.main import app
from movierec_platform.config import Settings, inherited_environment, variables_of
from movierec_platform.domain.edges import edge_states
from movierec_platform.domain.gate import judge
from movierec_platform.domain.registers import PairState, fold
from movierec_platform.domain.tables import MOVIES, RATINGS
from movierec_platform.errors import CheckFailed, Conflict
from movierec_platform.local.stack import Stack
from movierec_platform.services.catalog import project_catalog
from movierec_platform.services.fold import fold_everything
from movierec_platform.services.import_ratings import import_ratings
from movierec_platform.services.popularity import compute_popularity
from movierec_platform.services.publish import publish_version
from movierec_platform.services.rebuild import Rebuilt, publication_at, rebuild, versions_of, whole_users
from movierec_platform.services.rebuild_files import write_files
from movierec_platform.services.similarity import made_at_ms
from movierec_platform.services.verify import verify

AT_MS = 1_600_000_000_000
NOW_MS = 2_000_000_000_000
MOVIE_IDS = range(1, 61)
SIMILAR = ("20240501T120000Z-aaaaaaaa", "20240502T120000Z-bbbbbbbb", "20240503T120000Z-cccccccc")


@dataclass
class World:
    """A lake with ratings, events and three similarity versions, and the graph that the platform made of them."""

    settings: Settings
    lake: Lake
    graph: Graph

    def dump(self) -> list[str]:
        """Every node and edge with its properties, sorted; without what writers take turns by and the change feed."""
        nodes = self.graph._read("MATCH (n) WHERE NOT (n:Cambios OR n:Cambio) RETURN labels(n), properties(n)")
        edges = self.graph._read(
            "MATCH (a)-[e]->(b) RETURN coalesce(a.id, a.name), type(e), coalesce(b.id, b.name), properties(e)"
        )
        for _, properties in nodes:
            for name in ("turn", "writer"):
                properties.pop(name, None)
        return sorted(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in [*nodes, *edges])

    def empty(self) -> None:
        auth = (self.settings.neo4j_user, self.settings.neo4j_password.get_secret_value())
        with neo4j.GraphDatabase.driver(self.settings.neo4j_uri, auth=auth) as driver:
            driver.execute_query("MATCH (n) DETACH DELETE n", database_=self.settings.neo4j_database)

    def rebuild(self, as_of_ms: int | None = None, **changed: Any) -> Rebuilt:
        settings = self.settings.model_copy(update=changed)
        return rebuild(settings, as_of_ms, lambda: NOW_MS, lambda *_: None)


def posted(chance: random.Random, number: int) -> dict[str, Any]:
    kind = chance.choice(("rating", "rating", "view", "retract"))
    event = {"event_id": f'e"{number} ñ', "event_type": kind, "user_id": chance.choice((3, 7, 2**40, 90 + number % 20))}
    event |= {"movie_id": chance.randint(1, 70), "timestamp": AT_MS + chance.randint(-50, 50)}
    return {**event, "rating": chance.randint(1, 10) / 2} if kind == "rating" else event


def land(objects: ObjectStore, received_at_ms: int, events: list[dict[str, Any]]) -> None:
    lines = [json.dumps({"received_at_ms": received_at_ms, "source": "test", "event": event}) for event in events]
    hour = datetime.fromtimestamp(received_at_ms / 1000, tz=timezone.utc).strftime("date=%Y-%m-%d/hour=%H")
    body = gzip.compress("\n".join(lines).encode())
    objects.put(f"raw/{hour}/{received_at_ms}-{uuid.uuid4()}.ndjson.gz", body)


@pytest.fixture
def world(fresh_settings: Settings, clean_graph: Graph) -> World:
    chance = random.Random(5)
    lake, objects = Lake(fresh_settings), open_objects(fresh_settings)
    genres = [chance.sample(["Drama", "War", "Comedy"], one % 3) for one in MOVIE_IDS]
    years = [None if one % 7 == 0 else 1950 + one for one in MOVIE_IDS]
    lake.write(
        "movies", pa.table([list(MOVIE_IDS), [f'"{one}", ñ' for one in MOVIE_IDS], years, genres], schema=MOVIES)
    )
    rated = sorted({(chance.randint(1, 80), chance.choice(MOVIE_IDS)) for _ in range(1500)})
    rows = [(user, movie, chance.randint(1, 10) / 2, AT_MS + chance.randint(-50, 50)) for user, movie in rated]
    lake.write("ratings", pa.table([list(column) for column in zip(*rows, strict=True)], schema=RATINGS))
    events = [posted(chance, number) for number in range(400)]
    land(objects, AT_MS + 60, events)
    lake.write("interactions", pa.concat_tables(fold_everything(lake, objects)))
    compute_popularity(lake, half_life_days=30, prior_ratings=10)

    graph = clean_graph
    project_catalog(lake, graph)
    import_ratings(lake, graph, lambda *_: None)
    graph.apply_pairs(fold(judge(event, AT_MS + 60) for event in events))
    for version in SIMILAR:
        pairs = [(a, b) for b in MOVIE_IDS for a in chance.sample(MOVIE_IDS, 5)]
        edges = [(version, a, b, chance.random(), at % 5 + 1, chance.randint(1, 9)) for at, (a, b) in enumerate(pairs)]
        names = ("version", "source_id", "target_id", "score", "rank", "support")
        table = pa.table(dict(zip(names, map(list, zip(*edges, strict=True)), strict=True)))
        lake.write("similarity", table, partition=("version", version))
        publish_version(lake, graph, version, made_at_ms(version), "", lambda *_: None)
    return World(fresh_settings, lake, graph)


@pytest.mark.both_graphs
def test_the_rebuilt_graph_is_the_graph(world: World) -> None:
    before = world.dump()
    assert sum('"RETIRO"' in row for row in before) > 30
    ways = {"the batch endpoint": world.settings.graph_http_url, "Bolt": ""}
    for way in ways if world.settings.graph_http_url else ["Bolt"]:
        world.empty()
        rebuilt = world.rebuild(graph_http_url=ways[way])
        assert world.dump() == before
        assert rebuilt.way == way
        assert (rebuilt.movies, rebuilt.pairs, rebuilt.resumed) == (
            60,
            sum('"seen_at_ms"' in row or '"RETIRO"' in row for row in before),
            False,
        )
        assert (rebuilt.version, rebuilt.previous, rebuilt.similarity_edges) == (SIMILAR[2], SIMILAR[1], 300)
        assert verify(world.settings).equal
        with pytest.raises(Conflict, match=r"not empty \(\d+ \w+, .*empty database"):
            world.rebuild(graph_http_url=ways[way])
        assert world.dump() == before


def test_a_stack_that_changes_its_graph_makes_it_from_the_lake(world: World) -> None:
    before = world.dump()
    world.empty()
    said: list[str] = []
    Stack(world.settings)._graph_from_lake(lambda part, message: said.append(f"{part} {message}"))
    assert world.dump() == before
    assert said == [f"graph has 60 movies and {len(dict(edge_states(world.graph.pairs()))):,} pairs of the lake"]


CHILD = """
import sys
from movierec_platform.config import load_settings
from movierec_platform.services.rebuild import rebuild
def told(*what):
    print(*what, flush=True)
    sys.stdin.readline()
told("begun")
rebuild(load_settings(), None, lambda: 2_000_000_000_000, told, pairs_at_once=150)
"""


@pytest.mark.parametrize("changed", [{}, {"graph_http_url": ""}], ids=["batch endpoint", "Bolt"])
def test_killed_at_random_points_and_run_again_it_makes_the_same_graph(world: World, changed: dict[str, Any]) -> None:
    before = world.dump()
    world.empty()
    chance = random.Random(11)
    settings = world.settings.model_copy(update=changed)
    environment = {**inherited_environment(), **variables_of(settings), "MOVIEREC_HOME": str(settings.home)}
    killed_in = []
    with open_bulk(settings) as graph:
        while not killed_in or graph.reconstruction() or not graph.nodes_by_label():
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen(
                [sys.executable, "-c", CHILD], env=environment, text=True, bufsize=1, **pipes
            ) as child:
                for _ in range(chance.randint(1, 5)):  # it goes on to the next step when it is answered
                    if step := child.stdout.readline():
                        killed_in.append(step.split()[0])
                        child.stdin.write("\n")
                with suppress(subprocess.TimeoutExpired):
                    child.wait(chance.uniform(0, 0.05))
                child.kill()
            assert child.returncode in (0, -9)
    assert killed_in.count("begun") > 3
    assert killed_in.count("pairs") > 3
    assert world.dump() == before


def test_what_a_killed_rebuild_had_sent_is_written_before_it_is_removed(world: World) -> None:
    before = world.dump()
    world.empty()
    settings = world.settings
    with open_bulk(settings) as graph:
        graph.note(Reconstruction(NOW_MS, as_of_given=False))
    order: list[str] = []

    def half_a_user() -> Iterator[bytes]:
        yield b'{"@type":"vertex","@class":"Usuario","id":3}\n{"@type":"vertex","@class":"Usuario","id":4}\n'
        begun.set()
        release.wait(30)
        order.append("sent")
        yield b'{"@type":"vertex","@class":"Usuario","id":5}\n'

    def send() -> int:
        auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
        url = f"{settings.graph_http_url}/api/v1/batch/{settings.neo4j_database}"
        return requests.post(url, params={"vertexBatchSize": 1}, data=half_a_user(), auth=auth, timeout=60).status_code

    begun, release = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        sent = pool.submit(send)
        assert begun.wait(30)
        timer = threading.Timer(0.7, release.set)
        timer.start()
        rebuild(settings, None, lambda: NOW_MS, lambda what, *_: order.append(what))
        assert sent.result() == 200
    assert order[0] == "sent"
    assert world.dump() == before


@pytest.mark.both_graphs(long=True)
def test_as_of_a_moment_it_is_the_graph_of_then(world: World) -> None:
    before = world.dump()
    lake, objects = world.lake, open_objects(world.settings)
    then_ms = time.time_ns() // 1_000_000
    lake.write(
        "movies", pa.concat_tables([lake.read("movies"), pa.table([[99], ["New"], [2000], [["War"]]], schema=MOVIES)])
    )
    lake.write(
        "ratings", pa.concat_tables([lake.read("ratings"), pa.table([[1], [99], [5.0], [AT_MS]], schema=RATINGS)])
    )
    land(objects, then_ms + 1, [{"event_id": "late", "user_id": 3, "movie_id": 7, "event_type": "retract"}])
    lake.write("interactions", pa.concat_tables(fold_everything(lake, objects)))
    compute_popularity(lake, half_life_days=30, prior_ratings=10)
    later = SIMILAR[2].replace("2024", "2099")
    edges = lake.read("similarity", filters=[("version", "=", SIMILAR[2])])
    lake.write("similarity", edges.set_column(0, "version", [[later] * len(edges)]), partition=("version", later))
    world.empty()
    assert world.rebuild(then_ms).version == SIMILAR[2]
    assert world.dump() == before

    first_ms = made_at_ms(SIMILAR[0])
    assert [versions_of(publication_at(lake, first_ms + after)) for after in (-1, 0)] == [[], [SIMILAR[0]]]
    world.empty()
    with pytest.raises(CheckFailed, match="the lake had no table movies at that time"):
        world.rebuild(AT_MS)
    assert world.dump() == []


@pytest.mark.both_graphs
def test_an_interrupted_rebuild_is_finished_for_its_own_moment_only(
    fresh_settings: Settings, clean_graph: Graph
) -> None:
    with open_bulk(fresh_settings) as graph:
        graph.note(Reconstruction(AT_MS, as_of_given=True))
        graph._write(lambda transaction: transaction.run("MATCH (r:Reconstruccion) REMOVE r.versions").consume())
        assert graph.reconstruction() == Reconstruction(AT_MS, as_of_given=True)  # as imported from a file
    for moment in (None, AT_MS + 1):
        with pytest.raises(Conflict, match="interrupted rebuild as of 2020-09-13T12:26:40Z: finish it with --as-of"):
            rebuild(fresh_settings, moment, lambda: NOW_MS, lambda *_: None)


def test_while_the_ingest_is_at_work_nothing_is_made(fresh_settings: Settings, clean_graph: Graph) -> None:
    waited: list[str] = []
    hurried = fresh_settings.model_copy(update={"drain_linger_s": 0.1, "drain_grace_s": 0.1})
    with (
        open_lease(fresh_settings, "clean", 0).held("a run", 1),
        pytest.raises(Conflict, match=r"the graph ingest did not rest within 0\.2 s"),
    ):
        rebuild(hurried, None, lambda: NOW_MS, lambda *_: None, on_wait=waited.append)
    assert len(waited) == 1
    with open_bulk(fresh_settings) as graph:
        assert graph.nodes_by_label() == {}


@pytest.mark.parametrize("sizes", [[5, 1, 1, 7], [1] * 9, [20], []])
def test_ranges_hold_whole_users(sizes: list[int]) -> None:
    ids = [user for user, size in enumerate(sizes) for _ in range(size)]
    tables = [pa.table({"user_id": [user] * size}) for user, size in enumerate(sizes)]
    for given in (tables, [pa.concat_tables(tables)] if tables else []):
        parts = [part["user_id"].to_pylist() for part in whole_users(given, 3)]
        assert [user for part in parts for user in part] == ids
        assert sum(len(set(part)) for part in parts) == len(set(ids)), "a user is split"
        assert all(len(part) >= 3 for part in parts[:-1])


@pytest.mark.both_graphs(long=True)
def test_the_command_writes_files_that_hold_the_graph_or_makes_it(world: World, tmp_path: Path) -> None:
    stored = dict(edge_states(world.graph.pairs()))
    before = world.dump()
    home = world.settings.home
    variables = variables_of(world.settings)
    words = ["rebuild", "graph", "--home", str(home)]
    command = CliRunner().invoke(app, [*words, "--files", str(tmp_path / "files")], env=variables)
    assert command.exit_code == 0, command.output

    def rows(name: str) -> list[dict[str, str]]:
        with gzip.open(tmp_path / f"files/{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def number(text: str) -> int | None:
        return int(text) if text else None

    read = {}
    for name in ("VIO", "RETIRO"):
        for row in rows(name):
            state = PairState(
                float(row["rating:double"]) if row["rating:double"] else None,
                number(row["rated_at_ms:long"]),
                row["event_id:string"] or None,
                number(row["seen_at_ms:long"]),
                number(row["retracted_at_ms:long"]),
            )
            assert state.visible == (name == "VIO")
            read[int(row[":START_ID(Usuario)"]), int(row[":END_ID(Pelicula)"])] = state
    assert read == stored
    assert {int(row["id:long"]) for row in rows("Usuario")} == {user for user, _ in stored}
    assert [row["title:string"] for row in rows("Pelicula")] == [f'"{one}", ñ' for one in MOVIE_IDS]
    assert [len(rows(name)) for name in ("Genero", "ES_DE", "SIMILAR")] == [3, 60, 600]
    assert all(str(tmp_path / f"files/{name}.csv.gz") in command.stdout for name in ("Usuario", "VIO", "SIMILAR"))

    first = {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()}
    [marker] = rows("Reconstruccion")
    write_files(world.settings, tmp_path / "files", None, int(marker["as_of_ms:long"]), lambda *_: None)
    assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == first

    world.empty()
    done = CliRunner().invoke(app, [*words, "--json"], env=variables)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["movies"] == 60
    assert world.dump() == before
