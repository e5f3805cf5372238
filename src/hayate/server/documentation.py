"""/docs: both APIs in Swagger UI, whose files come from this machine; FastAPI's own page loads them from elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

PACKAGE = "fastapi_offline"
"""Its wheel carries Swagger UI's files; it is never imported."""
FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  docExpansion: "list",
  validatorUrl: null,
});
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hayate: the APIs</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<main id="docs"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
WITHOUT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Hayate: the APIs</title></head>
<body>
<main>
<h1>The APIs</h1>
<p>All routes, with what they take and give, are in <a href="openapi.json">/openapi.json</a>.</p>
<p>This page shows them in Swagger UI once its files are here: <code>pip install fastapi-offline</code></p>
</main>
</body>
</html>
"""


def documentation_router() -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)
    router.get("/docs", response_class=HTMLResponse)(page)
    router.get("/docs/start.js")(start)
    router.get("/docs/{name}")(file)
    router.get("/redoc")(redoc)
    return router


def page() -> HTMLResponse:
    """Swagger UI, or where the document is if its files are not installed."""
    return HTMLResponse(WITHOUT if swagger_folder() is None else PAGE)


def start() -> Response:
    """A file of its own, since the policy lets no script run inside a page."""
    return Response(START, media_type="text/javascript")


def file(name: str) -> FileResponse:
    folder = swagger_folder()
    if folder is None or name not in FILES:
        raise HTTPException(404, "no such file")
    return FileResponse(folder / name, media_type=FILES[name], headers={"Cache-Control": "max-age=86400"})


async def redoc() -> RedirectResponse:
    """Whoever knows the other page of A1111's is led to this one."""
    return RedirectResponse("docs")


def swagger_folder() -> Path | None:
    """Where Swagger UI's files are installed, or None."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "static"
    return folder if all((folder / name).is_file() for name in FILES) else None
