"""The graph ingest beside one MERGE a transaction and beside the plain UNWIND MERGE.

    python -m movierec_tests.benchmarks.graph_ingest [--rounds 7] [--graph neo4j]

A graph of its own is started: the embedded ArcadeDB, or a Neo4j.

* ours: fold a batch per pair, `Graph.apply_pairs`: one transaction that reads the registers, merges and writes what
  changed, and tells unknown movies. Right whatever the order, and for retracts.
* single: one transaction an event: MERGE the user, MERGE the rating, SET its properties. The later arrival wins.
* unwind: the same statement for a whole batch, by UNWIND, in one transaction.

All write ratings of the same distribution (popular movies are rated most), never the same ones, into one graph that
holds some already; rounds alternate. Figures are events a second: the median of rounds. The last line printed is JSON.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, count, islice
from pathlib import Path

import neo4j
from pydantic import SecretStr

from movierec_platform.adapters.graph import Graph
from movierec_platform.config import Settings, load_settings
from movierec_platform.domain.events import Event
from movierec_platform.domain.registers import fold
from movierec_platform.local.graph import DATABASE, GraphServer
from movierec_platform.local.neo4j import Neo4jServer

NOW_MS = 1_790_000_000_000
MOVIES = 9_000
USERS = 20_000
STORED = 10_000
"""Ratings that are there before."""
BATCHES = (1, 50, 500, 2_000)
SINGLES = 100
TARGET = 10.0
_RATE = """
MATCH (m:Pelicula {id: row[1]})
MERGE (u:Usuario {id: row[0]})
MERGE (u)-[e:VIO]->(m)
SET e.rating = row[2], e.rated_at_ms = row[3], e.event_id = row[4], e.seen_at_ms = row[3]
"""
SINGLE = f"WITH $row AS row {_RATE}"
UNWIND = f"UNWIND $rows AS row {_RATE}"


def ratings() -> Iterator[Event]:
    """Endless; the movie at rank r is rated in proportion to 1 / (r + 10)."""
    chance = random.Random(1)
    popularity = list(accumulate(1 / (rank + 10) for rank in range(MOVIES)))
    for number in count():
        yield Event(
            event_id=f"bench-{number}",
            event_type="rating",
            user_id=chance.randrange(1, USERS),
            movie_id=chance.choices(range(1, MOVIES + 1), cum_weights=popularity)[0],
            rating=chance.randrange(1, 11) / 2,
            timestamp_ms=NOW_MS + number,
        )


@contextmanager
def own_graph(kind: str) -> Iterator[Settings]:
    """An empty graph of this kind, for the one who asks alone."""
    with tempfile.TemporaryDirectory(prefix="movierec-benchmark-") as folder:
        server = (Neo4jServer if kind == "neo4j" else GraphServer)(Path(folder), 0)
        server.start()
        try:
            yield load_settings(
                {
                    "neo4j_uri": server.uri,
                    "neo4j_user": server.user,
                    "neo4j_password": SecretStr(server.password),
                    "neo4j_database": DATABASE,
                    "graph_http_url": server.http_url,
                }
            )
        finally:
            server.stop()


def add_graph_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--graph", choices=("embedded", "neo4j"), default="embedded", help="what is measured")


def driver_of(settings: Settings) -> neo4j.Driver:
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    return neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=auth, notifications_min_severity="OFF")


def sides(graph: Graph, driver: neo4j.Driver, database: str) -> dict[str, Callable[[Sequence[Event]], None]]:
    def write(statement: str, **parameters: object) -> None:
        with driver.session(database=database) as session:
            session.execute_write(lambda transaction: transaction.run(statement, parameters).consume())

    def ours(batch: Sequence[Event]) -> None:
        if graph.apply_pairs(fold(batch)):
            sys.exit("the graph does not know its movies")

    return {
        "ours": ours,
        "unwind": lambda batch: write(UNWIND, rows=[_row(event) for event in batch]),
        "single": lambda batch: [write(SINGLE, row=_row(event)) for event in batch],
    }


def _row(event: Event) -> list[object]:
    return [event.user_id, event.movie_id, event.rating, event.timestamp_ms, event.event_id]


def measure(settings: Settings, rounds: int) -> dict[str, float]:
    """Events a second of each side and batch size: the median of its rounds."""
    stream = ratings()
    spent: dict[tuple[str, int], list[float]] = {}
    with Graph.open(settings) as graph, driver_of(settings) as driver:
        graph.ensure_schema()
        graph.merge_movies(
            [
                {"id": one, "title": f"M{one}", "year": 2000, "genres": [], "rating_count": 0, "rating_mean": None}
                for one in range(1, MOVIES + 1)
            ]
        )
        graph.load_users(fold(islice(stream, STORED)))
        turns = [("single", SINGLES), *((side, size) for size in BATCHES for side in ("ours", "unwind"))]
        write = sides(graph, driver, settings.neo4j_database)
        for round_ in range(-2, rounds):  # two to warm up
            for side, size in turns:
                batches = [list(islice(stream, size)) for _ in range(10 if size < SINGLES else 1)]
                begun = time.perf_counter()
                for batch in batches:
                    write[side](batch)
                if round_ >= 0:
                    spent.setdefault((side, size), []).append((time.perf_counter() - begun) / len(batches))
    return {f"{side}_{size}": size / statistics.median(times) for (side, size), times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    add_graph_option(parser)
    given = parser.parse_args()
    with own_graph(given.graph) as settings:
        per_s = measure(settings, given.rounds)
    single = per_s[f"single_{SINGLES}"]
    print(f"one MERGE a transaction: {single:,.0f} events/s")
    result: dict[str, float | str] = {"single_per_s": round(single)}
    for size in BATCHES:
        ours, unwind = per_s[f"ours_{size}"], per_s[f"unwind_{size}"]
        print(
            f"batches of {size:>5,}: ours {ours:7,.0f} events/s ({size / ours * 1000:5.0f} ms a batch),"
            f" plain UNWIND MERGE {unwind:7,.0f};"
            f" ours is {ours / single:.1f} x one a transaction, {ours / unwind:.2f} x UNWIND"
        )
        result |= {
            f"batch_{size}_per_s": round(ours),
            f"batch_{size}_ratio": round(ours / single, 2),
            f"batch_{size}_unwind_ratio": round(ours / unwind, 2),
        }
    best = result[f"batch_{BATCHES[-1]}_ratio"]
    print(f"batch_{BATCHES[-1]}_ratio: {best} (target {TARGET:g}): {'reached' if best >= TARGET else 'MISSED'}")
    print(json.dumps({"benchmark": "graph_ingest", "graph": given.graph, **result}))


if __name__ == "__main__":
    main()
