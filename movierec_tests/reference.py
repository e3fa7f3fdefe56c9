"""The pages of `movierec_platform/docs/reference` and .env.example, made from the code that they describe.

`python -m movierec_tests.reference` writes them; `movierec_tests/unit/test_docs.py` fails while one of them is stale.
"""

import html
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer.cli
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

from movierec_platform.api.app import Services, app_of
from movierec_platform.config import Settings, variable_of
from movierec_platform.domain.gate import REASONS
from movierec_platform.domain.tables import COLUMNS, ROWS, SCHEMAS
from movierec_platform.services.exposition import METRICS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "movierec_platform/docs/reference"
RULES = ROOT / "movierec_platform/deploy/prometheus/rules.yml"
MOST_TOLD = 2**53
"""A greater bound of a number is only what 64 bits hold."""
HEAD = "<!-- Made from the code by `python -m movierec_tests.reference`: change the code, then run that. -->\n"


def files() -> dict[Path, str]:
    """What each generated file has to hold."""
    pages = {
        "cli": cli(),
        "http": http(),
        "settings": settings(),
        "metrics": metrics(),
        "lake": lake(),
        "events": events(),
        "alerts": alerts(),
    }
    return {
        **{PAGES / f"{name}.md": f"{HEAD}\n{text.strip()}\n" for name, text in pages.items()},
        ROOT / ".env.example": env_example(),
    }


def cli() -> str:
    """Each command with its arguments and options, in the order of `movierec --help`, as Typer describes them."""
    asked = ["movierec_platform.cli.main", "utils", "docs", "--name", "movierec"]
    described = html.unescape(CliRunner().invoke(typer.cli.app, asked, catch_exceptions=False).output)
    head = (
        "# Commands\n\n`movierec` is `python3 -m movierec_platform`; `.venv/bin` has it after the first run. "
        "Exit codes: 0 done, 1 a check said no, 2 wrong usage, 3 a dependency is down, 70 a defect, 130 interrupted, "
        "141 nobody reads the output."
    )
    return described.replace("# `movierec`", head, 1)


def http() -> str:
    """Each route of the API with what it takes, from its OpenAPI document."""
    document = _openapi()
    parts = [
        "# HTTP",
        "The API describes itself: `/docs` in a browser, `/openapi.json` for programs. Bodies and answers are JSON; an "
        "error is a problem document (RFC 9457) with a stable `type`. Where keys are needed, a route needs the scope "
        "given here ([keys](../howto/keys.md)).",
    ]
    for tag in document["tags"]:
        parts += [f"## {tag['name']}", tag["description"]]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    parts += _route(method.upper(), path, operation, document)
    return "\n\n".join(parts)


def settings() -> str:
    """Each variable with its default and meaning."""
    rows = [(f"`{name}`", f"`{default}`" if default else "", meaning) for name, default, meaning in _variables()]
    return "\n\n".join(
        [
            "# Settings",
            "A value comes from the environment, else from the running stack's `stack.env`, else from `.env` in the "
            "current folder, else from the default here. `.env.example` has the same in the form of a `.env`.",
            table(("variable", "default", "meaning"), rows),
        ]
    )


def env_example() -> str:
    """The same as a file to copy lines from."""
    head = (
        "# Every variable, with the default that holds when it is empty or unset. Copy to .env what you change;\n"
        "# the environment and the stack.env of a running stack win over .env.\n"
    )
    return head + "".join(f"\n# {meaning}\n{name}={default}\n" for name, default, meaning in _variables())


def metrics() -> str:
    """Each metric with its type and labels."""
    rows = [
        (f"`{name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.meaning)
        for name, one in METRICS.items()
    ]
    return "\n\n".join(
        [
            "# Metrics",
            "The exporter (`MOVIEREC_METRICS_URL`) shows what the whole platform does; each API process shows its own "
            "requests at `/metrics` ([how to scrape both](../howto/metrics.md)).",
            table(("metric", "type", "labels", "meaning"), rows),
        ]
    )


def lake() -> str:
    """Each table of the lake with its columns."""
    parts = ["# Tables of the lake", "Delta tables below `s3://BUCKET/lake/`. Times are epoch milliseconds."]
    for name, schema in SCHEMAS.items():
        rows = [
            (f"`{field.name}`", f"{field.type}", "yes" if field.nullable else "", COLUMNS[field.name])
            for field in schema
        ]
        parts += [f"## {name}", f"A row is {ROWS[name]}.", table(("column", "type", "may be null", "meaning"), rows)]
    return "\n\n".join(parts)


def events() -> str:
    """The fields of an event, and the reasons for which one is refused."""
    event = _openapi()["paths"]["/ingest"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]
    fields = [(f"`{name}`", _type(one), one.get("description", "")) for name, one in event["properties"].items()]
    return "\n\n".join(
        [
            "# Events and reason codes",
            "A body of `POST /ingest` is one event, an array of events, or NDJSON. `user_id`, "
            "`movie_id` (or `item_id`) and, for the type `rating`, `rating` are required. Unknown fields are ignored "
            "and counted.",
            table(("field", "type", "meaning"), fields),
            "## Reason codes",
            "A refused event is in quarantine with one of these ([quarantine](../howto/quarantine.md)).",
            table(("code", "the event is refused because"), [(f"`{code}`", why) for code, why in REASONS.items()]),
        ]
    )


def alerts() -> str:
    """Each alert with its condition."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    parts = ["# Alerts", "What each means and what to do is in the [runbook](../operate/runbook.md)."]
    for group in groups:
        rows = [
            (
                f"[{rule['alert']}](../operate/runbook.md#{rule['alert'].lower()})",
                rule["labels"]["severity"],
                f"`{' '.join(rule['expr'].split())}`",
                rule.get("for", "0m"),
            )
            for rule in group["rules"]
            if "alert" in rule
        ]
        parts += [f"## {group['name']}", table(("alert", "severity", "condition", "for"), rows)]
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _openapi() -> dict[str, Any]:
    """The document of an API that wants keys; nothing is asked of any server."""
    nowhere = "http://127.0.0.1:9"
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(
            home=Path(home),
            aws_endpoint_url=nowhere,
            aws_access_key_id="none",
            aws_secret_access_key=SecretStr("none"),
            raw_queue_url=f"{nowhere}/raw",
            neo4j_uri="bolt://127.0.0.1:9",
            require_keys=True,
        )
        services = Services.open(settings)
        document: dict[str, Any] = app_of(settings, services).test_client().get("/openapi.json").get_json()
        services.close()
    return document


def _route(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """A route's part of the page."""
    scope = next((names[0] for security in operation.get("security", []) for names in security.values() if names), None)
    parts = [f"### {method} {path}", operation["summary"]]
    if operation.get("description", operation["summary"]) != operation["summary"]:
        parts.append(operation["description"])
    parts.append(f"Scope: `{scope}`." if scope else "Needs no key.")
    rows = [
        (f"`{one['name']}`", one["in"], _type(one["schema"]), one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in body:
        body = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    rows += [
        (f"`{name}`", "body", _type(one), one.get("description", ""))
        for name, one in body.get("properties", {}).items()
    ]
    if rows:
        parts.append(table(("parameter", "in", "type", "meaning"), rows))
    return parts


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words: type, bounds, default."""
    if "anyOf" in schema:
        kinds = [_type(one) for one in schema["anyOf"] if one.get("type") != "null"]
        said = " or ".join(dict.fromkeys(kinds))
    elif "enum" in schema:
        said = ", ".join(f"`{one}`" for one in schema["enum"])
    elif "$ref" in schema:
        said = schema["$ref"].rpartition("/")[2]
    elif schema.get("type") == "array":
        said = f"list of {_type(schema.get('items', {}))}"
    else:
        said = schema.get("type", "any") + _bounds(schema)
    default = schema.get("default")
    return said if default in (None, []) else f"{said}, default `{default}`"


def _bounds(schema: Mapping[str, Any]) -> str:
    """The least and the greatest value or length that a schema allows."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", schema.get("minLength")))
    high = schema.get("maximum", schema.get("maxLength"))
    high = None if high is not None and high > MOST_TOLD else high
    unit = " characters" if "maxLength" in schema or "minLength" in schema else ""
    if low is None and high is None:
        return ""
    if high is None:
        return f" of at least {low:g}{unit}"
    return f" of at most {high:g}{unit}" if low is None else f" from {low:g} to {high:g}{unit}"


def _variables() -> list[tuple[str, str, str]]:
    """(variable, default as text, meaning) of each setting."""
    found = []
    for name, field in Settings.model_fields.items():
        default = field.default
        text = default.get_secret_value() if isinstance(default, SecretStr) else "" if default is None else str(default)
        found.append((variable_of(name), text, str(field.description)))
    return found


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
