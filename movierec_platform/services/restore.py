"""Puts a backup back: objects, state and Dagster's storage as they were, the graph made from them, the rest replayed.

Nothing else may be at work on the stores meanwhile. Killed at any time, it is done again with `force`: whatever it has
written is in the backup.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from movierec_platform.adapters.dumps import counted, load
from movierec_platform.adapters.graph_bulk import open_bulk
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, sqlite_url
from movierec_platform.domain.envelope import RAW_PREFIX
from movierec_platform.errors import CheckFailed, UsageError
from movierec_platform.services.backup import (
    COPIES_AT_ONCE,
    LAKE_PREFIX,
    LOG,
    Kept,
    Manifest,
    Progress,
    check,
    databases,
    layout,
    path_of,
    read_manifest,
)
from movierec_platform.services.rebuild import Rebuilt, rebuild
from movierec_platform.services.replay import replay_after_unclean_stop

STATE_TABLES = ("quarantine", "api_keys", "counters")
RUN_TABLES = ("runs",)


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    manifest: Manifest
    graph: Rebuilt | None
    """None: the lake has no catalogue to make it from."""
    replayed: int
    """Raw objects that were not known to be through, and are on the queue again."""


def restore(
    settings: Settings,
    dagster_home: Path,
    folder: Path,
    force: bool,
    progress: Progress,
    on_wait: Callable[[str], None] = lambda message: None,
) -> Restored:
    """The stores hold what the backup holds. Raises CheckFailed for a damaged backup, and for stores that hold
    something, unless forced: then that is gone. Neither has changed anything."""
    manifest = read_manifest(folder)
    if manifest.databases != layout(settings):
        raise UsageError(
            f"the backup has {manifest.databases}, and here it is {layout(settings)}: let MOVIEREC_STATE_URL and "
            "DAGSTER_POSTGRES_URL name databases as they were then"
        )
    check(folder, manifest, progress)
    if held := [] if force else _held(settings, dagster_home):
        raise CheckFailed(f"{'; '.join(held)}: nothing was restored; --force puts the backup in the place of that")
    if manifest.bucket:
        _put_objects(open_objects(settings), folder, manifest.of("objects"), progress)
    _load_databases(settings, dagster_home, folder, manifest, progress)
    State.open(settings).close()  # a backup of an older release is brought up to date
    graph = None
    with open_bulk(settings) as bulk:
        bulk.clear()
    lake = Lake(settings)
    if lake.exists("movies") and lake.exists("popularity"):
        graph = rebuild(settings, None, lambda: time.time_ns() // 1_000_000, progress, on_wait)
    return Restored(manifest, graph, replay_after_unclean_stop(settings))


def _held(settings: Settings, dagster_home: Path) -> list[str]:
    """A phrase for each store that holds something."""
    urls = databases(settings, dagster_home)
    rows = counted(settings.state_database_url, STATE_TABLES)
    held = [f"the state database holds {count:,} rows in {name}" for name, count in rows.items()]
    runs = sum(sum(counted(url, RUN_TABLES).values()) for url in {*urls.values(), settings.state_database_url})
    held += [f"Dagster's storage holds {runs:,} runs"] if runs else []
    if settings.aws_endpoint_url is not None:
        objects = open_objects(settings)
        found = (next(iter(objects.keys(prefix)), None) for prefix in (LAKE_PREFIX, RAW_PREFIX))
        held += [f"bucket {settings.bucket} holds objects, such as {key}" for key in found if key]
    with open_bulk(settings) as graph:
        nodes = sum(graph.nodes_by_label().values())
    return [*held, f"the graph holds {nodes:,} nodes"] if nodes else held


def _put_objects(objects: ObjectStore, folder: Path, kept: list[Kept], progress: Progress) -> None:
    """The lake and the raw objects are those of the backup; of a table its files before its log."""
    names = {one.name for one in kept}
    for prefix in (LAKE_PREFIX, RAW_PREFIX):
        objects.delete([key for key in objects.keys(prefix) if key not in names])
    keys = sorted(names, key=lambda key: (LOG in key, key))

    def put(key: str) -> None:
        objects.put_file(key, path_of(folder, "objects", key))

    for logs in (False, True):
        part = [key for key in keys if (LOG in key) is logs]
        with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
            for number, _ in enumerate(pool.map(put, part), start=1):
                progress("logs of the lake" if logs else "objects", number, len(part))


def _load_databases(
    settings: Settings, dagster_home: Path, folder: Path, manifest: Manifest, progress: Progress
) -> None:
    kept = [*manifest.of("state"), *manifest.of("dagster")]
    for number, one in enumerate(kept, start=1):
        if one.store == "state":
            url = settings.state_database_url
        else:
            url = settings.dagster_database_url or sqlite_url(dagster_home / one.name)
        load(url, path_of(folder, one.store, one.name))
        progress("databases", number, len(kept))
