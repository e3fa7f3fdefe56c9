"""`Routes`: a blueprint whose views are given checked arguments and stand in /openapi.json, and its JSON answers.

flask-openapi3 makes the document. Its way of reading requests is replaced: it makes each model's JSON schema anew at
every request, and knows nothing of parameters given twice or of our limits on bodies.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache, wraps
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import OPENAPI3_REF_TEMPLATE
from flask_openapi3.models.schema import Schema
from flask_openapi3.models.tag import Tag
from flask_openapi3.types import ParametersTuple, ResponseDict
from pydantic import BaseModel, TypeAdapter
from werkzeug.datastructures import MultiDict

from movierec_platform.api.arguments import Body, Model, lists_of, read_json, read_path, read_query, require_utf8
from movierec_platform.api.body import check_type, read_body
from movierec_platform.api.errors import Problem, ProblemDocument
from movierec_platform.domain.keys import Scope
from movierec_platform.services.recommend import Items

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 64 * 1024
MAX_FORM_FIELDS = 100

BEARER, HEADER = "bearer", "header"
"""Names of the two ways to give a key."""

_USUAL_PROBLEMS = (400, 401, 403, 429, 500, 503)


def answer(body: Any, status: int = 200) -> Response:
    """The body as JSON: dataclasses, mappings, lists, numpy arrays."""
    text = orjson.dumps(body, default=_as_it_is, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, status, content_type="application/json")


def _as_it_is(part: Any) -> orjson.Fragment:
    """A part of a body that brings its JSON along; orjson asks of what it does not know."""
    if isinstance(part, Items):
        return orjson.Fragment(part.json)
    raise TypeError(f"{type(part).__name__} is not JSON")


def read_text(limit: int) -> str:
    """The request's body, JSON in UTF-8 of at most `limit` bytes decompressed, as text."""
    check_type(request.mimetype, request.mimetype_params.get("charset", ""))
    try:
        return _body(limit).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Problem(400, "malformed-json", "the body is not UTF-8") from None


def read_form(model: type[Model]) -> Model:
    """The request's body, the fields of a form, as this model.

    Never through Flask's `request.form`, which takes any length, and writes the parts of a multipart body to disk.
    """
    if request.mimetype not in (FORM, ""):
        raise Problem(415, "unsupported-media-type", f"send the form as {FORM}", {"Accept": FORM})
    text = _body(MAX_FORM_BYTES).decode(errors="replace")
    try:
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise Problem(400, "bad-parameter", f"a form has {MAX_FORM_FIELDS} fields at most") from None
    return read_query(model, frozenset(), MultiDict(fields))


def _body(limit: int) -> bytes:
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    return read_body(request.stream, encoding, limit, request.content_length)


def problems(*statuses: int) -> ResponseDict:
    """How the document says that these statuses are problem documents."""
    schema = {"$ref": OPENAPI3_REF_TEMPLATE.format(model=ProblemDocument.__name__)}
    content = {"application/problem+json": {"schema": schema}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def json_body(about: str, schema: Mapping[str, Any] | None = None, *more_types: str) -> dict[str, Any]:
    """The `openapi_extensions` of a route that reads its body itself: JSON of this schema, or in those types too."""
    content = {kind: {"schema": dict(schema or {})} for kind in ("application/json", *more_types)}
    return {"requestBody": {"description": about, "required": True, "content": content}}


class Routes(APIBlueprint):
    """The routes of one resource; a key needs `scope` for them, or none is needed (None).

    A view's docstring is its description; its parameters `path`, `query` and `body` are read as the models that
    annotate them. What it answers stands in `responses`, for the document only: nothing is checked at run time.
    """

    def __init__(self, name: str, about: str, scope: Scope | None, *, url_prefix: str | None = None) -> None:
        security: list[dict[str, list[str]]] = [{BEARER: [scope]}, {HEADER: [scope]}] if scope else []
        super().__init__(
            name,
            __name__,
            abp_tags=[Tag(name=name, description=about)],
            abp_security=security,
            abp_responses=problems(*_USUAL_PROBLEMS),
            url_prefix=url_prefix,
        )
        self.scope = scope

    def answers(self, kind: Any, *problem_statuses: int, status: int = 200) -> ResponseDict:
        """The `responses` of a route: JSON of this type (whatever pydantic knows), and problems beyond the usual."""
        content = {"application/json": {"schema": self._schema(kind)}}
        return {status: {"description": HTTPStatus(status).phrase, "content": content}, **problems(*problem_statuses)}

    def _collect_openapi_info(self, rule: str, func: Callable[..., Any], **said: Any) -> ParametersTuple:
        summary, _, more = inspect.cleandoc(func.__doc__ or "").partition("\n")
        said["summary"], said["description"] = summary, _unwrapped(more) or summary
        return super()._collect_openapi_info(rule, func, **said)

    def _schema(self, kind: Any) -> dict[str, Any]:
        schema = deepcopy(_schema_of(kind))
        for name, part in schema.pop("$defs", {}).items():
            self.components_schemas[name] = Schema(**part)
        if "title" not in schema:
            return schema
        self.components_schemas[schema["title"]] = Schema(**schema)
        return {"$ref": OPENAPI3_REF_TEMPLATE.format(model=schema["title"])}

    @staticmethod
    def create_view_func(  # type: ignore[no-untyped-def,override]
        func,
        header,
        cookie,
        path: type[BaseModel] | None,
        query: type[BaseModel] | None,
        form,
        body: type[Body] | None,
        raw,
        **_,
    ) -> Callable[..., Response]:
        """The view as Flask calls it, with the segments of the path; one for all rules of a function."""
        if header or cookie or form or raw:
            raise TypeError(f"{func.__name__} takes path, query and body, nothing else of a request")
        if not hasattr(func, "view"):
            func.view = _view(func, path, query, body)
        view: Callable[..., Response] = func.view
        return view


def _view(
    func: Callable[..., Response],
    path: type[BaseModel] | None,
    query: type[BaseModel] | None,
    body: type[Body] | None,
) -> Callable[..., Response]:
    lists = lists_of(query) if query else frozenset()

    @wraps(func)
    def view(**segments: str) -> Response:
        arguments: dict[str, BaseModel] = {}
        if path:
            require_utf8("the path", request.environ["PATH_INFO"].encode("latin-1"))
            arguments["path"] = read_path(path, segments)
        if query:
            given = bool(request.query_string)
            require_utf8("the query", unquote_to_bytes(request.query_string))
            arguments["query"] = read_query(query, lists, request.args) if given else _defaults(query)
        if body:
            arguments["body"] = read_json(body, read_text(body.max_bytes), body.problem)
        return func(**arguments)

    return view


@cache
def _schema_of(kind: Any) -> dict[str, Any]:
    """Made once a process: all together they take most of the time in which an application is made."""
    return TypeAdapter(kind).json_schema(ref_template=OPENAPI3_REF_TEMPLATE, mode="serialization")


@cache
def _defaults(query: type[BaseModel]) -> BaseModel:
    """What no query string says, read once: most requests have none."""
    return read_query(query, frozenset(), MultiDict())


def _unwrapped(text: str) -> str:
    """The text with its lines joined, but for empty ones, which part paragraphs."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())
