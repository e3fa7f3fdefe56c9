"""`movierec traffic`: events as clients post them, or with --locust a load of everything that clients do."""

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of, tests_folder
from movierec_platform.cli.printing import err, out, plain, print_json, show
from movierec_platform.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from movierec_platform.config import Settings
    from movierec_platform.local.locust import Load, Measured

OF_POSTING = ("events", "rate", "bad", "duplicate", "late", "seed")
OF_LOCUST = ("users", "spawn_rate", "duration", "ui", "report")


def traffic(
    context: typer.Context,
    events: Annotated[int, typer.Option(min=1, help="How many events to post.")] = 1_000,
    rate: Annotated[float, typer.Option(min=0, help="Events a second; 0 is as fast as they are acknowledged.")] = 100.0,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Share of events that the gate must refuse.")] = 0.0,
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="Share of events that are sent again.")] = 0.0,
    late: Annotated[float, typer.Option(min=0, max=1, help="Share of events that happened up to 30 days ago.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal choices.")] = 0,
    locust: Annotated[
        bool, typer.Option("--locust", help="Load the API with Locust instead: recommend, similar, search and ingest.")
    ] = False,
    users: Annotated[int, typer.Option(min=1, max=100_000, help="With --locust: users at the same time.")] = 20,
    spawn_rate: Annotated[
        float, typer.Option(min=0.1, max=10_000, help="With --locust: users that begin in a second.")
    ] = 5.0,
    duration: Annotated[
        int,
        typer.Option(min=1, max=86_400, help="With --locust: seconds of the load; Ctrl-C ends it earlier."),
    ] = 30,
    ui: Annotated[
        bool, typer.Option("--ui", help="With --locust: start and watch the load on Locust's page, until Ctrl-C.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="With --locust: file of its HTML report; by default one under the home.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Post synthetic but lifelike events, and print as JSON what was posted by kind.

    --locust runs movierec_tests/load/locustfile.py: viewers and feeds whose every answer is checked. It prints what
    each endpoint did and writes Locust's report; exit 1 when a request failed (being told to wait is no failure).

    --json with --locust: endpoints (name, requests, failures, requests_per_s, p50_ms, p95_ms, p99_ms; the last is all
    together), failed, report (its file). What was posted is JSON with and without it.
    """
    _refuse_given(context, OF_POSTING if locust else OF_LOCUST, locust)
    settings = settings_of(home, "api") if locust else settings_of(home, "api", "graph")
    if locust:
        from movierec_platform.local.locust import Load

        name = f"load-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.html"
        _load(settings, Load(users, spawn_rate, duration), report or settings.home / "reports" / name, ui, as_json)
        return
    from movierec_platform.local.client import credentials
    from movierec_platform.local.progress import progress
    from movierec_platform.local.traffic import Mix, post_traffic, stream_of

    stream = stream_of(settings, Mix(bad=bad, duplicate=duplicate, late=late, seed=seed))
    with progress(err, "posting events", events) as advance:
        posted = post_traffic(
            settings.api_url, stream, events, rate, lambda so_far: advance(so_far.events), headers=credentials(settings)
        )
    print_json(posted.as_json())


def _refuse_given(context: typer.Context, names: Iterable[str], locust: bool) -> None:
    """None of these options was given. Raises UsageError, which names those that were."""
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        without, other = ("without", "leave --locust away") if locust else ("with", "add --locust")
        raise UsageError(f"{options} can only be given {without} --locust: {other}, or leave {options} away")


def _load(settings: "Settings", load: "Load", report: Path, ui: bool, as_json: bool) -> None:
    from movierec_platform.local.locust import require_locust_and_api, run_load
    from movierec_platform.local.ports import LOOPBACK, Ports
    from movierec_platform.local.progress import progress

    locustfile = tests_folder() / "load" / "locustfile.py"
    require_locust_and_api(settings)
    if ui:
        with Ports() as ports:
            port = ports.take(settings.locust_port)
            moved = f" (port {settings.locust_port} was busy)" if settings.locust_port not in (0, port) else ""
            told = err if as_json else out
            told.print(f"Locust's page: http://{LOOPBACK}:{port}{moved}; Ctrl-C ends it and writes the report")
            measured = run_load(settings, locustfile, load, report, port)
    else:
        with progress(err, f"seconds of load on {settings.api_url}", load.duration_s) as advance:

            def on_progress(seconds: int) -> None:
                if seconds <= load.duration_s:  # it takes a few more to begin and to end
                    advance(seconds)

            measured = run_load(settings, locustfile, load, report, on_progress=on_progress)
    if as_json:
        endpoints = [asdict(one) for one in measured.endpoints]
        print_json({"endpoints": endpoints, "failed": measured.failed, "report": str(report)})
    else:
        _print_measured(measured)
        out.print(f"report: {report}")
    if measured.failed:
        raise CheckFailed(_what_failed(measured))


def _print_measured(measured: "Measured") -> None:
    if not measured.endpoints:
        out.print("no request was made")
        return
    table = Table("endpoint")
    for name in ("requests", "requests/s", "p50 ms", "p95 ms", "p99 ms", "failures"):
        table.add_column(name, justify="right")
    for one in measured.endpoints:
        times = (f"{ms:,}" for ms in (one.p50_ms, one.p95_ms, one.p99_ms))
        table.add_row(plain(one.name), f"{one.requests:,}", f"{one.requests_per_s:,.1f}", *times, f"{one.failures:,}")
    show(table)


def _what_failed(measured: "Measured") -> str:
    together = measured.endpoints[-1] if measured.endpoints else None
    if not together or not together.failures:
        return "users of the load ended with errors of their own: the report says which"
    return f"{together.failures:,} of {together.requests:,} requests failed: the report says which and why"
