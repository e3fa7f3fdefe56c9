"""Backup of the stores of which nothing else can make what they hold, into a folder; while the platform runs.

The state database, Dagster's storage, and, where the bucket is an emulator's, the lake and the raw objects. Not the
graph, which a restore makes from the lake and the raw objects; not the queues, as a restore replays what was not known
to be through; not the snapshots of an API, which it makes from the lake. A bucket on AWS keeps its versions, and can be
replicated there.

The order makes it consistent, whatever is written meanwhile: the state first, since what is landed after it is
replayed; then of each table its log before its files, since a file that a log names is never changed; then the raw
objects, of which the lake may know only some. The manifest comes last: a folder without it is no backup.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from movierec_platform import __version__
from movierec_platform.adapters.dumps import dump
from movierec_platform.adapters.migrations import HEAD
from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, sqlite_url
from movierec_platform.domain.envelope import RAW_PREFIX
from movierec_platform.errors import CheckFailed, UsageError

MANIFEST = "manifest.json"
FORMAT = 1
LAKE_PREFIX = "lake/"
LOG = "/_delta_log/"
LAST_CHECKPOINT = "_last_checkpoint"
"""A hint that readers do without; it may name a checkpoint that came after the log was listed."""
COPIES_AT_ONCE = 8

Store = Literal["state", "dagster", "objects"]
Progress = Callable[[str, int, int], None]
"""Told (what is copied, how much of it, of how much)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of a backup, under the folder of its store; an object's name is its key."""

    store: Store
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup consists of."""

    format: int
    release: str
    state_schema: str
    made_at_ms: int
    databases: str
    """As `layout` says."""
    bucket: str
    """That of the objects; empty: they are not in it."""
    files: tuple[Kept, ...]

    def of(self, store: Store) -> list[Kept]:
        return [one for one in self.files if one.store == store]

    def as_json(self) -> dict[str, str | int]:
        """What it is of, and how many files and bytes it has; not the list of them."""
        return {
            "release": self.release,
            "made_at_ms": self.made_at_ms,
            "bucket": self.bucket,
            "objects": len(self.of("objects")),
            "files": len(self.files),
            "bytes": sum(one.bytes for one in self.files),
        }

    def summary(self) -> str:
        """How many of what."""
        size = sum(one.bytes for one in self.files)
        objects = f"{len(self.of('objects')):,} objects of {self.bucket}" if self.bucket else "no objects"
        return f"state, Dagster's storage and {objects}: {size / 1e6:,.1f} MB"


def back_up(settings: Settings, dagster_home: Path, folder: Path, now_ms: int, progress: Progress) -> Manifest:
    """The folder holds a backup. `dagster_home` has Dagster's SQLite files, where its storage is not on Postgres.

    Raises UsageError for a folder that is not empty.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: a backup takes a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # hashes of API keys, and what users did
    State.open(settings).close()  # so that its schema is the one that the manifest names
    files = [*_databases(settings, dagster_home, folder, progress)]
    on_aws = settings.aws_endpoint_url is None
    if not on_aws:
        files += _objects(open_objects(settings), folder, progress)
    bucket = "" if on_aws else settings.bucket
    manifest = Manifest(FORMAT, __version__, HEAD, now_ms, layout(settings), bucket, tuple(files))
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the backup in this folder. UsageError where there is none that this release can restore."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {MANIFEST}: it is no backup, or one that was interrupted") from None
    try:
        content: dict[str, Any] = json.loads(text)
        if content["format"] > FORMAT or content["state_schema"] > HEAD:
            raise UsageError(
                f"the backup is of release {content['release']}, this is {__version__}: restore it with that release, "
                "or a newer one"
            )
        files = tuple(Kept(**one) for one in content["files"])
        for one in files:
            _require_own(one)
        return Manifest(**{**content, "files": files})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailed(f"{folder / MANIFEST} is damaged: {error!r}") from None


def _require_own(kept: Kept) -> None:
    """Raises UsageError for a file that no backup has: what it is restored to would be elsewhere than in its store."""
    parts = kept.name.split("/")
    named = {
        "state": kept.name == "state",
        "dagster": kept.name == "dagster" or kept.name.endswith(".db"),
        "objects": kept.name.startswith((LAKE_PREFIX, RAW_PREFIX)),
    }
    if not named.get(kept.store) or {"", ".", ".."} & set(parts) or "\0" in kept.name:
        raise UsageError(f"{MANIFEST} names {kept.store!r} {kept.name!r}, which no backup has: nothing was restored")


def check(folder: Path, manifest: Manifest, progress: Progress) -> None:
    """Every file is there as it was written. Raises CheckFailed, which names the first that is not."""
    for number, one in enumerate(manifest.files, start=1):
        path = path_of(folder, one.store, one.name)
        if not path.is_file():
            raise CheckFailed(f"{path} of the backup is missing: nothing was restored")
        if path.stat().st_size != one.bytes or _sha256(path) != one.sha256:
            raise CheckFailed(f"{path} of the backup is damaged: nothing was restored")
        progress("checksums", number, len(manifest.files))


def path_of(folder: Path, store: Store, name: str) -> Path:
    """Where that file is. Raises UsageError for a name that leads out of the backup, or by way of a link."""
    path = folder / store / name
    strays = name.startswith("/") or ".." in name.split("/")
    if strays or path.resolve() != folder.resolve() / store / name:
        raise UsageError(f"{name!r} leads out of {folder}, or by way of a link: a backup has neither")
    return path


def layout(settings: Settings) -> str:
    """Where the databases are, as a person says it; dumps of one layout cannot be put back into another."""
    dagster = settings.dagster_database_url
    shared = dagster == settings.state_database_url
    state = sa.make_url(settings.state_database_url).get_backend_name()
    return (
        f"the state in {state}, Dagster's storage in {'the same' if shared else 'postgresql' if dagster else 'sqlite'}"
    )


def databases(settings: Settings, dagster_home: Path) -> dict[tuple[Store, str], str]:
    """The SQLAlchemy URL of each database by (store, its name in a backup); one that two stores share stands once."""
    urls: dict[tuple[Store, str], str] = {("state", "state"): settings.state_database_url}
    dagster = settings.dagster_database_url
    if dagster and dagster != settings.state_database_url:
        urls["dagster", "dagster"] = dagster
    if not dagster:
        for path in sorted(dagster_home.rglob("*.db")):
            name = path.relative_to(dagster_home).as_posix()
            urls["dagster", name] = sqlite_url(path)
    return urls


def _databases(settings: Settings, dagster_home: Path, folder: Path, progress: Progress) -> Iterator[Kept]:
    urls = databases(settings, dagster_home)
    for number, ((store, name), url) in enumerate(urls.items(), start=1):
        path = path_of(folder, store, name)
        dump(url, path)
        yield Kept(store, name, path.stat().st_size, _sha256(path))
        progress("databases", number, len(urls))


def _objects(objects: ObjectStore, folder: Path, progress: Progress) -> Iterator[Kept]:
    """The lake and the raw objects, copied. One that was removed meanwhile is left out: no log names it any more."""
    logs = [key for key in objects.keys(LAKE_PREFIX) if LOG in key and not key.endswith(LAST_CHECKPOINT)]
    yield from _copied(objects, folder, logs, "logs of the lake", progress)
    files = [key for key in objects.keys(LAKE_PREFIX) if LOG not in key]
    yield from _copied(objects, folder, files, "files of the lake", progress)
    yield from _copied(objects, folder, [*objects.keys(RAW_PREFIX)], "raw objects", progress)


def _copied(objects: ObjectStore, folder: Path, keys: list[str], what: str, progress: Progress) -> Iterator[Kept]:
    def copy(key: str) -> Kept | None:
        path = path_of(folder, "objects", key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not objects.get_file(key, path):
            return None
        return Kept("objects", key, path.stat().st_size, _sha256(path))

    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        for number, kept in enumerate(pool.map(copy, keys), start=1):
            if kept is not None:
                yield kept
            progress(what, number, len(keys))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1024 * 1024):
            digest.update(piece)
    return digest.hexdigest()
