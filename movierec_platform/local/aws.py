"""SQS and S3 on this machine: ministack. Objects survive a kill; queues are saved when it is asked to terminate."""

import os
import sys
from pathlib import Path

from movierec_platform.local.server import Command, Server, http_status

ACCESS_KEY_ID = "movierec"


class AwsServer(Server):
    """The emulator, with its state under `<home>/aws`. It takes any credentials."""

    name = "aws"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def has_state(self) -> bool:
        """Whether there are objects from an earlier start."""
        return any((self._folder / "s3").glob("*"))

    def command(self) -> Command:
        for name in ("s3", "state", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        environment = emulator_environment(self._folder, self.host, self.port)
        return Command([sys.executable, "-m", "ministack"], environment, self._folder)

    def is_ready(self) -> bool:
        return http_status(self.port, "/_ministack/health", self.host) == 200

    @property
    def _folder(self) -> Path:
        return self.home / "aws"


def emulator_environment(folder: Path, host: str, port: int) -> dict[str, str]:
    """All that ministack is given to keep what it holds in this folder and to open nothing but SQS and S3."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "BIND_HOST": host,  # without it: every interface
        # Not GATEWAY_PORT: that is written into the queues' identity, and messages saved under one port are
        # out of reach when it starts again on another.
        "EDGE_PORT": str(port),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "s3"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "state"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",  # below it every request is logged
        "TMPDIR": str(folder / "tmp"),  # its pid file
        # It would stop the containers of whoever else uses it through Docker here.
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
    }
