"""The initial load of a graph by a rebuild, beside the loader that UNWINDs a MERGE of every rating.

    python -m movierec_tests.benchmarks.graph_load [--ratings 5000000] [--merged 200000] [--graph neo4j]

Each side has a graph of its own: the embedded ArcadeDB, or a Neo4j.

* ours: what `movierec rebuild graph` does with the folded interactions: users with all their edges, in ranges.
* unwind: 5,000 rows a transaction: MATCH the movie, MERGE the user, MERGE the rating, SET its properties. Measured on
  `--merged` ratings only, in a graph that holds as many: all of them would take half an hour, and it gets slower as the
  graph grows, so that its rate is flattered.

Ratings are generated: movies are rated in proportion to 1 / (rank + 10), users rate about 150. Both find constraints
and movies in place. Processor time is that of this process and, if it is on this machine, of the server; peaks are
resident memory since a process began. The last line is JSON.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pyarrow as pa

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_bulk import Reconstruction, open_bulk
from movierec_platform.config import Settings
from movierec_platform.domain.tables import INTERACTIONS
from movierec_platform.services.rebuild import whole_users, write_users
from movierec_tests.benchmarks.graph_ingest import UNWIND, add_graph_option, driver_of, own_graph
from movierec_tests.benchmarks.measure import cpu_seconds, print_result

MOVIES = 27_000
RATINGS_A_USER = 150
NOW_MS = 1_790_000_000_000
MERGE_ROWS = 5_000
TARGET = 5.0


def histories(ratings: int) -> Iterator[pa.Table]:
    """So many ratings as the fold yields them: tables of whole users, ascending."""
    chance = np.random.default_rng(1)
    weight = np.cumsum(1 / (np.arange(MOVIES) + 10))
    users = 0
    while ratings > 0:
        sizes = chance.geometric(1 / RATINGS_A_USER, 200)
        user = users + 1 + np.repeat(np.arange(len(sizes)), sizes)
        movie = 1 + np.searchsorted(weight, chance.random(len(user)) * weight[-1])
        user, movie = np.unique(np.stack([user, movie]), axis=1)[:, :ratings]
        users += len(sizes)
        ratings -= len(user)
        at_ms = NOW_MS + chance.integers(0, 10**9, len(user))
        rating = chance.integers(1, 11, len(user)) / 2
        ids = [f"ml-{one}-{other}" for one, other in zip(user.tolist(), movie.tolist(), strict=True)]
        yield pa.table([user, movie, rating, at_ms, ids, at_ms, pa.nulls(len(user), pa.int64())], schema=INTERACTIONS)


def load(settings: Settings, ratings: int) -> tuple[str, float, float]:
    """(the way in, ratings a second, ratings a processor second); read from a file, as the fold reads its own."""
    with tempfile.TemporaryDirectory() as folder, open_bulk(settings) as graph:
        path = str(Path(folder) / "interactions.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, INTERACTIONS) as writer:
            for table in histories(ratings):
                writer.write_table(table)
        then = Reconstruction(NOW_MS, as_of_given=False)
        graph.note(then)
        graph.prepare()
        make_movies(graph)
        begun, worked = time.perf_counter(), cpu_s(settings)
        with pa.OSFile(path, "rb") as file, pa.ipc.open_stream(file) as reader:
            tables = (pa.Table.from_batches([batch]) for batch in reader)
            write_users(whole_users(tables, graph.pairs_at_once), graph, then, lambda *_: None)
        seconds, worked = time.perf_counter() - begun, cpu_s(settings) - worked
        if graph.pair_count() != ratings:
            raise SystemExit(f"{graph.pair_count()} of {ratings} ratings are in the graph")
        graph.finish(None)
        return graph.way, ratings / seconds, ratings / worked


def merge(settings: Settings, ratings: int) -> tuple[float, float]:
    """Ratings a second and a processor second, in a graph that holds as many."""
    columns = ("user_id", "movie_id", "rating", "rated_at_ms", "event_id")
    table = pa.concat_tables(histories(2 * ratings)).select(columns)
    rows = [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    with Graph.open(settings) as graph, driver_of(settings) as driver:
        graph.ensure_schema()
        make_movies(graph)
        with driver.session(database=settings.neo4j_database) as session:
            for start in range(0, 2 * ratings, MERGE_ROWS):
                if start == ratings // MERGE_ROWS * MERGE_ROWS:
                    begun, worked, first = time.perf_counter(), cpu_s(settings), start
                batch = rows[start : start + MERGE_ROWS]
                session.execute_write(lambda transaction, rows=batch: transaction.run(UNWIND, rows=rows).consume())
        measured = 2 * ratings - first
        return measured / (time.perf_counter() - begun), measured / (cpu_s(settings) - worked)


def make_movies(graph: Graph) -> None:
    empty = {"year": 2000, "genres": [], "rating_count": 0, "rating_mean": None}
    graph.merge_movies([{"id": one, "title": f"M{one}", **empty} for one in range(1, MOVIES + 1)])


def cpu_s(settings: Settings) -> float:
    """Processor time so far, of this process and of the server."""
    pid = server_pid(settings)
    return cpu_seconds([psutil.Process(), *([] if pid is None else [psutil.Process(pid)])])


def peak_mb(pid: int) -> int:
    """The most memory that a process ever held, in MiB."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def server_pid(settings: Settings) -> int | None:
    """Of the graph, if it is on this machine."""
    port = urlsplit(settings.neo4j_uri).port
    listening = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    return next((one.pid for one in listening if one.laddr.port == port), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=5_000_000)
    parser.add_argument("--merged", type=int, default=200_000, help="ratings that the UNWIND loader is measured on")
    add_graph_option(parser)
    given = parser.parse_args()

    with own_graph(given.graph) as settings:
        way, per_s, per_cpu_s = load(settings, given.ratings)
        own_mb, pid = peak_mb(os.getpid()), server_pid(settings)
        server_mb = None if pid is None else peak_mb(pid)
        print(f"ours, by {way}: {given.ratings:,} ratings, {per_s:,.0f} a second, {per_cpu_s:,.0f} a processor second")
        print(f"peaks: this process {own_mb} MiB, the server {server_mb} MiB", flush=True)
    with own_graph(given.graph) as settings:
        merged_per_s, merged_per_cpu_s = merge(settings, given.merged)
    print(f"UNWIND MERGE: {merged_per_s:,.0f} a second, {merged_per_cpu_s:,.0f} a processor second")
    print(f"(measured on {given.merged:,} ratings only)")
    ratio = per_s / merged_per_s
    cpu_ratio = per_cpu_s / merged_per_cpu_s
    verdict = "reached" if ratio >= TARGET else "MISSED"
    print(f"ratio: {ratio:.1f}, in processor time {cpu_ratio:.1f} (target {TARGET:g}): {verdict}")
    print_result(
        {
            "benchmark": "graph_load",
            "graph": given.graph,
            "ratings": given.ratings,
            "per_s": round(per_s),
            "per_cpu_s": round(per_cpu_s),
            "unwind_ratings": given.merged,
            "unwind_per_s": round(merged_per_s),
            "unwind_per_cpu_s": round(merged_per_cpu_s),
            "ratio": round(ratio, 1),
            "cpu_ratio": round(cpu_ratio, 1),
            "peak_mb": own_mb,
            "server_peak_mb": server_mb,
        }
    )


if __name__ == "__main__":
    main()
