"""The dashboard: static files that run in a browser and call the API."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file of the dashboard. `tag` is its strong ETag."""

    content: bytes
    media_type: str
    tag: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Return the files by their path below the folder. They change only with the installation."""
    return dict(_read(resources.files("api") / "dashboard", ""))


def _read(folder: Traversable, path: str) -> Iterator[tuple[str, StaticFile]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{path}{entry.name}/")
        elif media_type := _TYPES.get(entry.name.rpartition(".")[2]):
            content = entry.read_bytes()
            yield path + entry.name, StaticFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@router.api_route("/", methods=["GET", "HEAD"])
async def send_browser_to_dashboard(request: Request) -> Response:
    """Send a browser to the dashboard. Other clients get the problem of an unknown path."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse("dashboard/", 303, headers={"Vary": "Accept"})


@router.api_route("/dashboard", methods=["GET", "HEAD"])
async def add_slash() -> Response:
    """Send the browser to the folder, so that the page's relative addresses fit."""
    return RedirectResponse("dashboard/", 308)


@router.api_route("/dashboard/{path:path}", methods=["GET", "HEAD"])
async def get_dashboard_file(path: str, request: Request) -> Response:
    """Return one file, or 304 if the browser has it.

    `no-cache`: the browser keeps the file and asks for changes each time.
    """
    found = static_files().get(path or "index.html")
    if found is None:
        raise HTTPException(404)
    headers = {"ETag": found.tag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if found.tag in known:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
