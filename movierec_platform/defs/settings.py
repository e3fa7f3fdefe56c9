"""The settings as a Dagster resource, for both code locations. Read when a step or a tick asks, not at import."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from movierec_platform.config import Settings, load_settings


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings that hold where the step runs."""

    home: str = Field("", description="folder whose stack.env is read; empty: $MOVIEREC_HOME")

    def current(self) -> Settings:
        """The settings, read now."""
        return load_settings({"home": Path(self.home)} if self.home else None)
