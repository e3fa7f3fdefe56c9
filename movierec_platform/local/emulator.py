"""The emulator's process: ministack, as far as we use it, and two promises that it does not make by itself.

What its S3 answers 200 is on the disk, where ministack logs a failed write and answers 200 all the same; and no page of
another site reaches it. Exit code 0 says that its queues are saved.
"""

import asyncio
import errno
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from movierec_platform.adapters.disk import MIB, free_bytes
from movierec_platform.adapters.guarded import Guarded
from movierec_platform.domain.browsers import OWN_NAMES, listed

MIN_FREE_VARIABLE = "MOVIEREC_MIN_FREE_MIB"
HOSTS_VARIABLE = "MOVIEREC_ALLOWED_HOSTS"
STACK_VARIABLE = "MOVIEREC_STACK_ID"
KEEP_ALIVE_S = 75.0
SAVED_AT_THE_END = ("sqs", "s3")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[tuple[int, dict[str, str], Any]]]


class Disk:
    """The files of S3's objects, as ministack reads them when it starts: a body, and beside it its metadata."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        """No object is taken that would leave less than that: what else is on this disk needs room to end well."""
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._unfinished = root.parent / "unfinished"
        """Not among the objects: there, what a kill left behind would be one."""
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True)

    def write(self, path: Path, body: bytes, metadata: dict[str, Any]) -> None:
        """The files are there, both or none of them new. Raises OSError."""
        if free_bytes(self._root) < self._min_free_bytes + len(body):
            raise OSError(errno.ENOSPC, "too little space is left on its disk")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = [self._written(body), self._written(json.dumps(metadata).encode())]
        # A body without metadata is read right, one with another's is not.
        _beside(path).unlink(missing_ok=True)
        for file, place in zip(fresh, (path, _beside(path)), strict=True):
            file.replace(place)

    def remove(self, path: Path) -> None:
        """The files are gone. Raises OSError."""
        path.unlink(missing_ok=True)
        _beside(path).unlink(missing_ok=True)

    def _written(self, content: bytes) -> Path:
        descriptor, name = tempfile.mkstemp(dir=self._unfinished)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
        except OSError:
            os.unlink(name)
            raise
        return Path(name)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.meta.json")


def keep_on(disk: Disk, s3: Any) -> None:
    """From now on ministack's S3 answers with an error where it could not write, read or remove an object's files, and
    what was there is there still."""

    def place(bucket: str, key: str) -> Path:
        if (path := s3._object_disk_path(bucket, key)) is None:
            raise OSError(errno.EINVAL, "the key leads out of the folder of objects")
        return Path(path)

    def persist(bucket: str, key: str, record: dict[str, Any]) -> None:
        metadata = {name: record.get(name) for name in _KEPT}
        disk.write(place(bucket, key), record["body"], metadata)
        record["body"] = None  # from now on it is read from the file

    def read(bucket: str, key: str, record: dict[str, Any]) -> bytes:
        body: bytes | None = record.get("body")
        return place(bucket, key).read_bytes() if body is None else body

    def remove(bucket: str, key: str) -> None:
        disk.remove(place(bucket, key))

    _replace(s3, "_persist_object", persist)
    _replace(s3, "_read_body", read)
    _replace(s3, "_delete_persisted_object", remove)
    _replace(s3, "handle_request", _answering_errors(s3, s3.handle_request))


def _answering_errors(s3: Any, handle: Handler) -> Handler:
    """The handler, which answers with an error, and leaves the object as it was, where the disk refuses."""

    async def handle_request(method: str, path: str, *rest: Any, **more: Any) -> tuple[int, dict[str, str], Any]:
        bucket, key = s3._parse_bucket_key(path, {})
        objects = (s3._buckets.get(bucket) or {}).get("objects", {})
        before = objects.get(key)
        try:
            return await handle(method, path, *rest, **more)
        except OSError as error:
            # ministack has changed what it holds before it wrote.
            objects.pop(key, None)
            if before is not None:
                objects[key] = before
            # 507 is the status that clients do not try again at once.
            code, status = ("InsufficientStorage", 507) if error.errno in NO_ROOM else ("InternalError", 500)
            _log.error("%s %s: %s", method, path, error)  # its file may be on the same full disk, where print() raises
            answer: tuple[int, dict[str, str], Any] = s3._error(code, error.strerror or str(error), status, path)
            return answer

    return handle_request


_KEPT = (
    "content_type",
    "content_encoding",
    "etag",
    "last_modified",
    "size",
    "metadata",
    "preserved_headers",
    "storage_class",
    "checksums",
    "version_id",
)
"""Of an object's record, what ministack reads back when it starts."""


def _replace(module: Any, name: str, value: Any) -> None:
    getattr(module, name)  # another release that has no such function would go on as if nothing had been promised
    setattr(module, name, value)


class SavedState:
    """Whether ministack has saved its state by now: it writes each file anew, and only logs it when it cannot."""

    def __init__(self, folder: Path) -> None:
        self._files = [folder / f"{service}.json" for service in SAVED_AT_THE_END]
        self._before = [_identity(file) for file in self._files]

    def is_new(self) -> bool:
        return all(_identity(file) != before for file, before in zip(self._files, self._before, strict=True))


def _identity(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)


def main() -> None:
    """Serves until SIGTERM or SIGINT; reads the environment that `emulator_environment` makes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it starts there is nothing to save
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app
    from ministack.services import s3, sqs  # noqa: F401  both, so that both are loaded now and saved at the end

    disk = Disk(Path(os.environ["S3_DATA_DIR"]), int(os.environ[MIN_FREE_VARIABLE]) * MIB)
    keep_on(disk, s3)
    state = SavedState(Path(os.environ["STATE_DIR"]))
    host = os.environ["BIND_HOST"]
    config = Config()
    config.bind = [f"{host}:{os.environ['EDGE_PORT']}"]
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.loglevel = os.environ["LOG_LEVEL"]
    names = {host, *OWN_NAMES, *listed(os.environ.get(HOSTS_VARIABLE, ""))}
    guarded: Any = Guarded(app, names, stack_id=os.environ.get(STACK_VARIABLE, ""))
    asyncio.run(serve(guarded, config))
    sys.exit(0 if state.is_new() else "the queues could not be saved")


if __name__ == "__main__":
    main()
