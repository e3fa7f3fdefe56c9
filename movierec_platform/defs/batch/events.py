"""What was posted, by the day that it was received."""

import time
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from movierec_platform.defs.batch.checks import check_results, check_specs
from movierec_platform.defs.batch.resources import LakeResource, ObjectStoreResource
from movierec_platform.defs.batch.retries import retried
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.domain.event_checks import CHECKS, EventPolicy, findings_of_days
from movierec_platform.domain.freshness import COMPACTION
from movierec_platform.domain.set_aside import told_by_day
from movierec_platform.errors import PromotionRefused
from movierec_platform.services.compact import compact_days
from movierec_platform.services.note import COMPACTED, note_duration
from movierec_platform.services.set_aside import note_set_aside

days = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_offset=1)
"""Today is one of them: its partition is stale again with the next object, and is made again."""


class EventsConfig(dg.Config):
    """What may pass this time."""

    waive: list[str] = Field([], description="names of checks that may fail in this run")


@dg.asset(
    deps=["movies"],
    group_name="lake",
    kinds={"delta", "s3"},
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=check_specs("events", CHECKS),
)
@retried
def events(
    context: dg.AssetExecutionContext,
    config: EventsConfig,
    settings: SettingsResource,
    lake: LakeResource,
    objects: ObjectStoreResource,
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """One row per accepted event of a known movie, once however often it was posted, by the day it was received."""
    started = time.monotonic()
    try:
        reports = compact_days(
            lake.open(),
            objects.open(),
            context.partition_keys,
            EventPolicy(volume_factor=settings.current().volume_factor),
            now_ms=time.time_ns() // 1_000_000,
            waived=config.waive,
            progress=lambda report: context.log.info(f"{report.day}: {report.accepted} of {report.landed} lines"),
        )
    except PromotionRefused as refused:
        yield from check_results("events", refused.findings, config.waive)
        raise
    if set_aside := [one for report in reports for one in report.set_aside]:
        note_set_aside(settings.current(), set_aside)
        for sentence in told_by_day(set_aside):
            context.log.warning(sentence)
    seconds = time.monotonic() - started
    note_duration(settings.current(), COMPACTION, seconds, COMPACTED)
    for report in reports:
        context.add_asset_metadata(report.as_metadata(), partition_key=report.day)
    found = findings_of_days({report.day: report.findings for report in reports})
    yield from check_results("events", found, config.waive)
    yield dg.MaterializeResult(metadata={"seconds": round(seconds, 3)})
