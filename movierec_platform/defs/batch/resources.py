"""Our adapters as Dagster resources. The settings are read when a step opens one, not when this module is imported."""

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.defs.settings import SettingsResource


class LakeResource(SettingsResource):
    """The Delta tables on S3."""

    def open(self) -> Lake:
        """The lake that the settings name."""
        return Lake(self.current())


class ObjectStoreResource(SettingsResource):
    """The bucket of the raw objects."""

    def open(self) -> ObjectStore:
        """The bucket that the settings name."""
        return open_objects(self.current())


class GraphResource(SettingsResource):
    """The graph over Bolt."""

    def open(self) -> Graph:
        """The graph that the settings name, to be used in a `with`."""
        return Graph.open(self.current())


def resources(home: str = "") -> dict[str, SettingsResource]:
    """Everything that the assets ask for, by name; `home` as in SettingsResource."""
    return {
        "settings": SettingsResource(home=home),
        "lake": LakeResource(home=home),
        "objects": ObjectStoreResource(home=home),
        "graph": GraphResource(home=home),
    }
