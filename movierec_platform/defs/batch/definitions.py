"""The code location `batch`."""

import dagster as dg

from movierec_platform.defs.batch import graph, lake, movielens, similarity
from movierec_platform.defs.batch.jobs import load_movielens, nightly, nightly_schedule
from movierec_platform.defs.batch.resources import resources

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([movielens, lake, similarity, graph]),
    asset_checks=[graph.graph_parity],
    jobs=[load_movielens, nightly],
    schedules=[nightly_schedule],
    resources=resources(),
)
