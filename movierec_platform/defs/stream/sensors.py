"""One sensor a queue: looks at depth, active runs and leases, and launches drain runs. It never receives."""

import time

import dagster as dg

from movierec_platform.adapters.queues import QueueName
from movierec_platform.defs.stream.drains import graph_ingest, quality_gate, quarantine
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.domain.drains import ActiveRun, plan

QUEUE_TAG = "movierec/queue"
SLOT_TAG = "movierec/slot"
_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def queue_sensor(queue: QueueName, job: dg.JobDefinition, feeding: tuple[QueueName, ...] = ()) -> dg.SensorDefinition:
    """The sensor that keeps this queue drained by runs of this job.

    Messages in the queues that feed this one launch a run as well: it is ready when they arrive here.
    """

    @dg.sensor(
        name=f"{queue}_queue_sensor",
        job=job,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Launches {job.name} runs while messages wait in: {', '.join((queue, *feeding))}.",
    )
    def sensor(context: dg.SensorEvaluationContext, stream: StreamResource) -> dg.SensorResult | dg.SkipReason:
        now_s = time.time()
        runs = _active_runs(context.instance, queue)
        slots = stream.slots(queue)
        leases = {slot: stream.lease(queue, slot).view() for slot in range(slots)}
        queues = stream.queues()
        waiting = sum(queues.named(name).depth().visible for name in (queue, *feeding))
        policy = stream.policy()
        decided = plan(waiting, runs, leases, slots, now_s, policy)
        for run_id in decided.dead:
            _report_dead(context.instance, run_id)
        generation = int(context.cursor or 0)
        if not decided.launch:
            return dg.SkipReason(f"{waiting} messages wait; {sum(map(len, runs.values()))} runs are at work")
        requests = [
            dg.RunRequest(
                run_key=f"{queue}:{slot}:{generation + 1}",
                run_config={"ops": {job.nodes[0].name: {"config": {"slot": slot}}}},
                tags={
                    QUEUE_TAG: queue,
                    SLOT_TAG: str(slot),
                    "dagster/max_runtime": str(int(policy.max_runtime_s + policy.overlap_s + policy.grace_s)),
                },
            )
            for slot in decided.launch
        ]
        return dg.SensorResult(run_requests=requests, cursor=str(generation + 1))

    return sensor


def _active_runs(instance: dg.DagsterInstance, queue: QueueName) -> dict[int, list[ActiveRun]]:
    records = instance.get_run_records(dg.RunsFilter(statuses=_ACTIVE, tags={QUEUE_TAG: queue}))
    runs: dict[int, list[ActiveRun]] = {}
    for record in records:
        slot = int(record.dagster_run.tags.get(SLOT_TAG, "0"))
        runs.setdefault(slot, []).append(ActiveRun(record.dagster_run.run_id, record.start_time))
    return runs


def _report_dead(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None:
        instance.report_run_failed(run, "the run's worker is gone: it started and does not hold its lease")


raw_queue_sensor = queue_sensor("raw", quality_gate)
clean_queue_sensor = queue_sensor("clean", graph_ingest, feeding=("raw",))
dlq_queue_sensor = queue_sensor("dlq", quarantine)
