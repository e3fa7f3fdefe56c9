"""boto3 clients for AWS or an emulator, thread-safe. Each is made once a process: that takes a tenth of a second."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config
from pydantic import SecretStr

from movierec_platform.config import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 25
"""Above SQS's longest poll of 20 s."""


def sqs_client(settings: Settings) -> "SQSClient":
    """A client of SQS; three attempts a call, 3 s to connect, 25 s to read."""
    client: SQSClient = _client("sqs", *_place(settings))
    return client


def s3_client(settings: Settings) -> "S3Client":
    """A client of S3; an emulator is addressed by path, as it has no host name a bucket."""
    client: S3Client = _client("s3", *_place(settings))
    return client


def cloudformation_client(settings: Settings) -> "CloudFormationClient":
    """A client of CloudFormation, which no emulator has that this project uses."""
    client: CloudFormationClient = _client("cloudformation", *_place(settings))
    return client


def sns_client(settings: Settings) -> Any:
    """A client of SNS, without types: those of boto3-stubs are not installed for the five calls that are made."""
    return _client("sns", *_place(settings))


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
    service: Literal["sqs", "s3", "sns", "cloudformation"],
    endpoint_url: str | None,
    region: str,
    access_key_id: str | None,
    secret_access_key: SecretStr | None,
    session_token: SecretStr | None,
) -> Any:
    """Made with the credentials that were given, else with those that the standard chain finds."""
    session = boto3.session.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key=None if secret_access_key is None else secret_access_key.get_secret_value(),
        aws_session_token=None if session_token is None else session_token.get_secret_value(),
        region_name=region,
    )
    by_path = service == "s3" and endpoint_url is not None
    config = _CONFIG.merge(Config(s3={"addressing_style": "path"})) if by_path else _CONFIG
    return session.client(service, endpoint_url=endpoint_url, config=config)
