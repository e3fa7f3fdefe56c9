"""The .env that says where everything is."""

from pathlib import Path

from movierec_platform.config import Settings, merge_env_file, variables_of

ADDRESSES = (
    "MOVIEREC_API_URL",
    "MOVIEREC_METRICS_URL",
    "DAGSTER_URL",
    "NEO4J_URI",
    "NEO4J_USER",
    "NEO4J_PASSWORD",
    "NEO4J_DATABASE",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "MOVIEREC_BUCKET",
    "MOVIEREC_RAW_QUEUE_URL",
    "MOVIEREC_CLEAN_QUEUE_URL",
    "MOVIEREC_DLQ_URL",
    "MOVIEREC_STATE_URL",
)
EMULATOR_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""An emulator takes any; those of AWS are in no file of this project."""


def write_addresses(path: Path, settings: Settings, force: bool) -> list[str]:
    """The file has the addresses of these settings beside what it had; their names. Raises as `merge_env_file`."""
    written = (*ADDRESSES, *EMULATOR_CREDENTIALS) if settings.aws_endpoint_url else ADDRESSES
    variables = {name: text for name, text in variables_of(settings).items() if name in written}
    merge_env_file(path, variables, force)
    return list(variables)
