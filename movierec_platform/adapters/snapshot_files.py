"""Snapshots as flat arrays in files, mapped read-only: every process of this machine that maps one shares its memory.

A snapshot is a folder of `.npy` files under `$MOVIEREC_HOME/snapshots`, written whole under another name and renamed,
so that it is there whole or not at all. It lies on the disk, not in /dev/shm: the pages are shared all the same, the
kernel may drop those that nobody reads, and an API that starts while the lake is down finds what it served last. A
folder that is removed stays readable for whoever has mapped it. A disk that fails is OSError.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movierec_platform.domain.catalogue import Catalogue
from movierec_platform.domain.neighbourhood import Neighbourhood
from movierec_platform.domain.search import TitleIndex
from movierec_platform.domain.trending import Views

UNFINISHED = ".unfinished-"
LOCK = ".lock"
FORMAT = 3
"""Which files there are, and what is in them. Those of another format are not read."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What is served: the catalogue, and the similarity `version`; None: popularity only, nothing is published.

    `name` tells it from every other one, also of the same version.
    """

    name: str
    version: str | None
    movies: Catalogue
    edges: Neighbourhood
    titles: TitleIndex
    views: Views


class MappedTexts(Sequence[str]):
    """Texts that are read where they are mapped: uint8 `letters` in UTF-8, and int64 `ends`, one more than texts."""

    def __init__(self, letters: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._letters = letters
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._letters[self._ends[index] : self._ends[index + 1]].tobytes().decode()


_PARTS = {"movies": Catalogue, "edges": Neighbourhood, "titles": TitleIndex, "views": Views}
_TEXTS = {("movies", "titles"), ("movies", "genre_names"), ("titles", "words")}
_MADE_WHEN_READ = {("titles", "by_letters")}


@contextmanager
def writing_snapshots(folder: Path) -> Iterator[None]:
    """Nobody else of this machine writes or removes snapshots here meanwhile; who comes second waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel frees it when its holder dies
        yield


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """`folder/NAME` holds the snapshot; if somebody else was first, theirs, which is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
    unfinished.mkdir()
    try:
        for name, array in _arrays(snapshot):
            with (unfinished / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        unfinished.rename(folder / snapshot.name)
    except FileExistsError:
        pass
    except OSError:
        if not (folder / snapshot.name).is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_snapshot(folder: Path, name: str) -> Snapshot | None:
    """The snapshot of that name, mapped; None if it is not there whole, in this release's format."""
    try:
        if np.load(folder / name / "format.npy", allow_pickle=False) != FORMAT:
            return None
        version = str(np.load(folder / name / "version.npy", allow_pickle=False)) or None
        parts = {part: _part(folder / name, part, kind) for part, kind in _PARTS.items()}
    except (OSError, ValueError, EOFError):
        return None
    return Snapshot(name=name, version=version, **parts)


def newest_snapshot(folder: Path) -> Snapshot | None:
    """The snapshot that was written last; None: there is none."""
    names = sorted((_written_at_ns(path), path.name) for path in _folders(folder) if path.name[0] != ".")
    return next((one for _, name in reversed(names) if (one := read_snapshot(folder, name))), None)


def _written_at_ns(path: Path) -> int:
    """0: another process has just removed it."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def drop_snapshot(folder: Path, name: str) -> None:
    """There are no files of that name; whoever has mapped them reads on."""
    shutil.rmtree(folder / name, ignore_errors=True)


def remove_others(folder: Path, name: str, older_than_s: float) -> None:
    """Of the others, those that are older than this many seconds before the one of that name are gone."""
    try:
        limit_s = (folder / name).stat().st_mtime - older_than_s
        old = [path for path in _folders(folder) if path.name != name and path.stat().st_mtime < limit_s]
    except FileNotFoundError:  # another process removes them too
        return
    for path in old:
        shutil.rmtree(path, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _arrays(snapshot: Snapshot) -> Iterator[tuple[str, NDArray[Any]]]:
    """Everything of the snapshot by the name of its file."""
    yield "format", np.array(FORMAT)
    yield "version", np.array(snapshot.version or "")
    for part, kind in _PARTS.items():
        for field in fields(kind):
            value = getattr(getattr(snapshot, part), field.name)
            if (part, field.name) in _TEXTS:
                encoded = [text.encode() for text in value]
                ends = np.zeros(len(encoded) + 1, dtype=np.int64)
                np.cumsum([len(text) for text in encoded], out=ends[1:])
                yield f"{part}.{field.name}.letters", np.frombuffer(b"".join(encoded), dtype=np.uint8)
                yield f"{part}.{field.name}.ends", ends
            elif (part, field.name) not in _MADE_WHEN_READ:
                yield f"{part}.{field.name}", value


def _part(path: Path, part: str, kind: Any) -> Any:
    values: dict[str, Any] = {}
    for field in fields(kind):
        if (part, field.name) in _TEXTS:
            name = f"{part}.{field.name}"
            values[field.name] = MappedTexts(_mapped(path, f"{name}.letters"), _mapped(path, f"{name}.ends"))
        elif (part, field.name) not in _MADE_WHEN_READ:
            values[field.name] = _mapped(path, f"{part}.{field.name}")
    if kind is TitleIndex:
        return TitleIndex.of(**{**values, "words": list(values["words"])})
    if kind is Catalogue:
        return Catalogue(**{**values, "genre_names": tuple(values["genre_names"])})
    return kind(**values)


def _mapped(path: Path, name: str) -> NDArray[Any]:
    return np.asarray(np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False))
