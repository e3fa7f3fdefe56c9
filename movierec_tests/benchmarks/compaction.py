"""Compacting a day's raw objects beside DuckDB and polars reading the same files.

    python -m movierec_tests.benchmarks.compaction [--small 20000] [--small-events 10] [--large 40] [--rounds 3]

Each side reads every gzip NDJSON file of one local folder, keeps the valid events, each once, and writes them as one
Parquet file, sorted by user, movie and time:

* ours: the gate's own verdicts (`judge_lines`), one row for each content, as `compact_day` does it.
* duckdb: `read_json(glob)` with the columns given, the gate's rules as SQL, DISTINCT ON the event id, COPY.
* polars: `scan_ndjson(list)` with the schema given, the same rules, unique by event id, write_parquet.

Theirs know no reason for what they refuse, and judge less: no hashed ids, no other forms of time, and DuckDB takes a
number in a text for a number, so that it keeps a few more rows; more than one in a hundred stops the benchmark. `whole`
is the service `compact_day` with all its checks, from the S3 emulator: it includes the catalogue, the gets, two staged
files and two commits, and not the emulator's own time. The events are the traffic of the demo, of which 3 % are bad and
2 % come twice.

Each measurement is a process of its own, sides alternate; figures are medians of CPU seconds without imports. `peak_mb`
is the resident memory of the whole process. The last line printed is JSON with events per CPU-second and the ratios.
"""

import argparse
import glob
import gzip
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.domain.envelope import encode, raw_key, raw_object
from movierec_platform.domain.events import EARLIEST_MS
from movierec_platform.domain.gate import AHEAD_MS
from movierec_platform.local.traffic import Audience, Mix, events
from movierec_tests.benchmarks.measure import print_result

NOW_MS = 1_772_366_400_000
"""2026-03-01T12:00:00Z"""
DAY = "2026-03-01"
MOVIES = range(1, 50_000)
TARGET = 10


def write_objects(folder: Path, objects: int, events_each: int, seed: int = 7) -> int:
    """Makes this many raw objects; returns how many events they have."""
    audience = Audience(range(1, 100_000), MOVIES, [1.0] * len(MOVIES))
    traffic = (
        event for _, event in events(audience, Mix(bad=0.03, duplicate=0.02, late=0.05, seed=seed), lambda: NOW_MS)
    )
    folder.mkdir(parents=True)
    for number in range(objects):
        name = raw_key(NOW_MS, f"{number:06d}").rpartition("/")[2]
        lines = [encode(event) for event in islice(traffic, events_each)]
        (folder / name).write_bytes(raw_object(lines, NOW_MS, "api"))
    return objects * events_each


def ours(folder: Path, target: Path) -> Callable[[], int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from movierec_platform.domain.landed import EVENTS, in_order, judge_lines

    def work() -> int:
        parts, lines = [EVENTS.empty_table()], list[bytes]()
        paths = sorted(glob.glob(f"{folder}/*.ndjson.gz"))
        for number, path in enumerate(paths, start=1):
            with open(path, "rb") as file:
                lines += gzip.decompress(file.read()).splitlines()
            if len(lines) >= 50_000 or number == len(paths):
                parts.append(judge_lines(lines).accepted)
                lines = []
        table = pa.concat_tables(parts).combine_chunks()
        rows = table.take(pa.array(in_order(table)))
        pq.write_table(rows, target, compression="zstd")
        return int(rows.num_rows)

    return work


def duckdb(folder: Path, target: Path) -> Callable[[], int]:
    import duckdb as library

    connection = library.connect()
    columns = """{received_at_ms: 'BIGINT', source: 'VARCHAR', event: 'STRUCT(event_id VARCHAR, event_type VARCHAR,
        user_id BIGINT, movie_id BIGINT, rating DOUBLE, timestamp BIGINT, session_id VARCHAR,
        recommendation_id VARCHAR)'}"""

    def work() -> int:
        connection.execute(
            f"""
            COPY (
                SELECT * FROM (
                    SELECT DISTINCT ON (event.event_id) event.*, received_at_ms
                    FROM read_json('{folder}/*.ndjson.gz', format='newline_delimited', columns={columns},
                                   ignore_errors=true)
                    WHERE event.user_id > 0 AND event.movie_id > 0 AND length(event.event_id) BETWEEN 1 AND 128
                      AND event.timestamp BETWEEN {EARLIEST_MS} AND received_at_ms + {AHEAD_MS}
                      AND CASE coalesce(event.event_type, 'rating')
                          WHEN 'rating' THEN event.rating BETWEEN 0.5 AND 5 AND event.rating * 2 % 1 = 0
                          WHEN 'view' THEN event.rating IS NULL
                          WHEN 'retract' THEN event.rating IS NULL
                          ELSE false END
                )
                ORDER BY user_id, movie_id, timestamp
            ) TO '{target}' (FORMAT parquet, COMPRESSION zstd)
            """  # noqa: S608
        )
        counted = connection.execute(f"SELECT count(*) FROM '{target}'").fetchone()  # noqa: S608
        return int(counted[0]) if counted else 0

    return work


def polars(folder: Path, target: Path) -> Callable[[], int]:
    import polars as pl

    event = pl.Struct(
        {
            "event_id": pl.String,
            "event_type": pl.String,
            "user_id": pl.Int64,
            "movie_id": pl.Int64,
            "rating": pl.Float64,
            "timestamp": pl.Int64,
            "session_id": pl.String,
            "recommendation_id": pl.String,
        }
    )

    def work() -> int:
        paths = sorted(glob.glob(f"{folder}/*.ndjson.gz"))
        kind = pl.col("event_type").fill_null("rating")
        doubled = pl.col("rating") * 2
        rows = (
            pl.scan_ndjson(
                paths,
                schema={"received_at_ms": pl.Int64, "source": pl.String, "event": event},
                ignore_errors=True,
            )
            .unnest("event")
            .filter(
                (pl.col("user_id") > 0)
                & (pl.col("movie_id") > 0)
                & pl.col("event_id").str.len_chars().is_between(1, 128)
                & pl.col("timestamp").is_between(EARLIEST_MS, pl.col("received_at_ms") + AHEAD_MS)
                & pl.when(kind == "rating")
                .then(pl.col("rating").is_between(0.5, 5) & (doubled == doubled.floor()))
                .otherwise(kind.is_in(["view", "retract"]) & pl.col("rating").is_null())
            )
            .unique(subset="event_id", keep="any")
            .sort("user_id", "movie_id", "timestamp")
            .collect()
        )
        rows.write_parquet(target, compression="zstd")
        return rows.height

    return work


def whole(folder: Path, target: Path) -> Callable[[], int]:
    """`target` holds the settings of the emulator, where the objects of the folder have been put."""
    from movierec_platform.adapters.lake import Lake
    from movierec_platform.config import load_settings
    from movierec_platform.domain.event_checks import EventPolicy
    from movierec_platform.services.compact import compact_day, read_catalogue

    settings = load_settings({"home": target})
    lake, objects = Lake(settings), open_objects(settings)

    def work() -> int:
        return compact_day(lake, objects, DAY, read_catalogue(lake), EventPolicy(), NOW_MS).accepted

    return work


SIDES = {"ours": ours, "duckdb": duckdb, "polars": polars, "whole": whole}


def run_side(side: str, folder: Path, target: Path) -> dict[str, float]:
    """One measurement in this process."""
    work = SIDES[side](folder, target)
    wall, cpu = time.monotonic(), time.process_time()
    rows = work()
    spent, took = time.process_time() - cpu, time.monotonic() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": rows, "cpu_s": spent, "wall_s": took, "peak_mb": peak}


def measured(side: str, folder: Path, target: Path) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "movierec_tests.benchmarks.compaction", "--side", side]
    done = subprocess.run(
        [*command, "--folder", str(folder), "--target", str(target)], check=True, capture_output=True, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(name: str, folder: Path, total: int, scratch: Path, sides: Sequence[str], rounds: int) -> dict[str, Any]:
    """Events per CPU-second, ratios and memory of each side; says them too."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            runs[side].append(measured(side, folder, scratch if side == "whole" else scratch / f"{side}.parquet"))
    rows = {side: {int(run["rows"]) for run in results} for side, results in runs.items()}
    rate = {side: total / statistics.median(run["cpu_s"] for run in results) for side, results in runs.items()}
    result: dict[str, Any] = {}
    for side, results in runs.items():
        peak_mb = round(statistics.median(run["peak_mb"] for run in results))
        wall_s = round(statistics.median(run["wall_s"] for run in results), 2)
        print(f"{name}: {side:>6} {rate[side]:>12,.0f} events per CPU-s, {wall_s} s, {peak_mb} MB, rows {rows[side]}")
        result[f"{name}_{side}_per_cpu_s"] = round(rate[side])
        result[f"{name}_{side}_peak_mb"] = peak_mb
    for peer in ("duckdb", "polars"):
        if peer in rate:
            result[f"{name}_{peer}_ratio"] = round(rate["ours"] / rate[peer], 1)
    kept = set[int]().union(*rows.values())
    if max(kept) > 1.01 * min(kept):
        sys.exit(f"{name}: the sides keep different events: {rows}")
    return result


def emulator(home: Path) -> Iterator[Any]:
    """The settings of a running S3 emulator with a bucket and a catalogue; they are in `<home>/stack.env` too."""
    import pyarrow as pa
    from pydantic import SecretStr

    from movierec_platform.adapters.aws import s3_client
    from movierec_platform.adapters.lake import Lake
    from movierec_platform.config import STACK_ENV, load_settings, variables_of, write_env_file
    from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer

    server = AwsServer(home, 0)
    server.start()
    try:
        settings = load_settings(
            {
                "home": home,
                "aws_endpoint_url": server.url,
                "aws_access_key_id": ACCESS_KEY_ID,
                "aws_secret_access_key": SecretStr("opens-nothing"),
                "bucket": "compaction",
            }
        )
        s3_client(settings).create_bucket(Bucket=settings.bucket)
        Lake(settings).write("movies", pa.table({"movie_id": list(MOVIES)}))
        write_env_file(home / STACK_ENV, variables_of(settings))
        yield settings
    finally:
        server.stop()


def put_file(objects: ObjectStore, path: Path) -> None:
    objects.put(f"raw/date={DAY}/hour=12/{path.name}", path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=20_000, help="objects of few events")
    parser.add_argument("--small-events", type=int, default=10, help="events in each of them")
    parser.add_argument("--large", type=int, default=40, help="objects of 5,000 events")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-s3", action="store_true", help="leave out `whole`")
    for name in ("side", "folder", "target"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(run_side(given.side, Path(given.folder), Path(given.target))))
        return
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for name, objects, each in (("small", given.small, given.small_events), ("large", given.large, 5_000)):
            folder = scratch / name
            total = write_objects(folder, objects, each)
            print(f"{name}: {objects} objects of {each} events")
            result |= compare(name, folder, total, scratch, ("ours", "duckdb", "polars"), given.rounds)
            if not given.no_s3:
                result |= whole_from_s3(name, folder, total, scratch / f"s3-{name}", given.rounds)
    ratio = result["small_duckdb_ratio"]
    print(f"small_duckdb_ratio: {ratio} (target {TARGET}): {'reached' if ratio >= TARGET else 'MISSED'}")
    print_result({"benchmark": "compaction", **result})


def whole_from_s3(name: str, folder: Path, total: int, home: Path, rounds: int) -> dict[str, Any]:
    home.mkdir()
    for settings in emulator(home):
        put = partial(put_file, open_objects(settings))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, folder.iterdir()))
        return compare(name, folder, total, home, ("whole",), rounds)
    return {}


if __name__ == "__main__":
    main()
