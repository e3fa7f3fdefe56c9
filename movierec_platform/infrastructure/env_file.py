"""The .env that says where everything is."""

from pathlib import Path

from dotenv import dotenv_values

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
BY_HAND = ("MOVIEREC_API_URL", "MOVIEREC_METRICS_URL", "DAGSTER_URL", "NEO4J_URI")
"""Of servers that `provision` does not make."""
EMULATOR_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""An emulator takes any; those of AWS are in no file of this project."""


def write_addresses(path: Path, settings: Settings, force: bool) -> tuple[list[str], list[str]]:
    """The file has the addresses of these settings beside what it had; the names of those, and of addresses that are
    not known: they are in it without a value, for somebody to add. Raises as `merge_env_file`."""
    written = (*ADDRESSES, *EMULATOR_CREDENTIALS) if settings.aws_endpoint_url else ADDRESSES
    known = {name: text for name, text in variables_of(settings).items() if name in written}
    held = dotenv_values(path, interpolate=False, encoding="utf-8") if path.is_file() else {}
    unknown = [name for name in BY_HAND if name not in known and name not in held]
    merge_env_file(path, {**known, **dict.fromkeys(unknown, "")}, force)
    return list(known), unknown
