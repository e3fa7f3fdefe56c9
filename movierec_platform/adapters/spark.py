"""Learns a similarity on Spark, for a lake that one machine cannot hold: the blocks of `domain.similarity.blocks`.

Executors read the lake's files themselves, through `Lake`, so they need this package and the way to S3, and no jar.
The driver holds a few numbers for each movie, the supports (slim: 8 bytes each) and the edges, never the pairs. What
is shuffled is the pairs, once for every block that a user's movies lie in, then what the blocks found, and for slim the
products, about 2 * support_size**2 bytes a movie.

SparkUnavailable when the master does not answer or a stage fails for good (Spark itself tries a task four times);
UsageError where PySpark or Java is missing.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings
from movierec_platform.domain.interactions import visible
from movierec_platform.domain.similarity import Edges, SimilarityParameters, neighbours
from movierec_platform.domain.similarity import blocks as step
from movierec_platform.domain.similarity.edges import Ints
from movierec_platform.domain.similarity.seen import Int32s
from movierec_platform.errors import SparkUnavailable, UsageError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TABLE = "interactions"
BLOCKS_PER_CORE = 2
"""Enough that no core waits long for the last block; each one more copies more of the pairs."""
_PAIRS = "user_id long, movie_id long"
_LISTS = "user_id long, movies array<int>"
_PARTS = "block int, user_id long, movies array<int>"
_WORK = "movie int, work long"
_FOUND = "target int, source int, score double, support int"
_PRODUCTS = "run int, target int, place int, counts array<int>"


def learn_on_spark(
    settings: Settings, parameters: SimilarityParameters, progress: Callable[[int, int], None]
) -> tuple[Edges, int]:
    """The edges that `neighbours` learns from the lake's visible interactions, bit for bit, and how many these are.

    `progress(done, total)` is called after each of the steps.
    """
    steps = 6 if parameters.method == "slim" else 4
    with _session(settings) as spark, _errors(settings.spark_master):
        tell = _counter(progress, steps)
        n_blocks = BLOCKS_PER_CORE * spark.sparkContext.defaultParallelism
        # Blocks fall into shuffle partitions by their hash: with twice as many, few have to share one.
        spark.conf.set("spark.sql.shuffle.partitions", 2 * n_blocks)
        pairs = _pairs(spark, settings)
        viewers = pairs.groupBy("movie_id").count().toArrow()
        movies = step.movies_of(viewers["movie_id"].to_numpy(), viewers["count"].to_numpy())
        n_pairs, n_movies = int(movies.viewers.sum()), len(movies.movie_ids)
        tell()
        if n_pairs == 0:
            nothing = viewers["movie_id"].to_numpy()
            return neighbours(nothing, nothing, parameters), 0

        known = spark.sparkContext.broadcast(movies)
        numbered = pairs.mapInArrow(partial(_numbered, known), "user_id long, movie int")
        lists = _lists(numbered).persist()
        work = _total(lists.mapInArrow(partial(_row_work, n_movies), _WORK), n_movies)
        tell()

        block_of = step.equal_blocks(work, n_blocks)
        whole = parameters.method == "rp3beta"
        parts = lists.mapInArrow(partial(_parts, block_of, whole), _PARTS)
        n_best = parameters.support_size if parameters.method == "slim" else parameters.neighbours
        found = parts.groupBy("block").applyInArrow(_on_group(_strongest, known, block_of, parameters, n_best), _FOUND)
        best = _best(found, known, n_blocks, n_best)
        tell()
        if parameters.method == "slim":
            supports = step.supports_found(movies, best)
            shared = spark.sparkContext.broadcast(supports)
            run_of = step.equal_blocks(np.diff(supports.starts) ** 2, n_blocks)
            products = parts.groupBy("block").applyInArrow(
                _on_group(_products, known, shared, block_of, run_of), _PRODUCTS
            )
            weights = products.groupBy("run").applyInArrow(
                _on_group(_weights, known, shared, run_of, parameters), _FOUND
            )
            best = _as_found(weights.toArrow())
            tell(2)
        edges = step.edges_found(movies, best, parameters)
        tell()
        return edges, n_pairs


def _pairs(spark: "SparkSession", settings: Settings) -> "DataFrame":
    """The visible pairs, read by as many tasks as the table's files have row groups."""
    splits = Lake(settings).splits(TABLE)
    rows = spark.sparkContext.parallelize(splits, max(1, len(splits)))
    return spark.createDataFrame(rows, "file string, row_group int").mapInArrow(partial(_read, settings), _PAIRS)


def _read(settings: Settings, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    lake = Lake(settings)
    for batch in batches:
        for file, row_group in zip(batch["file"].to_pylist(), batch["row_group"].to_pylist(), strict=True):
            pairs = lake.read_split(TABLE, file, row_group, ["user_id", "movie_id", "seen_at_ms", "retracted_at_ms"])
            yield from pairs.filter(visible(pairs)).select(["user_id", "movie_id"]).to_batches()


def _numbered(known: Any, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        movie = known.value.numbers_of(batch["movie_id"].to_numpy())
        yield pa.record_batch([batch["user_id"], pa.array(movie)], names=["user_id", "movie"])


def _lists(numbered: "DataFrame") -> "DataFrame":
    """A row per user: his movies by number, ascending."""
    from pyspark.sql import functions as f

    return numbered.groupBy("user_id").agg(f.array_sort(f.collect_set("movie")).alias("movies"))


def _row_work(n_movies: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    work = np.zeros(n_movies, np.int64)
    for batch in batches:
        work += step.row_work(*_runs(batch["movies"]), n_movies)
    rows = np.flatnonzero(work)
    yield pa.record_batch([pa.array(rows.astype(np.int32)), pa.array(work[rows])], names=["movie", "work"])


def _total(work: "DataFrame", n_movies: int) -> Ints:
    summed = work.groupBy("movie").agg({"work": "sum"}).toArrow()
    total = np.zeros(n_movies, np.int64)
    total[summed["movie"].to_numpy()] = summed["sum(work)"].to_numpy()
    return total


def _parts(block_of: Int32s, whole: bool, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        parts = step.block_parts(batch["user_id"].to_numpy(), *_runs(batch["movies"]), block_of, whole)
        columns = [pa.array(parts.block), pa.array(parts.user), _lists_of(parts.starts, parts.movies)]
        yield pa.record_batch(columns, names=["block", "user_id", "movies"])


def _strongest(
    known: Any, block_of: Int32s, parameters: SimilarityParameters, n_best: int, group: pa.Table
) -> pa.Table:
    parts, rows = _block(group, block_of)
    return _found_table(step.strongest_of_rows(known.value, parts, rows, parameters, n_best))


def _best(found: "DataFrame", known: Any, n_groups: int, n_best: int) -> step.Found:
    """For every movie the best of what all blocks found."""
    from pyspark.sql import functions as f

    groups = found.withColumn("share", f.col("target") % n_groups).groupBy("share")
    return _as_found(groups.applyInArrow(_on_group(_merged, known, n_best), _FOUND).toArrow())


def _merged(known: Any, n_best: int, group: pa.Table) -> pa.Table:
    return _found_table(step.best_found(known.value, _as_found(group), n_best))


def _products(known: Any, shared: Any, block_of: Int32s, run_of: Int32s, group: pa.Table) -> pa.Table:
    parts, rows = _block(group, block_of)
    products = step.products_of_rows(known.value, parts, rows, shared.value)
    # And an empty row for every run, so that each is a group: a target with a support of one movie has no products.
    _, firsts = np.unique(run_of, return_index=True)
    target = np.concatenate([products.target, firsts.astype(np.int32)])
    place = np.concatenate([products.place, np.zeros(len(firsts), np.int32)])
    starts = np.concatenate([products.starts, np.repeat(products.starts[-1:], len(firsts))])
    counts = _lists_of(starts, products.counts.view(np.int32))
    return pa.table([run_of[target], target, place, counts], names=["run", "target", "place", "counts"])


def _weights(known: Any, shared: Any, run_of: Int32s, parameters: SimilarityParameters, group: pa.Table) -> pa.Table:
    starts, counts = _runs(group["counts"].combine_chunks())
    products = step.Products(group["target"].to_numpy(), group["place"].to_numpy(), starts, counts.view(np.uint32))
    targets = _run(run_of, group["run"][0].as_py())
    return _found_table(step.weights_of_targets(known.value, shared.value, products, targets, parameters))


def _on_group(function: Callable[..., pa.Table], *arguments: Any) -> Callable[[pa.Table], pa.Table]:
    """The function of a group alone, with the annotations that Spark asks for."""

    def on_group(group: pa.Table) -> pa.Table:
        return function(*arguments, group)

    return on_group


def _block(group: pa.Table, block_of: Int32s) -> tuple[step.Parts, tuple[int, int]]:
    """A block's parts, by user ascending, and its rows [first, last)."""
    ordered = group.sort_by("user_id").combine_chunks()
    starts, movies = _runs(ordered["movies"].combine_chunks())
    block = ordered["block"].to_numpy()
    return step.Parts(block, ordered["user_id"].to_numpy(), starts, movies), _run(block_of, int(block[0]))


def _run(of: Int32s, value: int) -> tuple[int, int]:
    """Where in an ascending array this value begins, and where it ends."""
    return int(np.searchsorted(of, value)), int(np.searchsorted(of, value, side="right"))


def _runs(lists: Any) -> tuple[Ints, Int32s]:
    """The lists as (starts, values): list k is values[starts[k] : starts[k + 1]]."""
    flat = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    starts = flat.offsets.to_numpy().astype(np.int64)
    return starts - starts[0], flat.flatten().to_numpy()


def _lists_of(starts: Ints, values: Any) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), pa.array(values))


def _found_table(found: step.Found) -> pa.Table:
    return pa.table(
        [pa.array(found.target), pa.array(found.source), pa.array(found.score), pa.array(found.support.view(np.int32))],
        names=["target", "source", "score", "support"],
    )


def _as_found(table: pa.Table) -> step.Found:
    return step.Found(
        table["target"].to_numpy(),
        table["source"].to_numpy(),
        table["score"].to_numpy(),
        table["support"].to_numpy().view(np.uint32),
    )


@contextmanager
def _session(settings: Settings) -> Iterator["SparkSession"]:
    """A session on the configured master; what else it needs stands in Spark's own configuration."""
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError:
        raise UsageError(
            "MOVIEREC_SIMILARITY_ENGINE=spark needs PySpark: pip install 'movierec-platform[spark]', or choose local"
        ) from None
    builder = SparkSession.builder.master(settings.spark_master).appName("movierec similarity")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    if settings.spark_master.startswith("local"):
        # A cluster's image says which interpreter is its own, and its network who may reach the driver.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1")
    with warnings.catch_warnings():
        # Nothing here goes through pandas.
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        try:
            spark = builder.getOrCreate()
        except PySparkRuntimeError as error:
            raise UsageError(f"Spark does not start, which needs Java 17 or newer: {_first_line(error)}") from error
        try:
            yield spark
        finally:
            spark.stop()


@contextmanager
def _errors(master: str) -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise SparkUnavailable(f"Spark at {master} failed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _counter(progress: Callable[[int, int], None], total: int) -> Callable[..., None]:
    done = 0

    def tell(steps: int = 1) -> None:
        nonlocal done
        done += steps
        progress(done, total)

    return tell
