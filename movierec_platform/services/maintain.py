"""Removes from the lake the files that its tables no longer use."""

from movierec_platform.adapters.lake import Lake

REWRITTEN = (
    "events",
    "compactions",
    "interactions",
    "similarity",
    "similarity_versions",
    "evaluations",
    "publications",
)
"""Tables whose past is not needed: they can be made again from others and the raw objects, or tell it themselves."""
KEPT = ("movies", "ratings", "popularity")
"""The lake as of a past time needs each of their versions, so only files that were never promoted go."""
STAGED_HOURS = 24
"""Above the longest time between staging rows and promoting them."""


def maintain_lake(lake: Lake, kept_hours: int) -> dict[str, int]:
    """How many files were removed of each table that there is.

    Of the rewritten tables goes what no version of the last `kept_hours` uses. Those who read a version that old lose
    their files: keep the hours above the longest run.
    """
    removed = {table: lake.maintain(table, kept_hours) for table in REWRITTEN if lake.exists(table)}
    for table in KEPT:
        if lake.exists(table):
            removed[table] = lake.maintain(table, STAGED_HOURS, every_version=True)
    return removed
