"""Clients for AWS or an emulator, thread-safe. Each of boto3's is made once a process: that takes a tenth of a second.

Where the settings give both an endpoint and a key, they are all that counts: no profile, no file under ~/.aws and no
other AWS_* variable is read. Otherwise the standard chain is, as on AWS. An emulator on this machine is reached through
no proxy. Raises UsageError where AWS's own configuration cannot be read.
"""

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.exceptions import BotoCoreError
from pydantic import SecretStr

from movierec_platform.config import Settings, is_this_machine
from movierec_platform.domain.budget import ATTEMPTS, CONNECT_S, LONG_POLL_S, READ_S
from movierec_platform.errors import UsageError

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


def sns_client(settings: Settings) -> Any:
    """A client of SNS, without types: those of boto3-stubs are not installed for the five calls that are made."""
    return _client("sns", *_place(settings))


def object_store_options(settings: Settings) -> dict[str, str]:
    """What the S3 client of deltalake needs; credentials that were not given come from the standard AWS chain."""
    endpoint, region, key, secret, token = _place(settings)
    options = {
        "aws_region": region,
        "aws_conditional_put": "etag",
        "aws_endpoint_url": endpoint,
        "aws_access_key_id": key,
        "aws_secret_access_key": _text(secret),
        "aws_session_token": _text(token),
        "allow_http": "true" if (endpoint or "").startswith("http://") else None,
        "connect_timeout": "3s",
        "timeout": "30s",
    }
    given = {name: value for name, value in options.items() if value is not None}
    if endpoint and key:
        # deltalake takes every option that is not given from a variable of that name.
        given = {**_NOTHING_FROM_VARIABLES, "aws_endpoint_url_s3": endpoint, **given}
    if endpoint and _is_here(endpoint):
        # One proxy that is given replaces those of the environment, and this host is excepted from it.
        given |= {"proxy_url": _NO_PROXY, "proxy_excludes": str(urlsplit(endpoint).hostname)}
    return given


_NOTHING_FROM_VARIABLES = {
    "aws_session_token": "",
    "aws_virtual_hosted_style_request": "false",
    "aws_skip_signature": "false",
    "aws_unsigned_payload": "false",
    "aws_s3_express": "false",
    "aws_request_payer": "false",
}
_NO_PROXY = "http://0.0.0.0:1"
"""Nobody listens there; it is never asked."""
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
    service: Literal["sqs", "s3", "sns", "cloudformation"],
    endpoint_url: str | None,
    region: str,
    access_key_id: str | None,
    secret_access_key: SecretStr | None,
    session_token: SecretStr | None,
    waits_s: float = 0,
) -> Any:
    """Made with the credentials that were given, else with those that the standard chain finds."""
    config = _CONFIG.merge(Config(read_timeout=READ_S + waits_s))
    if service == "s3" and endpoint_url is not None:
        config = config.merge(Config(s3={"addressing_style": "path"}))
    if endpoint_url is not None and _is_here(endpoint_url):
        config = config.merge(Config(proxies={}))
    try:
        session = boto3.session.Session(
            aws_access_key_id=access_key_id,
            aws_secret_access_key=_text(secret_access_key),
            aws_session_token=_text(session_token),
            region_name=region,
            botocore_session=_session_without_environment() if endpoint_url and access_key_id else None,
        )
        return session.client(service, endpoint_url=endpoint_url, config=config)
    except BotoCoreError as error:
        raise UsageError(f"the configuration of AWS cannot be used: {error}") from error


def _session_without_environment() -> botocore.session.Session:
    """A session of defaults: each of its variables is neither read from the environment nor from a file."""
    defaults = {
        name: (None, None, default, convert)
        for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    no_files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return botocore.session.Session(session_vars={**defaults, **no_files})


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _is_here(url: str) -> bool:
    return is_this_machine(urlsplit(url).hostname or "")
