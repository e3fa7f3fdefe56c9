"""The similarity learned by Spark beside the local engine, at two sizes: seconds, what is shuffled, and equal edges.

    python -m movierec_tests.benchmarks.spark [--pairs 250000 1000000] [--master 'local[2]'] [--method slim]

Needs PySpark (`pip install '.[spark]'`) and Java. Generated pairs (see `taste`) lie in an emulated lake; Spark's event
log tells what each run wrote to its shuffles. On one machine Spark is the slower one: the figure that says how it grows
is `shuffled_bytes_per_pair`.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import SecretStr

from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings, load_settings
from movierec_platform.domain.similarity import SimilarityParameters
from movierec_platform.domain.tables import INTERACTIONS
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer
from movierec_platform.services.learn import learner_of
from movierec_tests.benchmarks import taste
from movierec_tests.benchmarks.measure import print_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--method", choices=["slim", "cosine", "rp3beta"], default="slim")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        server = AwsServer(home, 0)
        server.start()
        try:
            settings = settings_of(server, home, asked.master)
            for n_pairs in asked.pairs:
                print_result(measure(settings, n_pairs, SimilarityParameters(method=asked.method)))
        finally:
            server.stop()


def settings_of(server: AwsServer, home: Path, master: str) -> Settings:
    given = {
        "home": home,
        "aws_endpoint_url": server.url,
        "aws_region": "us-east-1",
        "aws_access_key_id": ACCESS_KEY_ID,
        "aws_secret_access_key": SecretStr("opens-nothing"),
        "spark_master": master,
    }
    settings = load_settings(given)
    events = home / "events"
    events.mkdir()
    configuration = home / "spark"
    configuration.mkdir()
    lines = ["spark.eventLog.enabled true", f"spark.eventLog.dir file://{events}", "spark.driver.memory 4g"]
    (configuration / "spark-defaults.conf").write_text("\n".join([*lines, "spark.eventLog.compress false", ""]))
    os.environ["SPARK_CONF_DIR"] = str(configuration)
    return settings.model_copy(update=asdict(provision(settings, prefix="benchmark")))


def measure(settings: Settings, n_pairs: int, parameters: SimilarityParameters) -> dict[str, Any]:
    users, movies = taste.pairs(n_pairs)
    lake = Lake(settings)
    nothing = pa.nulls(len(users))
    columns = [users, movies, *[nothing] * 3, np.ones(len(users), np.int64), nothing]
    lake.write("interactions", pa.table(columns, names=INTERACTIONS.names).cast(INTERACTIONS))
    del users, movies
    sides = {}
    for engine in ("local", "spark"):
        learn = learner_of(settings.model_copy(update={"similarity_engine": engine}))
        started, cpu = time.monotonic(), cpu_seconds()
        learned = learn(lake, parameters, lambda *_: None)
        sides[engine] = learned.edges.digest(), time.monotonic() - started, cpu_seconds() - cpu
    shuffled = shuffled_bytes(settings.home / "events")
    return {
        "pairs": learned.pairs,
        "method": parameters.method,
        "edges": len(learned.edges),
        "equal": sides["local"][0] == sides["spark"][0],
        "local_s": round(sides["local"][1], 1),
        "spark_s": round(sides["spark"][1], 1),
        "local_cpu_s": round(sides["local"][2], 1),
        "shuffled_mb": round(shuffled / 1e6, 1),
        "shuffled_bytes_per_pair": round(shuffled / learned.pairs, 1),
    }


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def shuffled_bytes(events: Path) -> int:
    """What the newest run wrote to its shuffles, by its event log."""
    newest = max((one for one in events.rglob("*") if one.is_file() and one.stat().st_size), key=os.path.getmtime)
    total = 0
    with newest.open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event["Event"] == "SparkListenerTaskEnd":
                metrics = event.get("Task Metrics") or {}
                total += metrics.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
    return total


if __name__ == "__main__":
    main()
