"""The similarity learned by a real Spark, `local[2]`: seconds, because a JVM and Python workers start."""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.spark import learn_on_spark
from movierec_platform.config import Settings
from movierec_platform.domain.similarity import SimilarityParameters, neighbours
from movierec_platform.domain.tables import INTERACTIONS
from movierec_tests.servers import empty_settings

pytestmark = [
    pytest.mark.thorough("Spark"),
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None, reason="PySpark is not installed: pip install '.[spark]'"
    ),
    # Nothing of ours goes through pandas there.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    # The driver's sockets are closed when it is collected.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def test_spark_learns_the_edges_of_the_local_engine(aws_settings: Settings, tmp_path: Path) -> None:
    settings = empty_settings(aws_settings, tmp_path / "home").model_copy(update={"spark_master": "local[2]"})
    pairs = write_interactions(Lake(settings), n_users=300, n_movies=200, n_pairs=12_000)
    parameters = SimilarityParameters(method="slim", neighbours=20, support_size=30)
    said: list[tuple[int, int]] = []

    edges, n_pairs = learn_on_spark(settings, parameters, lambda *done: said.append(done))

    users, movies = (pairs[name].to_numpy() for name in ("user_id", "movie_id"))
    assert edges.digest() == neighbours(users, movies, parameters).digest()
    assert n_pairs == len(users)
    assert said[-1] == (6, 6)


def write_interactions(lake: Lake, n_users: int, n_movies: int, n_pairs: int) -> pa.Table:
    """The table holds these and some retracted pairs; returns those that are visible."""
    numbers = np.random.default_rng(3)
    drawn = np.stack([numbers.integers(1, n_users, n_pairs), (numbers.pareto(1, n_pairs) * 20).astype(int) % n_movies])
    users, movies = np.unique(drawn, axis=1)
    retracted = numbers.random(len(users)) < 0.1
    table = pa.table(
        {
            "user_id": users,
            "movie_id": movies * 7 + 1,
            "rating": pa.nulls(len(users), pa.float64()),
            "rated_at_ms": pa.nulls(len(users), pa.int64()),
            "event_id": pa.nulls(len(users), pa.string()),
            "seen_at_ms": np.full(len(users), 1_000),
            "retracted_at_ms": pa.array(np.where(retracted, 2_000, 0), mask=~retracted),
        }
    ).cast(INTERACTIONS)
    lake.write("interactions", table)
    return table.filter(pa.array(~retracted))
