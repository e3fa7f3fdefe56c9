"""Notices days whose partition of the events is not of what lies in S3 now, and has them compacted again."""

import hashlib
import json
from datetime import datetime, timezone

import dagster as dg

from movierec_platform.defs.batch.events import days
from movierec_platform.defs.batch.jobs import compaction
from movierec_platform.defs.batch.resources import LakeResource, ObjectStoreResource
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.errors import MovierecError
from movierec_platform.services.compact import days_before, ranges_of, stale_days

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


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
    """One run for each unbroken range of stale days. What was asked for once is not asked for again.

    A day whose rows fail a check so waits for somebody, or for the next object. The cursor has what was asked for.
    """
    today = datetime.now(timezone.utc).date()
    looked_at = [day for day in days_before(today, settings.current().late_days) if days.has_partition_key(day)]
    try:
        stale = stale_days(lake.open(), objects.open(), looked_at)
    except MovierecError as failed:
        return dg.SkipReason(str(failed))
    asked: dict[str, str] = json.loads(context.cursor or "{}")
    wanted = {day: label for day, label in stale.items() if asked.get(day) != label}
    requests = []
    for first, last in ranges_of(wanted):
        labels = [f"{day}:{label}" for day, label in wanted.items() if first <= day <= last]
        requests.append(
            dg.RunRequest(
                run_key=hashlib.blake2b("\n".join(labels).encode(), digest_size=16).hexdigest(),
                tags={RANGE_START: first, RANGE_END: last},
            )
        )
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else f"{len(stale)} of the last {len(looked_at)} days are stale, all asked for",
        cursor=json.dumps(stale),
    )
