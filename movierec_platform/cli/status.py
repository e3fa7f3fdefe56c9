"""`movierec status`: what runs, where, and how fresh it is, on one screen."""

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from movierec_platform import __version__
from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import moment, out, plain, print_json, show

if TYPE_CHECKING:
    from movierec_platform.config import Settings
    from movierec_platform.services.operations import Overview

MIB = 2**20


def status(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show what runs, where, and how fresh it is; exit code 3 if a part does not answer."""
    settings = settings_of(home, "api", "graph", "queues", "lake", "state")
    found = _found(settings)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["down"]:
        raise typer.Exit(3)


def _found(settings: "Settings") -> dict[str, Any]:
    """What is printed: versions, servers of the local stack, addresses, and what each part says."""
    from movierec_platform.adapters.graph import Graph
    from movierec_platform.adapters.lake import Lake
    from movierec_platform.adapters.state import State
    from movierec_platform.local.record import holder
    from movierec_platform.local.running import servers
    from movierec_platform.services.operations import Operations

    pid = holder(settings.home)
    with (
        closing(Graph.open(settings)) as graph,
        closing(State.open(settings)) as state,
        closing(Operations(settings, lambda: state, graph, Lake(settings))) as operations,
    ):
        overview = operations.overview()
    return {
        "version": __version__,
        "home": str(settings.home.absolute()),
        "stack_pid": pid,
        "servers": [asdict(one) for one in servers(settings.home)] if pid else [],
        "addresses": {
            "API and page": settings.api_url,
            "Dagster": settings.dagster_url,
            "metrics": settings.metrics_url,
            "graph (Bolt)": settings.neo4j_uri,
            "SQS and S3": settings.aws_endpoint_url or f"AWS, {settings.aws_region}",
        },
        "down": overview.down,
        **_of(overview),
    }


def _of(overview: "Overview") -> dict[str, Any]:
    """The figures of an overview, by name; None where the part did not answer or there is nothing yet."""
    freshness, drift, publication = overview.freshness, overview.drift, overview.publication
    return {
        "queues": overview.queues and {name: depth.total for name, depth in overview.queues.items()},
        "freshness_p50_s": freshness and freshness.p50_s,
        "freshness_p95_s": freshness and freshness.p95_s,
        "quarantine_held": None if overview.held is None else sum(overview.held.values()),
        "parity_drift_pairs": drift and drift.pairs,
        "parity_checked_at": drift and moment(drift.compared_at_ms),
        "similarity": publication and publication.version,
        "published_at": publication and moment(publication.published_at_ms),
    }


def _print(found: dict[str, Any]) -> None:
    stack = f"stack in {found['home']}: " + (
        f"runs (pid {found['stack_pid']})" if found["stack_pid"] else "does not run here"
    )
    out.print(f"movierec {found['version']}, {stack}", markup=False)
    if found["servers"]:
        table = Table("server", "pid", "", "memory")
        for one in found["servers"]:
            memory = f"{one['memory_bytes'] // MIB} MiB" if one["runs"] else ""
            table.add_row(one["name"], str(one["pid"]), "runs" if one["runs"] else "[red]has ended[/red]", memory)
        show(table)
    for name, address in found["addresses"].items():
        out.print(f"{name:14} {address}", markup=False)
    if found["queues"] is not None:
        out.print(
            "queues         " + ", ".join(f"{name} {count}" for name, count in found["queues"].items()), markup=False
        )
    if found["freshness_p50_s"] is not None:
        p50_s, p95_s = found["freshness_p50_s"], found["freshness_p95_s"]
        out.print(f"freshness      p50 {p50_s:.2f} s, p95 {p95_s:.2f} s, over all events so far")
    if found["quarantine_held"] is not None:
        out.print(f"quarantine     {found['quarantine_held']} held")
    if found["parity_checked_at"]:
        out.print(f"parity         {found['parity_drift_pairs']} pairs differed at {found['parity_checked_at']}")
    if found["similarity"]:
        out.print(f"similarity     {plain(found['similarity'])}, published {found['published_at']}")
    if found["down"]:
        out.print(f"[red]no answer[/red]      {', '.join(found['down'])}")
