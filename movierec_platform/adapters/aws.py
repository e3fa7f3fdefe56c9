"""boto3 clients for AWS or an emulator, thread-safe. Each is made once a process: that takes a tenth of a second."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config
from pydantic import SecretStr

from movierec_platform.config import Settings
from movierec_platform.domain.budget import ATTEMPTS, CONNECT_S, LONG_POLL_S, READ_S

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


def sqs_client(settings: Settings) -> "SQSClient":
    """A client of SQS, whose calls end within CALL_S."""
    client: SQSClient = _client("sqs", *_place(settings))
    return client


def sqs_poller(settings: Settings) -> "SQSClient":
    """The same for receives, which may also wait for messages: longer by the longest poll, at each attempt."""
    client: SQSClient = _client("sqs", *_place(settings), waits_s=LONG_POLL_S)
    return client


def s3_client(settings: Settings) -> "S3Client":
    """A client of S3; an emulator is addressed by path, as it has no host name a bucket."""
    client: S3Client = _client("s3", *_place(settings))
    return client


def cloudformation_client(settings: Settings) -> "CloudFormationClient":
    """A client of CloudFormation, which no emulator has that this project uses."""
    client: CloudFormationClient = _client("cloudformation", *_place(settings))
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
    connect_timeout=CONNECT_S,
    read_timeout=READ_S,
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    max_pool_connections=16,
)


def _place(settings: Settings) -> tuple[str | None, str, str | None, SecretStr | None, SecretStr | None]:
    """Where the services are, and as whom they are asked."""
    return (
        settings.aws_endpoint_url,
        settings.aws_region,
        settings.aws_access_key_id,
        settings.aws_secret_access_key,
        settings.aws_session_token,
    )


@lru_cache(maxsize=8)
def _client(
    service: Literal["sqs", "s3", "cloudformation"],
    endpoint_url: str | None,
    region: str,
    access_key_id: str | None,
    secret_access_key: SecretStr | None,
    session_token: SecretStr | None,
    waits_s: float = 0,
) -> Any:
    """Made with the credentials that were given, else with those that the standard chain finds."""
    session = boto3.session.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key=None if secret_access_key is None else secret_access_key.get_secret_value(),
        aws_session_token=None if session_token is None else session_token.get_secret_value(),
        region_name=region,
    )
    by_path = service == "s3" and endpoint_url is not None
    config = _CONFIG.merge(Config(read_timeout=READ_S + waits_s))
    config = config.merge(Config(s3={"addressing_style": "path"})) if by_path else config
    return session.client(service, endpoint_url=endpoint_url, config=config)
