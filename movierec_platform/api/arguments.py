"""The arguments of a request as pydantic models: read strictly, refused with a sentence, shown in /openapi.json.

A route's `path`, `query` and `body` are annotated with subclasses of `Path`, `Query` and `Body` (see routes.py). Text
in a URL is taken for a number or a flag only in the one form in which a program writes it: 7, never 7.0, +7 or 0x7.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from werkzeug.datastructures import MultiDict

from movierec_platform.api.errors import Problem
from movierec_platform.domain.events import INT64_MAX

SHOWN_CHARS = 40
_DIGITS = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Path(BaseModel):
    """The variable segments of a path."""

    model_config = ConfigDict(frozen=True)


class Query(BaseModel):
    """The query parameters of a route: each once, but for lists, and no others.

    A list is given as one parameter several times, or once with commas, or both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Body(BaseModel):
    """A small JSON body. `problem` is the slug of what it is refused with."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    problem: ClassVar[str] = "bad-body"
    max_bytes: ClassVar[int] = 64 * 1024


def _whole(value: Any) -> Any:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("not a whole number")
    return value


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return _FLAGS[value.lower()]
        except KeyError:
            raise ValueError("not a flag") from None
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number in a URL; bounds are given beside it, by `Field`."""
Flag = Annotated[bool, BeforeValidator(_flag)]
"""true, 1, false or 0."""
Id = Annotated[int, Field(ge=1, le=INT64_MAX), BeforeValidator(_whole)]
"""Of a user or a movie."""
Year = Annotated[int, Field(ge=1, le=9_999), BeforeValidator(_whole)]
"""Of the calendar."""


class UserPath(Path):
    """/.../<user>"""

    user: Id = Field(title="the user id", description="user id; one that nobody has is answered too")


def require_utf8(what: str, text: bytes) -> None:
    """400 unless this part of a URL, unquoted, is UTF-8: else it would be taken for some other text."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Problem(400, "bad-parameter", f"{what} is not UTF-8") from None


Model = TypeVar("Model", bound=BaseModel)


def read_path(model: type[Model], segments: Mapping[str, str]) -> Model:
    """The segments as this model; 400 when one is not what it must be."""
    try:
        return model.model_validate(segments)
    except ValidationError as invalid:
        raise Problem(400, "bad-parameter", _sentence(model, invalid)) from None


def read_query(model: type[Model], lists: frozenset[str], given: "MultiDict[str, str]") -> Model:
    """The parameters as this model, whose lists these are; 400 when one is not what it must be, or given twice."""
    values: dict[str, Any] = {}
    for name, texts in given.lists():
        if name in lists:
            values[name] = [one for text in texts for one in text.split(",")]
        elif len(texts) == 1:
            values[name] = texts[0]
        elif name in _parameters(model):
            raise Problem(400, "bad-parameter", f"{name} is given {len(texts)} times: give it once")
        else:
            values[name] = None
    try:
        return model.model_validate(values)
    except ValidationError as invalid:
        raise Problem(400, "bad-parameter", _sentence(model, invalid)) from None


def read_json(model: type[Model], text: str, slug: str) -> Model:
    """The JSON text as this model; 400 with this slug when it is not what it must be."""
    try:
        return model.model_validate_json(text)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise Problem(400, slug, f"{where or 'the body'}: {_told(error)}") from None


def lists_of(model: type[BaseModel]) -> frozenset[str]:
    """The names of the fields that take several values."""
    fields = model.model_json_schema().get("properties", {})
    return frozenset(name for name, schema in fields.items() if _of_type(schema).get("type") == "array")


@cache
def _parameters(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The fields by the names that they have in a URL."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _sentence(model: type[BaseModel], invalid: ValidationError) -> str:
    """What the first thing that is wrong must be, and what it is."""
    error = invalid.errors(include_url=False)[0]
    if not error["loc"]:
        return _told(error)
    name, *inside = error["loc"]
    if error["type"] == "extra_forbidden":
        known = ", ".join(_parameters(model)) or "none"
        return f"there is no parameter {_shown(name)} here; there are: {known}"
    spoken = _parameters(model)[str(name)].title or name
    if error["type"] == "missing":
        return f"{spoken} is missing"
    schema = _of_type(model.model_json_schema()["properties"][name])
    if inside:
        spoken, schema = f"each of {spoken}", _of_type(schema["items"])
    kind, given = schema.get("type"), _shown(error["input"])
    if "enum" in schema:
        return f"{spoken} is one of {', '.join(map(str, schema['enum']))}, not {given}"
    if kind in ("integer", "number"):
        return f"{spoken} is a {'whole ' if kind == 'integer' else ''}number{_bounds(schema)}, not {given}"
    if kind == "boolean":
        return f"{spoken} is true or false, not {given}"
    return f"{spoken}: {_told(error)}"


def _told(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _of_type(schema: Any) -> Any:
    """The schema, or of an optional one the part that is not null."""
    for part in schema.get("anyOf", ()):
        if part.get("type") != "null":
            return part
    return schema


def _bounds(schema: Any) -> str:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if lowest is not None and highest is not None:
        return f" from {lowest} to {highest}"
    if lowest is not None:
        return f" of at least {lowest}"
    if highest is not None:
        return f" of at most {highest}"
    return f" above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else ""


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}...")
