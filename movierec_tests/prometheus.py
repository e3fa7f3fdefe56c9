"""A real Prometheus over our configuration, Debian's."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from movierec_platform.local.ports import LOOPBACK, Ports

DEPLOY = Path(__file__).resolve().parents[1] / "movierec_platform/deploy"
STOPPED_WITHIN_S = 60.0


def program(name: str) -> str:
    """Its path; skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install --no-install-recommends prometheus")
    return found


def configured(folder: Path, key: str, **ports: int) -> Path:
    """Our configuration in this folder, with this key and these ports, scraping each second."""
    shutil.copytree(DEPLOY / "prometheus", folder)
    (folder / "movierec.key").write_text(key)
    for role, port in ports.items():
        (folder / f"targets/{role}.yml").write_text(f'- targets: ["{LOOPBACK}:{port}"]\n')
    config = folder / "prometheus.yml"
    config.write_text(config.read_text().replace("_interval: 15s", "_interval: 1s"))
    return config


@contextmanager
def launched(binary: str, config: Path, folder: Path) -> Iterator[str]:
    """Its address; it may not answer yet."""
    with Ports() as ports:
        address = f"{LOOPBACK}:{ports.take(0)}"
    where = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, *where, "--log.level=warn"], stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(STOPPED_WITHIN_S)
