"""The API and the metrics exporter, each a process of this package."""

import sys
from collections.abc import Mapping
from typing import ClassVar

from movierec_platform.local.identity import stack_at
from movierec_platform.local.server import Command, Server


class _WebServer(Server):
    """`movierec serve ROLE`, which reads its settings from `environment`."""

    role: ClassVar[str]
    port_variable: ClassVar[str]

    environment: Mapping[str, str]
    """Set before `start`; the port is added."""

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def command(self) -> Command:
        arguments = [sys.executable, "-m", "movierec_platform.cli", "serve", self.role]
        return Command(arguments, {**self.environment, self.port_variable: str(self.port)})

    def is_ready(self) -> bool:
        return stack_at(self.url) == self.environment.get("MOVIEREC_STACK_ID", "")


class ApiServer(_WebServer):
    """The API and its page. Asked to stop, it first answers what it has taken."""

    name = "api"
    role, port_variable = "api", "MOVIEREC_API_PORT"
    stop_within_s = 25.0


class MetricsServer(_WebServer):
    """The Prometheus exporter."""

    name = "metrics"
    role, port_variable = "metrics", "MOVIEREC_METRICS_PORT"
