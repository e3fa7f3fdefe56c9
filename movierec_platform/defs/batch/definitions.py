"""The code location `batch`."""

import dagster as dg

from movierec_platform.defs.batch import evaluation, events, graph, lake, movielens, similarity
from movierec_platform.defs.batch.jobs import (
    compaction,
    lake_maintenance,
    lake_maintenance_schedule,
    load_movielens,
    nightly,
    nightly_schedule,
)
from movierec_platform.defs.batch.resources import resources
from movierec_platform.defs.batch.sensors import nightly_again_sensor, stale_days_sensor

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([movielens, events, lake, similarity, evaluation, graph]),
    asset_checks=[graph.graph_parity],
    jobs=[load_movielens, compaction, nightly, lake_maintenance],
    schedules=[nightly_schedule, lake_maintenance_schedule],
    sensors=[stale_days_sensor, nightly_again_sensor],
    resources=resources(),
)
