"""Jobs and the schedule. A run is one process: the multiprocess executor would cost it 2.6 s a step on two cores."""

import dagster as dg

from movierec_platform.defs.batch.resources import LakeResource
from movierec_platform.defs.batch.retries import retried
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.services.launch import load_config
from movierec_platform.services.maintain import maintain_lake

NIGHTLY_HOUR = 3
"""UTC."""

load_movielens = dg.define_asset_job(
    "load_movielens",
    # Not the parity: events that were posted for the set's movies before they were known are on no way to the graph.
    selection=dg.AssetSelection.assets(
        "movies", "ratings", "interactions", "popularity", "catalog_graph", "ratings_graph"
    )
    - dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("interactions"), "graph_parity")),
    description="A MovieLens set into the lake and the graph; loading it again changes nothing.",
    config=load_config(""),
    executor_def=dg.in_process_executor,
)

nightly = dg.define_asset_job(
    "nightly",
    selection=[
        "interactions",
        "popularity",
        "catalog_graph",
        "movie_similarity",
        "similarity_evaluation",
        "similarity_graph",
    ],
    description="What was posted goes into the interactions, a similarity is learned from them, judged and published.",
    executor_def=dg.in_process_executor,
)

compaction = dg.define_asset_job(
    "compaction",
    selection=["events"],
    description="A day's raw objects, or those of each day of a range, become its partition of the events.",
    executor_def=dg.in_process_executor,
)


@dg.op
@retried
def remove_unused_files(
    context: dg.OpExecutionContext, settings: SettingsResource, lake: LakeResource
) -> dict[str, int]:
    """How many files were removed of each table that there is."""
    removed = maintain_lake(lake.open(), settings.current().lake_kept_hours)
    context.add_output_metadata(removed)
    return removed


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
    cron_schedule=f"0 {NIGHTLY_HOUR} * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
