"""`movierec serve`: one server in the foreground."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from movierec_platform.cli.invocation import HomeOption, settings_of

if TYPE_CHECKING:
    from movierec_platform.config import Settings

app = typer.Typer(no_args_is_help=True, help="Run one server in the foreground (what `up` starts for you).")


@app.command("api")
def serve_api(home: HomeOption = None) -> None:
    """The HTTP API."""
    from movierec_platform.api import serve

    serve.serve_api(_settings_of(home))


@app.command("metrics")
def serve_metrics(home: HomeOption = None) -> None:
    """The Prometheus exporter."""
    from movierec_platform.api import serve

    serve.serve_exporter(_settings_of(home))


def _settings_of(home: Path | None) -> "Settings":
    """Those of a server, which says itself what stack it is of. Raises NoStack where they do not name the others."""
    from movierec_platform.local.identity import require_named

    settings = settings_of(home)
    require_named(settings, ("lake", "graph", "queues"))
    return settings
