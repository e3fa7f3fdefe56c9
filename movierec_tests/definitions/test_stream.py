"""The light code location: it loads light, and its sensors launch what `plan` says, once each."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from movierec_platform.adapters.leases import FileLease
from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import STACK_ENV, Settings, variables_of, write_env_file
from movierec_platform.defs.stream.definitions import defs
from movierec_platform.defs.stream.drains import quality_gate
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.defs.stream.sensors import (
    QUEUE_TAG,
    SLOT_TAG,
    clean_queue_sensor,
    dlq_queue_sensor,
    raw_queue_sensor,
)

HEAVY = ("pandas", "pyarrow", "deltalake", "numba", "dagster_aws", "numpy", "neo4j")
GOOD = {"user_id": 1, "movie_id": 10, "rating": 4.0}


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def stream_of(settings: Settings, **changed: float) -> StreamResource:
    """The stream over these settings, which it finds in their home."""
    write_env_file(settings.home / STACK_ENV, variables_of(settings.model_copy(update=changed)))
    return StreamResource(home=str(settings.home))


@pytest.fixture
def stream(fresh_settings: Settings) -> StreamResource:
    return stream_of(fresh_settings, gate_slots=2, drain_linger_s=1.5, drain_grace_s=5.0)


def tick(instance: dg.DagsterInstance, stream: StreamResource, cursor: str | None = None, sensor=raw_queue_sensor):
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"stream": stream})
    return sensor(context)


def test_it_loads_with_a_sensor_a_queue_that_runs_by_itself() -> None:
    dg.Definitions.validate_loadable(defs)
    sensors = {sensor.name: sensor for sensor in defs.sensors or ()}
    assert sensors.keys() == {"raw_queue_sensor", "clean_queue_sensor", "dlq_queue_sensor"}
    assert all(sensor.default_status == dg.DefaultSensorStatus.RUNNING for sensor in sensors.values())
    assert [sensors[f"{queue}_queue_sensor"].job.name for queue in ("raw", "clean", "dlq")] == [
        "quality_gate",
        "graph_ingest",
        "quarantine",
    ]


def test_importing_it_loads_nothing_heavy_and_reads_no_setting(tmp_path: Path) -> None:
    script = (
        "import sys; import movierec_platform.defs.stream.definitions;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "MOVIEREC_API_PORT": "not a port", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_an_empty_queue_launches_nothing(instance, stream: StreamResource) -> None:
    result = tick(instance, stream)
    assert (result.run_requests, str(result.skip_reason.skip_message)) == ([], "0 messages wait; 0 runs are at work")


def test_where_drains_are_resident_gate_and_ingest_run_before_there_is_anything(instance, fresh_settings) -> None:
    stream = stream_of(fresh_settings, resident_drains=True)
    for sensor, launched in ((raw_queue_sensor, 1), (clean_queue_sensor, 1), (dlq_queue_sensor, 0)):
        assert len(tick(instance, stream, sensor=sensor).run_requests) == launched


def test_raw_messages_launch_the_graph_ingest_too_but_no_quarantine(instance, stream, fresh_settings) -> None:
    Queues.open(fresh_settings).raw.send([json.dumps(GOOD)])
    requests = tick(instance, stream, sensor=clean_queue_sensor).run_requests
    assert [one.run_key.rpartition(":")[0] for one in requests] == ["clean:0"]
    assert tick(instance, stream, sensor=dlq_queue_sensor).run_requests == []


def test_waiting_messages_launch_a_run_in_every_slot_with_new_keys_at_each_tick(
    instance, stream, fresh_settings
) -> None:
    Queues.open(fresh_settings).raw.send([json.dumps(GOOD)])
    result = tick(instance, stream)
    assert [request.run_key.rpartition(":")[0] for request in result.run_requests] == ["raw:0", "raw:1"]
    assert [request.tags[SLOT_TAG] for request in result.run_requests] == ["0", "1"]
    assert [request.run_config["ops"]["pass_gate"]["config"]["slot"] for request in result.run_requests] == [0, 1]
    again = tick(instance, stream, result.cursor)
    assert generation(again.run_requests[0]) == generation(result.run_requests[0]) + 1


def generation(request: dg.RunRequest) -> int:
    return int(request.run_key.rpartition(":")[2])


@pytest.mark.parametrize("cursor", [None, "", "7", "null", "{}", "nonsense", '{"generation": 1, "at_s": 5}'])
def test_a_lost_cursor_brings_no_run_key_back(instance, stream, fresh_settings, cursor: str | None) -> None:
    Queues.open(fresh_settings).raw.send([json.dumps(GOOD)])
    assert generation(tick(instance, stream, cursor).run_requests[0]) > 1_700_000_000


def started_run(instance: dg.DagsterInstance, slot: int) -> str:
    """The id of a run of this slot that has a record but no worker."""
    tags = {QUEUE_TAG: "raw", SLOT_TAG: str(slot)}
    run = instance.create_run_for_job(quality_gate, status=dg.DagsterRunStatus.STARTING, tags=tags)
    assert run.run_id
    started = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="quality_gate")
    instance.report_dagster_event(started, run.run_id)
    return run.run_id


def runs_counted(settings: Settings) -> dict[str, float]:
    """The durable counters of the raw queue's drain runs: how many began, and ended by why."""
    counted = [
        (dict(labels), value)
        for (name, labels), value in State.open(settings).counters().items()
        if "drain_runs" in name
    ]
    return {labels.get("because", "started"): value for labels, value in counted if labels["queue"] == "raw"}


def test_a_slot_with_an_active_run_is_left_alone_and_a_dead_one_is_replaced(instance, stream, fresh_settings) -> None:
    Queues.open(fresh_settings).raw.send([json.dumps(GOOD)])
    run_id = started_run(instance, 0)
    eager = stream_of(fresh_settings, gate_slots=2, drain_grace_s=0.001)
    with FileLease(fresh_settings.home / "leases", "raw", 0).held(run_id, 1):
        result = tick(instance, eager)
        assert [request.tags[SLOT_TAG] for request in result.run_requests] == ["1"]
        result = tick(instance, eager, result.cursor)
        assert [request.tags[SLOT_TAG] for request in result.run_requests] == ["1"]
    result = tick(instance, eager, result.cursor)
    assert [request.tags[SLOT_TAG] for request in result.run_requests] == ["1"], "it is about to end"
    result = tick(instance, eager, result.cursor)
    assert [request.tags[SLOT_TAG] for request in result.run_requests] == ["0", "1"]
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
    assert runs_counted(fresh_settings) == {"dead": 1}


def test_in_slots_that_are_configured_no_more_only_dead_runs_are_ended(instance, fresh_settings) -> None:
    run_id = started_run(instance, 5)
    eager = stream_of(fresh_settings, gate_slots=1, drain_grace_s=0.001)
    with FileLease(fresh_settings.home / "leases", "raw", 5).held(run_id, 1):
        cursor = tick(instance, eager, tick(instance, eager).cursor).cursor
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED
    tick(instance, eager, tick(instance, eager, cursor).cursor)
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE


def test_the_job_drains_the_queue_under_its_lease(instance, stream, fresh_settings) -> None:
    queues = Queues.open(fresh_settings)
    queues.raw.send([json.dumps(GOOD)])
    result = quality_gate.execute_in_process(
        run_config={"ops": {"pass_gate": {"config": {"slot": 1}}}}, resources={"stream": stream}, instance=instance
    )
    assert result.success
    assert (queues.raw.depth().total, queues.clean.depth().total) == (0, 1)
    assert FileLease(fresh_settings.home / "leases", "raw", 1).view().released_by == result.run_id
    assert runs_counted(fresh_settings) == {"started": 1, "idle": 1}


def test_a_run_that_hangs_is_killed_and_says_where_it_hung() -> None:
    script = (
        "import threading; from movierec_platform.defs.stream.drains import killed_after\n"
        "with killed_after(30): pass\n"
        "with killed_after(0.1): threading.Event().wait()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "threading.py" in done.stderr
