"""The fold of ratings and events into interactions beside DuckDB doing the same by SQL, from Parquet to Parquet.

`python -m movierec_tests.benchmarks.fold` generates 25M ratings (users as active and movies as unequal as those of
MovieLens 25M) and 5M events in 30 days' files, then lets both sides fold them in turn, each in a process of its own:

* ours: `fold_batches` of the facts of the ratings and of the events, written as `Lake.stage` writes;
* duckdb: one GROUP BY pair with `max` over the struct (rated_at_ms, event_id, rating), in order, to zstd Parquet, with
  memory_limit 3GB and as many threads as there are cores.

Their outputs are compared row by row.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from movierec_platform.adapters.lake import ROW_GROUP_ROWS, parquet_writer
from movierec_platform.domain.interactions import EVENT_COLUMNS, HARDLY_REPEATED, facts_of_events, facts_of_ratings
from movierec_platform.domain.tables import INTERACTIONS, RATINGS
from movierec_platform.services.fold import fold_batches
from movierec_tests.benchmarks.measure import print_result

USERS_OF_25M, MOVIES, DAYS = 162_541, 59_047, 30
FIRST_MS, LOADED_MS, DAY_MS = 800_000_000_000, 1_574_000_000_000, 86_400_000
BLOCK_USERS = 500
SQL = """
COPY (
    WITH facts AS (
        SELECT user_id, movie_id, rating, rated_at_ms, 'ml-' || user_id || '-' || movie_id AS event_id,
               rated_at_ms AS seen_at_ms, NULL::BIGINT AS retracted_at_ms
        FROM '{folder}/ratings.parquet'
        UNION ALL
        SELECT user_id, movie_id, rating, CASE WHEN event_type = 'rating' THEN timestamp_ms END,
               CASE WHEN event_type = 'rating' THEN event_id END,
               CASE WHEN event_type <> 'retract' THEN timestamp_ms END,
               CASE WHEN event_type = 'retract' THEN timestamp_ms END
        FROM '{folder}/events-*.parquet'
    ), folded AS (
        SELECT user_id, movie_id,
               max({{'at_ms': rated_at_ms, 'event_id': event_id, 'rating': rating}})
                   FILTER (WHERE rated_at_ms IS NOT NULL) AS rated,
               max(seen_at_ms) AS seen_at_ms, max(retracted_at_ms) AS retracted_at_ms
        FROM facts WHERE movie_id IN (SELECT movie_id FROM '{folder}/movies.parquet')
        GROUP BY user_id, movie_id
    ), shown AS (
        SELECT *, rated.at_ms > coalesce(retracted_at_ms, 0) AS shows FROM folded
    )
    SELECT user_id, movie_id, CASE WHEN shows THEN rated.rating END AS rating,
           CASE WHEN shows THEN rated.at_ms END AS rated_at_ms, CASE WHEN shows THEN rated.event_id END AS event_id,
           seen_at_ms, retracted_at_ms
    FROM shown ORDER BY user_id, movie_id
) TO '{folder}/duckdb.parquet' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {rows})
"""


def generate(folder: Path, ratings: int, events: int) -> None:
    """ratings.parquet (by user and movie), events-<day>.parquet (likewise) and movies.parquet are in the folder."""
    rng = np.random.default_rng(0)
    pq.write_table(pa.table({"movie_id": np.arange(1, MOVIES + 1)}), folder / "movies.parquet")
    with pq.ParquetWriter(folder / "ratings.parquet", RATINGS, compression="zstd") as writer:
        for block in _rating_blocks(rng, ratings):
            writer.write_table(block, row_group_size=ROW_GROUP_ROWS)
    users = max(1, ratings * USERS_OF_25M // 25_000_000)
    for day in range(DAYS):
        pq.write_table(_events_of(rng, day, events // DAYS, users), folder / f"events-{day:02d}.parquet")


def _movies(rng: np.random.Generator, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Popularity falls with the rank as in Zipf's law; the ranks are spread over the ids."""
    reach = np.cumsum(1 / (np.arange(MOVIES) + 30) ** 1.1)
    ranks = np.searchsorted(reach, rng.random(rows) * reach[-1])
    return ranks * 7_919 % MOVIES + 1


def _rating_blocks(rng: np.random.Generator, ratings: int) -> Iterator[pa.Table]:
    left, user = ratings, 1
    while left > 0:
        active = np.minimum(20 + rng.lognormal(4.0, 1.25, BLOCK_USERS).astype(np.int64), 10_000)
        pairs = np.repeat(np.arange(user, user + BLOCK_USERS), active) << 20 | _movies(rng, int(active.sum()))
        pairs = np.unique(pairs)[:left]
        stars = rng.integers(1, 11, len(pairs)) / 2
        at_ms = rng.integers(FIRST_MS // 1000, LOADED_MS // 1000, len(pairs)) * 1000
        yield pa.table([pairs >> 20, pairs & (2**20 - 1), stars, at_ms], schema=RATINGS)
        left -= len(pairs)
        user += BLOCK_USERS


def _events_of(rng: np.random.Generator, day: int, rows: int, users: int) -> pa.Table:
    """A day's events by user and movie, as compaction leaves them: a fifth of them of users without an import."""
    pairs = np.sort(rng.integers(1, users * 5 // 4 + 2, rows) << 20 | _movies(rng, rows))
    kinds = rng.choice(3, rows, p=[0.6, 0.35, 0.05])
    ids = np.frombuffer(rng.bytes(16 * rows).hex().encode(), "S32")
    return pa.table(
        {
            "event_id": pa.array(ids, pa.binary()).cast(pa.string()),
            "event_type": pa.array(["rating", "view", "retract"]).take(pa.array(kinds)),
            "user_id": pairs >> 20,
            "movie_id": pairs & (2**20 - 1),
            "rating": pa.array(rng.integers(1, 11, rows) / 2, mask=kinds > 0),
            "timestamp_ms": (at_ms := LOADED_MS + day * DAY_MS + rng.integers(0, DAY_MS, rows)),
            "received_at_ms": at_ms,
        }
    )


def fold_ours(folder: Path) -> dict[str, Any]:
    def read(name: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        for path in sorted(folder.glob(name)):
            yield from ds.dataset(path).to_batches(
                columns=columns, batch_size=64 * 1024, batch_readahead=4, fragment_readahead=1
            )

    facts = chain(
        map(facts_of_ratings, read("ratings.parquet", RATINGS.names)),
        map(facts_of_events, read("events-*.parquet", list(EVENT_COLUMNS))),
    )
    movie_ids = pq.read_table(folder / "movies.parquet")["movie_id"].combine_chunks()
    with parquet_writer(folder / "ours.parquet", INTERACTIONS, HARDLY_REPEATED) as writer:
        for table in fold_batches(facts, movie_ids):
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return {}


def fold_duckdb(folder: Path) -> dict[str, Any]:
    with duckdb.connect() as connection:
        connection.execute(
            f"SET enable_progress_bar = false; SET memory_limit = '3GB'; SET temp_directory = '{folder}/duckdb-spill'"
        )
        try:
            connection.execute(SQL.format(folder=folder, rows=ROW_GROUP_ROWS))
        except duckdb.OutOfMemoryException as error:
            return {"failed": str(error).splitlines()[0]}
    return {}


SIDES = {"ours": fold_ours, "duckdb": fold_duckdb}


def measured(side: str, folder: Path) -> dict[str, Any]:
    """Seconds, processor seconds and peak memory of this process, which does nothing else."""
    before, started = time.process_time(), time.monotonic()
    result = SIDES[side](folder)
    return {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time() - before, 2),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **result,
    }


def alone(function: Any, *given: Any) -> Any:
    """What the function returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def equal(folder: Path) -> bool:
    """Whether both outputs have the same rows in the same order."""
    ours, theirs = (pq.ParquetFile(folder / f"{side}.parquet") for side in SIDES)
    if ours.metadata.num_rows != theirs.metadata.num_rows:
        return False
    one, other = (_rebatched(file) for file in (ours, theirs))
    return all(left.equals(right) for left, right in zip(one, other, strict=True))


def _rebatched(file: pq.ParquetFile, rows: int = 1 << 20) -> Iterator[pa.Table]:
    held = INTERACTIONS.empty_table()
    for batch in file.iter_batches(1 << 16):
        held = pa.concat_tables([held, pa.Table.from_batches([batch]).cast(INTERACTIONS)])
        while held.num_rows >= rows:
            yield held[:rows].combine_chunks()
            held = held[rows:]
    yield held.combine_chunks()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=25_000_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="times that both sides fold, in turn")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        alone(generate, folder, options.ratings, options.events)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side in SIDES:
                runs[side].append(alone(measured, side, folder))
                print(side, json.dumps(runs[side][-1]), flush=True)
        done = not any("failed" in run for run in runs["duckdb"])
        best = {side: min(run["cpu_seconds"] for run in ones) for side, ones in runs.items()}
        print_result(
            {
                "ratings": options.ratings,
                "events": options.events,
                "pairs": pq.read_metadata(folder / "ours.parquet").num_rows,
                **runs,
                "equal": equal(folder) if done else None,
                "cpu_ratio": round(best["duckdb"] / best["ours"], 2) if done else None,
            }
        )


if __name__ == "__main__":
    main()
