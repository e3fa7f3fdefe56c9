"""One sensor a queue: looks at depth, active runs and leases, and launches drain runs. It never receives."""

import json
import time
from dataclasses import dataclass

import dagster as dg

from movierec_platform.adapters.queues import QueueName
from movierec_platform.defs.stream.drains import graph_ingest, quality_gate, quarantine
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.domain.drains import ActiveRun, Memory, Phase, plan, remember
from movierec_platform.services.note import note_ending

QUEUE_TAG = "movierec/queue"
SLOT_TAG = "movierec/slot"
_PHASES: dict[dg.DagsterRunStatus, Phase] = {
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.NOT_STARTED: "starting",
    dg.DagsterRunStatus.STARTING: "starting",
    dg.DagsterRunStatus.STARTED: "started",
    dg.DagsterRunStatus.CANCELING: "started",
}


def queue_sensor(queue: QueueName, job: dg.JobDefinition, feeding: tuple[QueueName, ...] = ()) -> dg.SensorDefinition:
    """The sensor that keeps this queue drained by runs of this job.

    Messages in the queues that feed this one launch a run as well: it is ready when they arrive here.
    """

    @dg.sensor(
        name=f"{queue}_queue_sensor",
        job=job,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Launches {job.name} runs while messages wait in: {', '.join((queue, *feeding))}; "
        "where drains are resident, always.",
    )
    def sensor(context: dg.SensorEvaluationContext, stream: StreamResource) -> dg.SensorResult:
        cursor = _Cursor.read(context.cursor)
        now_s = time.monotonic()
        runs = _active_runs(context.instance, queue)
        slots = stream.slots(queue)
        leases = {slot: stream.lease(queue, slot).view() for slot in {*range(slots), *runs}}
        queues = stream.queues()
        waiting = sum(queues.named(name).depth().visible for name in (queue, *feeding))
        policy = stream.policy(queue)
        memory = remember(cursor.memory, runs, leases, now_s - cursor.at_s)
        decided = plan(waiting, runs, leases, slots, memory, policy)
        for run_id in decided.dead:
            _report_dead(context.instance, run_id)
            note_ending(stream.current(), queue, "dead")
        generation = cursor.generation + 1 if decided.launch else cursor.generation
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{queue}:{slot}:{generation}",
                    run_config={"ops": {job.nodes[0].name: {"config": {"slot": slot}}}},
                    tags={QUEUE_TAG: queue, SLOT_TAG: str(slot)},
                )
                for slot in decided.launch
            ],
            skip_reason=None
            if decided.launch
            else dg.SkipReason(f"{waiting} messages wait; {sum(map(len, runs.values()))} runs are at work"),
            cursor=_Cursor(generation, now_s, memory).as_json(),
        )

    return sensor


@dataclass(frozen=True)
class _Cursor:
    """What a tick leaves to the next: the last generation of run keys, its monotonic time, and what it has seen."""

    generation: int
    at_s: float
    memory: Memory

    @classmethod
    def read(cls, text: str | None) -> "_Cursor":
        """The cursor in this text. Where there is none, a generation that no earlier cursor can have reached:
        a run key is once-only for ever, and a tick adds one at most."""
        try:
            content = json.loads(text or "{}")
            return cls(int(content["generation"]), float(content["at_s"]), Memory.from_json(content["memory"]))
        except (ValueError, TypeError, KeyError):
            return cls(int(time.time()), time.monotonic(), Memory())

    def as_json(self) -> str:
        return json.dumps({"generation": self.generation, "at_s": self.at_s, "memory": self.memory.as_json()})


def _active_runs(instance: dg.DagsterInstance, queue: QueueName) -> dict[int, list[ActiveRun]]:
    records = instance.get_run_records(dg.RunsFilter(statuses=list(_PHASES), tags={QUEUE_TAG: queue}))
    runs: dict[int, list[ActiveRun]] = {}
    for run in (record.dagster_run for record in records):
        runs.setdefault(int(run.tags.get(SLOT_TAG, "0")), []).append(ActiveRun(run.run_id, _PHASES[run.status]))
    return runs


def _report_dead(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None:
        instance.report_run_failed(run, "the run's worker is gone: it does not take its lease")


raw_queue_sensor = queue_sensor("raw", quality_gate)
clean_queue_sensor = queue_sensor("clean", graph_ingest, feeding=("raw",))
dlq_queue_sensor = queue_sensor("dlq", quarantine)
