"""The light code location: it loads light, and its sensors launch what `plan` says, once each."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from movierec_platform.adapters.leases import Lease
from movierec_platform.adapters.queues import Queues
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
    assert isinstance(tick(instance, stream), dg.SkipReason)


def test_raw_messages_launch_the_graph_ingest_too_but_no_quarantine(instance, stream, fresh_settings) -> None:
    Queues.open(fresh_settings).raw.send([json.dumps(GOOD)])
    assert [one.run_key for one in tick(instance, stream, sensor=clean_queue_sensor).run_requests] == ["clean:0:1"]
    assert isinstance(tick(instance, stream, sensor=dlq_queue_sensor), dg.SkipReason)


def test_waiting_messages_launch_a_run_in_every_slot_with_new_keys_at_each_tick(
    instance, stream, fresh_settings
) -> None:
    Queues.open(fresh_settings).raw.send([json.dumps(GOOD)])
    result = tick(instance, stream)
    assert [request.run_key for request in result.run_requests] == ["raw:0:1", "raw:1:1"]
    assert [request.tags[SLOT_TAG] for request in result.run_requests] == ["0", "1"]
    assert [request.run_config["ops"]["pass_gate"]["config"]["slot"] for request in result.run_requests] == [0, 1]
    again = tick(instance, stream, result.cursor)
    assert [request.run_key for request in again.run_requests] == ["raw:0:2", "raw:1:2"]


def test_a_slot_with_an_active_run_is_left_alone_and_a_dead_one_is_replaced(instance, stream, fresh_settings) -> None:
    Queues.open(fresh_settings).raw.send([json.dumps(GOOD)])
    tags = {QUEUE_TAG: "raw", SLOT_TAG: "0"}
    run = instance.create_run_for_job(quality_gate, status=dg.DagsterRunStatus.STARTING, tags=tags)
    assert [request.tags[SLOT_TAG] for request in tick(instance, stream).run_requests] == ["1"]

    instance.report_dagster_event(
        dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="quality_gate"), run.run_id
    )
    eager = stream_of(fresh_settings, gate_slots=2, drain_grace_s=0.001)
    with Lease(fresh_settings.home / "leases", "raw", 0).held(run.run_id, 1):
        assert [request.tags[SLOT_TAG] for request in tick(instance, eager).run_requests] == ["1"]
    with Lease(fresh_settings.home / "leases", "raw", 0).held("a run before it", 1):
        pass
    assert [request.tags[SLOT_TAG] for request in tick(instance, eager).run_requests] == ["0", "1"]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_the_job_drains_the_queue_under_its_lease(instance, stream, fresh_settings) -> None:
    queues = Queues.open(fresh_settings)
    queues.raw.send([json.dumps(GOOD)])
    result = quality_gate.execute_in_process(
        run_config={"ops": {"pass_gate": {"config": {"slot": 1}}}}, resources={"stream": stream}, instance=instance
    )
    assert result.success
    assert (queues.raw.depth().total, queues.clean.depth().total) == (0, 1)
    assert Lease(fresh_settings.home / "leases", "raw", 1).view().released_by == result.run_id
