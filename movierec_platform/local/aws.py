"""SQS and S3 on this machine. What was acknowledged survives a kill, but for the queues: they are saved at a stop."""

import os
import sys
from pathlib import Path

from movierec_platform.config import Settings
from movierec_platform.local.emulator import HOSTS_VARIABLE, MIN_FREE_VARIABLE, STACK_VARIABLE
from movierec_platform.local.identity import EMULATOR_PROBE, stack_at
from movierec_platform.local.server import Command, Server

ACCESS_KEY_ID = "movierec"
EMULATOR = "movierec_platform.local.emulator"
REGION = "us-east-1"
"""Whatever the environment says: each region has queues of its own, and those of an earlier start are in this one."""


class AwsServer(Server):
    """The emulator, with its state under `<home>/aws`. It takes any credentials."""

    name = "aws"
    min_free_mib: int = Settings.model_fields["min_free_mib"].default
    """With less than this free on its disk, no object is taken."""

    stack_id = ""
    """Set before `start`; its answers carry it."""

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
        environment = emulator_environment(self._folder, self.host, self.port, self.min_free_mib)
        identity = {STACK_VARIABLE: self.stack_id}
        return Command([sys.executable, "-m", EMULATOR], {**environment, **identity}, self._folder)

    def is_ready(self) -> bool:
        return stack_at(self.url, EMULATOR_PROBE) == self.stack_id

    def stop(self) -> bool:
        """Nothing of it is left; whether it was running and its queues are saved."""
        return super().stop() and self.process.returncode == 0

    @property
    def _folder(self) -> Path:
        return self.home / "aws"


def emulator_environment(
    folder: Path, host: str, port: int, min_free_mib: int, allowed_hosts: str = ""
) -> dict[str, str]:
    """All that the emulator is given to keep what it holds in this folder and to open nothing but SQS and S3."""
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
        MIN_FREE_VARIABLE: str(min_free_mib),
        HOSTS_VARIABLE: allowed_hosts,
        "LOG_LEVEL": "WARNING",  # below it every request is logged
        "TMPDIR": str(folder / "tmp"),
        # It would stop the containers of whoever else uses it through Docker here.
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
    }
