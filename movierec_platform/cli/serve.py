"""`movierec serve`: one server in the foreground."""

import typer

from movierec_platform.cli.invocation import HomeOption, settings_of

app = typer.Typer(no_args_is_help=True, help="Run one server in the foreground (what `up` starts for you).")


@app.command("api")
def serve_api(home: HomeOption = None) -> None:
    """The HTTP API."""
    from movierec_platform.api import serve

    serve.serve_api(settings_of(home))


@app.command("metrics")
def serve_metrics(home: HomeOption = None) -> None:
    """The Prometheus exporter."""
    from movierec_platform.api import serve

    serve.serve_exporter(settings_of(home))
