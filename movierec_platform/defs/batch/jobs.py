"""Jobs and the schedule. A run is one process: the multiprocess executor would cost it 2.6 s a step on two cores."""

import dagster as dg

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

nightly_schedule = dg.ScheduleDefinition(
    name="nightly_schedule",
    job=nightly,
    cron_schedule="0 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
