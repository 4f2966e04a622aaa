"""The page `/docs`: Swagger UI from an installed package. It needs no other network."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.exceptions import HTTPException

_PACKAGE = Path(str(files("fastapi_offline"))) / "static"
_OWN = Path(__file__).parent
_ASSETS = {
    "swagger-ui-bundle.js": (_PACKAGE, "text/javascript"),
    "swagger-ui.css": (_PACKAGE, "text/css"),
    "favicon.png": (_PACKAGE, "image/png"),
    "start.js": (_OWN, "text/javascript"),
}
# Swagger UI sets styles from its script, and has its icons in data URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flow Nexus API</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The document itself is at openapi.json.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""


def install(app: FastAPI) -> None:
    """Add the page and its files to an app. They are no part of the API's own document."""

    async def page() -> Response:
        return HTMLResponse(_HTML, headers={"Content-Security-Policy": _POLICY})

    async def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404)
        folder, media_type = _ASSETS[name]
        headers = {"Cache-Control": "public, max-age=3600", "Content-Security-Policy": _POLICY}
        return FileResponse(folder / name, media_type=media_type, headers=headers)

    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route("/docs/{name}", asset, include_in_schema=False)
