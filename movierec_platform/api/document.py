"""GET /openapi.json: the description of every route; GET /docs: the same as a page, which works offline."""

from importlib.resources import files
from typing import Any

import flask_openapi3_swagger
import orjson
from flask import Response
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from movierec_platform import __version__
from movierec_platform.api.browsers import POLICY
from movierec_platform.api.errors import ProblemDocument
from movierec_platform.api.routes import BEARER, HEADER, Routes

INFO = Info(
    title="movierec",
    version=__version__,
    description=(
        "Movie recommendations from a stream of ratings. Errors are problem documents (RFC 9457) with a stable `type`. "
        "Every answer has an X-Request-ID, which is the request's if it gave one."
    ),
)
SECURITY: dict[str, Any] = {
    BEARER: {"type": "http", "scheme": "bearer", "description": "an API key of `movierec keys create`"},
    HEADER: {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>movierec API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = "SwaggerUIBundle({url: '/openapi.json', dom_id: '#page', deepLinking: true, validatorUrl: null});\n"
_SWAGGER_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
"""Swagger UI styles its elements in place, and its icons are data."""
_KEPT = {"Cache-Control": "max-age=86400"}


def openapi_app(import_name: str) -> OpenAPI:
    """A Flask application that describes the `Routes` which are registered with `register_api`."""
    app = OpenAPI(
        import_name,
        info=INFO,
        security_schemes=SECURITY,
        doc_ui=False,
        validation_error_status=400,
        validation_error_model=ProblemDocument,
        static_folder=None,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    return app


def describe(app: OpenAPI, routes: Routes) -> None:
    """The app has these routes, and describes them. Raises ValueError when a type of theirs has the name of another."""
    for name, schema in routes.components_schemas.items():
        if app.components_schemas.get(name, schema) != schema:
            raise ValueError(f"two types of the API are called {name}: {routes.name} needs another name for its own")
    app.register_api(routes)


def blueprint(app: OpenAPI, keys_required: bool) -> Routes:
    """The routes that describe this app's others, and the keys that they need."""
    routes = Routes("document", "This description.", None)
    swagger = files(flask_openapi3_swagger) / "templates" / "swagger"
    described: list[bytes] = []

    @routes.get("/openapi.json", doc_ui=False)
    def openapi() -> Response:
        if not described:
            described.append(orjson.dumps(app.api_doc if keys_required else _without_keys(app.api_doc)))
        return Response(described[0], mimetype="application/json")

    @routes.get("/docs", doc_ui=False)
    def page() -> Response:
        return Response(_PAGE, mimetype="text/html", headers={POLICY: _SWAGGER_POLICY})

    @routes.get("/docs/start.js", doc_ui=False)
    def start() -> Response:
        return Response(_START, mimetype="text/javascript", headers=_KEPT)

    @routes.get("/docs/swagger-ui.css", doc_ui=False)
    def style() -> Response:
        return Response((swagger / "css" / "swagger-ui.css").read_bytes(), mimetype="text/css", headers=_KEPT)

    @routes.get("/docs/swagger-ui-bundle.js", doc_ui=False)
    def script() -> Response:
        text = (swagger / "js" / "swagger-ui-bundle.js").read_bytes()
        return Response(text, mimetype="text/javascript", headers=_KEPT)

    return routes


def _without_keys(described: dict[str, Any]) -> dict[str, Any]:
    del described["components"]["securitySchemes"]
    for operations in described["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return described
