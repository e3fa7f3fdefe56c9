"""boto3 clients for AWS or an emulator. A client is thread-safe and is made once a process; sessions are not shared."""

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from pydantic import SecretStr

from movierec_platform.config import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 25
"""Above SQS's longest poll of 20 s."""


def sqs_client(settings: Settings) -> "SQSClient":
    """A client of SQS; three attempts a call, 3 s to connect, 25 s to read."""
    client: SQSClient = _session(settings).client("sqs", endpoint_url=settings.aws_endpoint_url, config=_CONFIG)
    return client


def s3_client(settings: Settings) -> "S3Client":
    """A client of S3; an emulator is addressed by path, as it has no host name a bucket."""
    config = _CONFIG.merge(Config(s3={"addressing_style": "path"})) if settings.aws_endpoint_url else _CONFIG
    client: S3Client = _session(settings).client("s3", endpoint_url=settings.aws_endpoint_url, config=config)
    return client


def object_store_options(settings: Settings) -> dict[str, str]:
    """What the S3 client of deltalake needs; credentials that were not given come from the standard AWS chain."""
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    options = {
        "aws_region": settings.aws_region,
        "aws_conditional_put": "etag",
        "aws_endpoint_url": settings.aws_endpoint_url,
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": None if secret is None else secret.get_secret_value(),
        "aws_session_token": None if token is None else token.get_secret_value(),
        "allow_http": "true" if (settings.aws_endpoint_url or "").startswith("http://") else None,
        "connect_timeout": "3s",
        "timeout": "30s",
    }
    return {name: value for name, value in options.items() if value is not None}


_CONFIG = Config(
    connect_timeout=CONNECT_TIMEOUT_S,
    read_timeout=READ_TIMEOUT_S,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=16,
)


def _session(settings: Settings) -> boto3.session.Session:
    """A session with the credentials that were given, else with those that the standard chain finds."""

    def shown(secret: SecretStr | None) -> str | None:
        return None if secret is None else secret.get_secret_value()

    return boto3.session.Session(
        aws_access_key_id=settings.aws_access_key_id,
        aws_secret_access_key=shown(settings.aws_secret_access_key),
        aws_session_token=shown(settings.aws_session_token),
        region_name=settings.aws_region,
    )
