"""What the lake derives from the imports and from everything that was ever posted."""

import time

import dagster as dg

from movierec_platform.defs.batch.resources import LakeResource, ObjectStoreResource
from movierec_platform.services.fold import fold_lake


@dg.asset(deps=["movies", "ratings"], group_name="lake", kinds={"delta"})
def interactions(lake: LakeResource, objects: ObjectStoreResource) -> dg.MaterializeResult[None]:
    """One row per (user, movie) pair: its three registers, folded from the bulk ratings and every landed event."""
    started = time.monotonic()
    opened = lake.open()
    rows = opened.write("interactions", fold_lake(opened, objects.open()))
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "seconds": round(time.monotonic() - started, 3)})
