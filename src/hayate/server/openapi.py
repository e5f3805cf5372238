"""The document of both APIs: FastAPI's, with the failures as this server answers them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from hayate.server.failures import A1111_PATHS

TEXT = {"type": "string"}
SHAPES: dict[str, dict[str, Any]] = {
    "Error": {
        "type": "object",
        "description": "Every answer that is no success.",
        "required": ["error", "message", "hint"],
        "properties": {
            "error": {**TEXT, "description": "the class of the failure, such as UnknownName"},
            "message": TEXT,
            "hint": {**TEXT, "description": "what to do about it"},
        },
    },
    "A1111Error": {
        "type": "object",
        "description": "Every answer of A1111's API that is no success.",
        "required": ["error", "detail", "body", "errors"],
        "properties": {
            "error": {**TEXT, "description": "the class of the failure"},
            "detail": {"description": "what is wrong, and what to do about it"},
            "body": TEXT,
            "errors": TEXT,
        },
    },
}
REPLACED = ("HTTPValidationError", "ValidationError")
"""What FastAPI would answer, and this server does not."""


def openapi_document(app: FastAPI, subpath: str = "") -> dict[str, Any]:
    """Made once, when it is first asked for; all routes have to be there. `subpath` is where a proxy has them."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name in REPLACED:
            schemas.pop(name, None)
        schemas |= SHAPES
        for path, operation in _operations(document):
            _state_failures(operation, "A1111Error" if path.startswith(A1111_PATHS) else "Error")
        if subpath:
            document["servers"] = [{"url": subpath}]
        app.openapi_schema = document
    return app.openapi_schema


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _state_failures(operation: dict[str, Any], shape: str) -> None:
    """Failures are JSON whatever the success is; those of the guards, which any route may give, are the default."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    responses = operation["responses"]
    for status, response in responses.items():
        if status >= "400" and not _has_own_shape(response):
            response["content"] = content
    responses["default"] = {"description": "not let in, or something else went wrong", "content": content}


def _has_own_shape(response: dict[str, Any]) -> bool:
    reference = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return bool(reference) and reference.rpartition("/")[2] not in (*SHAPES, *REPLACED)
