"""`dagster-webserver` with all its options, which has no login and so answers no page of another site.

It is called by its own names on this machine, by that of DAGSTER_URL, and by those of MOVIEREC_ALLOWED_HOSTS.
"""

from typing import Any
from urllib.parse import urlsplit

from dagster_webserver import cli as webserver

from movierec_platform.adapters.guarded import Guarded
from movierec_platform.config import load_settings
from movierec_platform.domain.browsers import OWN_NAMES, listed


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = load_settings()
    names = {*OWN_NAMES, urlsplit(settings.dagster_url).hostname or "", *listed(settings.allowed_hosts)}
    cli: Any = webserver
    make = cli.create_app_from_workspace_process_context

    def make_guarded(*arguments: Any, **more: Any) -> Any:
        # Links of our page, of Grafana and of mails lead to its pages; its GraphQL has nothing for a browser's address.
        return Guarded(make(*arguments, **more), names, links=True, stack_id=settings.stack_id)

    cli.create_app_from_workspace_process_context = make_guarded
    cli.main()


if __name__ == "__main__":
    main()
