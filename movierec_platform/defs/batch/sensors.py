"""Notices what is to be done again: days whose events are not of what lies in S3 now, and a nightly that failed."""

import hashlib
import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone

import dagster as dg

from movierec_platform.defs.batch.events import days
from movierec_platform.defs.batch.jobs import NIGHTLY_HOUR, compaction, nightly
from movierec_platform.defs.batch.resources import LakeResource, ObjectStoreResource
from movierec_platform.defs.batch.retries import ended_by_outage, failed_checks
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.errors import MovierecError
from movierec_platform.services.compact import days_before, ranges_of, stale_days
from movierec_platform.services.launch import range_tags

RANGE_START, RANGE_END = range_tags("", "")
LATEST_RUNS = 50
WINDOW = timedelta(hours=6)
"""So long after its hour a failed nightly is tried again."""
FIRST_WAIT = timedelta(minutes=10)
LONGEST_WAIT = timedelta(hours=1)


@dg.sensor(
    name="stale_days",
    job=compaction,
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Compacts past days on which objects were landed late, or whose unknown movies may be known now.",
)
def stale_days_sensor(
    context: dg.SensorEvaluationContext, settings: SettingsResource, lake: LakeResource, objects: ObjectStoreResource
) -> dg.SensorResult | dg.SkipReason:
    """One run for each unbroken range of stale days. What was asked for once is asked for again only after an outage.

    A day whose rows fail a check so waits for somebody, or for the next object. The cursor has what was asked for.
    """
    today = datetime.now(timezone.utc).date()
    looked_at = [day for day in days_before(today, settings.current().late_days) if days.has_partition_key(day)]
    try:
        stale = stale_days(lake.open(), objects.open(), looked_at)
    except MovierecError as failed:
        return dg.SkipReason(str(failed))
    asked: dict[str, str] = json.loads(context.cursor or "{}")
    lost = _lost_to_outages(context.instance)
    wanted = {
        day: f"{label}{lost.get(day, '')}" for day, label in stale.items() if asked.get(day) != label or day in lost
    }
    requests = []
    for first, last in ranges_of(wanted):
        labels = [f"{day}:{label}" for day, label in wanted.items() if first <= day <= last]
        requests.append(
            dg.RunRequest(
                run_key=hashlib.blake2b("\n".join(labels).encode(), digest_size=16).hexdigest(),
                tags=range_tags(first, last),
            )
        )
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else f"{len(stale)} of the last {len(looked_at)} days are stale, all asked for",
        cursor=json.dumps(stale),
    )


def _lost_to_outages(instance: dg.DagsterInstance) -> dict[str, str]:
    """Days whose latest compaction an outage ended, each with the id of that run."""
    latest: dict[str, str] = {}
    for record in instance.get_run_records(dg.RunsFilter(job_name=compaction.name), limit=LATEST_RUNS):
        run = record.dagster_run
        lost = run.status == dg.DagsterRunStatus.FAILURE and ended_by_outage(instance, run.run_id)
        for day in _days_of(run):
            latest.setdefault(day, run.run_id if lost else "")
    return {day: run_id for day, run_id in latest.items() if run_id}


def _days_of(run: dg.DagsterRun) -> list[str]:
    """The days that this run of a compaction was launched for."""
    first = run.tags.get(RANGE_START) or run.tags.get("dagster/partition")
    last = run.tags.get(RANGE_END) or first
    if not first or not last:
        return []
    start = date.fromisoformat(first)
    return [str(start + timedelta(days=n)) for n in range((date.fromisoformat(last) - start).days + 1)]


@dg.sensor(
    name="nightly_again",
    job=nightly,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Launches a nightly again that an outage ended, later each time, until {NIGHTLY_HOUR + 6}:00 UTC.",
)
def nightly_again_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A nightly that a check has stopped is not tried again: the same answer would come. But days that an outage kept
    from being compacted may be by then."""
    now = datetime.now(timezone.utc)
    began = now.replace(hour=NIGHTLY_HOUR, minute=0, second=0, microsecond=0)
    if not began <= now < began + WINDOW:
        return dg.SkipReason(f"the nightly's time is {began:%H:%M} to {began + WINDOW:%H:%M} UTC")
    runs = context.instance.get_run_records(dg.RunsFilter(job_name=nightly.name, created_after=began))
    return run_again(context.instance, runs, now)


def run_again(
    instance: dg.DagsterInstance, runs: Sequence[dg.RunRecord], now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """What follows from this night's runs, the latest first."""
    if not runs:
        return dg.SkipReason("none was launched yet")
    if any(one.dagster_run.status == dg.DagsterRunStatus.SUCCESS for one in runs):
        return dg.SkipReason("it has ended well")
    latest = runs[0]
    run_id, status = latest.dagster_run.run_id, latest.dagster_run.status
    if status != dg.DagsterRunStatus.FAILURE:
        return dg.SkipReason(f"run {run_id} is {status.value.lower()}")
    waits_for_days = "events_complete" in failed_checks(instance, run_id)  # which are compacted by themselves
    if not waits_for_days and not ended_by_outage(instance, run_id):
        return dg.SkipReason(f"run {run_id} would fail again: see what its step says")
    waited = now.timestamp() - (latest.end_time or latest.update_timestamp.timestamp())
    wait = min(FIRST_WAIT * 2 ** (len(runs) - 1), LONGEST_WAIT)
    if waited < wait.total_seconds():
        return dg.SkipReason(f"run {run_id} may end well next time: again {wait} after its end")
    return dg.RunRequest(run_key=f"after {run_id}")
