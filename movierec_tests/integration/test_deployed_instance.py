"""Dagster's instance as it is deployed: storage in Postgres, the output of steps in S3."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from movierec_platform import deploy
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import Settings, variables_of
from movierec_tests.postgres import PostgresServer

JOB = """
import dagster as dg

@dg.op
def speak():
    print("heard in S3")

@dg.job(executor_def=dg.in_process_executor)
def talk():
    speak()
"""
PROGRAM = """
import dagster as dg
from talking import talk

with dg.DagsterInstance.get() as instance:
    result = dg.execute_job(dg.reconstructable(talk), instance=instance)
    assert instance.get_run_by_id(result.run_id).is_success
    print(instance.event_log_storage.postgres_url.rpartition("/")[2])
"""


def test_runs_are_in_postgres_and_their_output_is_in_s3(
    fresh_settings: Settings, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    shutil.copyfile(Path(next(iter(deploy.__path__))) / "dagster.yaml", tmp_path / "dagster.yaml")
    (tmp_path / "talking.py").write_text(JOB)
    url = postgres_server.new_database()
    environment = {
        **os.environ,
        **variables_of(fresh_settings),
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_POSTGRES_URL": url.replace("postgresql://", "postgresql+psycopg2://"),
        "PYTHONPATH": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == url.rpartition("/")[2]
    objects = open_objects(fresh_settings)
    logs = [objects.get(key) for key in objects.keys("dagster/compute-logs/")]
    assert any(b"heard in S3" in log for log in logs)
