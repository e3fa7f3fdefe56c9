"""Jobs and the schedule. A run is one process: the multiprocess executor would cost it 2.6 s a step on two cores."""

import dagster as dg

from movierec_platform.defs.batch.resources import LakeResource
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.services.maintain import maintain_lake

load_movielens = dg.define_asset_job(
    "load_movielens",
    selection=["movies", "ratings", "interactions", "popularity", "catalog_graph", "ratings_graph"],
    description="A MovieLens set into the lake and the graph; loading it again changes nothing.",
    executor_def=dg.in_process_executor,
)

nightly = dg.define_asset_job(
    "nightly",
    selection=["interactions", "popularity", "catalog_graph", "movie_similarity", "similarity_graph"],
    description="What was posted goes into the interactions, a similarity is learned from them and published.",
    executor_def=dg.in_process_executor,
)

compaction = dg.define_asset_job(
    "compaction",
    selection=["events"],
    description="A day's raw objects, or those of each day of a range, become its partition of the events.",
    executor_def=dg.in_process_executor,
)


@dg.op
def remove_unused_files(settings: SettingsResource, lake: LakeResource) -> dict[str, int]:
    """How many files were removed of each table that there is."""
    return maintain_lake(lake.open(), settings.current().lake_kept_hours)


@dg.job(
    description="Files that no recent version of a table uses are removed from the lake.",
    executor_def=dg.in_process_executor,
)
def lake_maintenance() -> None:
    remove_unused_files()


lake_maintenance_schedule = dg.ScheduleDefinition(
    name="lake_maintenance_schedule",
    job=lake_maintenance,
    cron_schedule="0 5 * * 0",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

nightly_schedule = dg.ScheduleDefinition(
    name="nightly_schedule",
    job=nightly,
    cron_schedule="0 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
