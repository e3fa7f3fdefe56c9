"""The code location `batch` as Dagster sees it."""

import os
import subprocess
import sys

import dagster as dg
import pytest

from movierec_platform.defs.batch.definitions import defs

LINEAGE = {
    "movies": set(),
    "ratings": set(),
    "events": {"movies"},
    "interactions": {"movies", "ratings", "events"},
    "popularity": {"movies", "interactions"},
    "catalog_graph": {"movies", "popularity"},
    "ratings_graph": {"ratings", "catalog_graph"},
    "movie_similarity": {"interactions"},
    "similarity_evaluation": {"movie_similarity"},
    "similarity_graph": {"similarity_evaluation", "catalog_graph"},
}
GROUPS = {
    "movielens": {"movies", "ratings"},
    "lake": {"events", "interactions", "popularity"},
    "similarity": {"movie_similarity", "similarity_evaluation"},
    "graph": {"catalog_graph", "ratings_graph", "similarity_graph"},
}


def assets() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_it_loads() -> None:
    dg.Definitions.validate_loadable(defs)


def test_lineage() -> None:
    assert {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in assets().items()} == LINEAGE


def test_groups_and_kinds() -> None:
    found: dict[str | None, set[str]] = {}
    for name, spec in assets().items():
        found.setdefault(spec.group_name, set()).add(name)
        assert spec.kinds, f"{name} says no kind"
    assert found == GROUPS


@pytest.mark.parametrize("name", sorted(LINEAGE))
def test_the_description_is_the_grain_of_a_row(name: str) -> None:
    description = assets()[name].description or ""
    assert description.startswith("One ")
    assert description.endswith(".")
    assert "\n" not in description


@pytest.mark.parametrize(
    ("job", "steps"),
    [
        ("load_movielens", {"movielens", "interactions", "popularity", "catalog_graph", "ratings_graph"}),
        ("compaction", {"events"}),
        ("lake_maintenance", {"remove_unused_files"}),
        (
            "nightly",
            {
                "interactions",
                "interactions_graph_parity",
                "popularity",
                "catalog_graph",
                "movie_similarity",
                "similarity_evaluation",
                "similarity_graph",
            },
        ),
    ],
)
def test_jobs_run_their_assets_in_one_process(job: str, steps: set[str]) -> None:
    resolved = defs.resolve_job_def(job)
    assert {node.name for node in resolved.nodes} == steps
    assert resolved.executor_def.name == "in_process"


def test_the_nightly_runs_by_itself_at_three_utc() -> None:
    schedule = defs.resolve_schedule_def("nightly_schedule")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone) == ("nightly", "0 3 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_the_lake_is_maintained_on_sundays_and_stale_days_are_looked_for() -> None:
    schedule = defs.resolve_schedule_def("lake_maintenance_schedule")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.job_name, schedule.cron_schedule) == ("lake_maintenance", "0 5 * * 0")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    sensors = defs.sensors or ()
    assert [(one.name, one.job.name) for one in sensors] == [("stale_days", "compaction"), ("nightly_again", "nightly")]
    assert all(one.default_status == dg.DefaultSensorStatus.RUNNING for one in sensors)


def test_importing_it_reads_no_setting() -> None:
    broken = {**os.environ, "MOVIEREC_API_PORT": "not a port", "NEO4J_URI": "nowhere"}
    program = "import movierec_platform.defs.batch.definitions"
    subprocess.run([sys.executable, "-c", program], env=broken, check=True, timeout=120)


def test_every_check_says_what_holds_where_it_passes() -> None:
    """On Dagster's page a check without a description is a name alone."""
    specs = [spec for assets in defs.resolve_asset_graph().assets_defs for spec in assets.check_specs]
    assert len(specs) > 20
    for spec in specs:
        description = spec.description or ""
        assert description.endswith("."), spec.key
        assert description != spec.name
