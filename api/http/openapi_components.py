"""Write what several operations share once, under `components`, and refer to it."""

import json
from collections import Counter
from http import HTTPStatus
from typing import Any, Final

from api.http.problems import MEDIA_TYPE
from api.schemas.examples import NOT_READY, PROBLEMS

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_TEXT: Final = {"type": "string"}
_SECONDS: Final = {"type": "integer", "format": "int32"}
_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-Id": {"description": "The id of this request in the server's log.", "schema": _TEXT},
    "WWW-Authenticate": {"description": "`Bearer`.", "schema": _TEXT},
    "Retry-After": {"description": "Seconds to wait before the next request.", "schema": _SECONDS},
    "RateLimit-Policy": {
        "description": '`"default";q=…;w=…`: requests per key, and the window in seconds (IETF draft ratelimit-headers).',
        "schema": _TEXT,
    },
    "RateLimit": {
        "description": '`"default";r=…;t=…`: allowed requests now, and seconds until the next; absent while there is no count.',
        "schema": _TEXT,
    },
}
_LARGE_PAGE: Final = 100
_ANSWER_HEADERS: Final = ("X-Request-Id",)
_KEY_HEADERS: Final = ("RateLimit-Policy", "RateLimit")
_PHRASES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}
_HEADERS_OF: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def share(document: dict[str, Any]) -> None:
    components = document["components"]
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    headers = components["headers"] = {_pascal(name): header for name, header in _HEADERS.items()}
    responses: dict[str, Any] = components.setdefault("responses", {})
    links: dict[str, Any] = components.setdefault("links", {})
    for operation in operations:
        for status, answer in operation["responses"].items():
            _refer_to_headers(answer, _header_names(operation, int(status)), headers)
            content = answer.get("content", {}).get(MEDIA_TYPE)
            if content is not None and content["schema"] != _PROBLEM:
                content["example"] = NOT_READY
            elif content is not None:
                name = _pascal(_phrase(int(status)).replace(" ", "_"))
                content["example"] = _problem(int(status))
                _refer(operation["responses"], status, "responses", name, responses)
            elif int(status) == HTTPStatus.NOT_MODIFIED:
                _refer(operation["responses"], status, "responses", "NotModified", responses)
            for target in answer.get("links", {}):
                name = _pascal(f"{operation['operationId']}_{target}")
                _refer(answer["links"], target, "links", name, links)
    components["parameters"] = _share_parameters(operations)


def _header_names(operation: dict[str, Any], status: int) -> tuple[str, ...]:
    # The description of the document says once which headers all answers have.
    if status < HTTPStatus.BAD_REQUEST:
        return ()
    of_key = _KEY_HEADERS if operation["security"] and status == HTTPStatus.TOO_MANY_REQUESTS else ()
    return (*_ANSWER_HEADERS, *of_key, *_HEADERS_OF.get(status, ()))


def _refer_to_headers(answer: dict[str, Any], names: tuple[str, ...], shared: dict[str, Any]) -> None:
    own = answer.pop("headers", {})
    headers = {name: own.get(name, _HEADERS.get(name)) for name in (*own, *names)}
    for name in headers:
        _refer(headers, name, "headers", _pascal(name), shared)
    if headers:
        answer["headers"] = headers


def _refer(place: dict[str, Any], key: str, kind: str, name: str, shared: dict[str, Any]) -> None:
    """Move a value to the components, unless it is there already, and put a reference in its place.

    Raises:
        ValueError: the component is there with another content.
    """
    value = place[key]
    known = shared.setdefault(name, value)
    if known != value and kind != "responses":
        raise ValueError(f"two different {kind} are called {name}")
    place[key] = {"$ref": f"#/components/{kind}/{name}"}


def _share_parameters(operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Move each parameter that several operations have to the components, and return these.

    Of several parameters with one name, the most frequent one is shared.
    """
    counts = Counter(json.dumps(parameter) for operation in operations for parameter in operation.get("parameters", ()))
    texts = {_name_of_parameter(json.loads(text)): text for text, count in reversed(counts.most_common()) if count > 1}
    names = {text: name for name, text in texts.items()}
    for operation in operations:
        if "parameters" in operation:
            operation["parameters"] = [
                {"$ref": f"#/components/parameters/{names[text]}"} if (text := json.dumps(parameter)) in names else parameter
                for parameter in operation["parameters"]
            ]
    return {name: json.loads(text) for name, text in sorted(texts.items())}


def _name_of_parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    if parameter["name"] == "cursor" and "pattern" in schema:
        return "PositionCursor"
    is_large = parameter["name"] == "limit" and schema["maximum"] > _LARGE_PAGE
    return "LargePageLimit" if is_large else _pascal(parameter["name"])


def _pascal(name: str) -> str:
    """Return `RetryAfter` for `Retry-After`, and `NotFound` for `NOT_FOUND`."""
    parts = name.replace("-", "_").split("_")
    return "".join(part.capitalize() if part.isupper() else part[:1].upper() + part[1:] for part in parts)


def _phrase(status: int) -> str:
    """Return the name of a status. Python 3.13 has other names for some than Python 3.11."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def _problem(status: int) -> dict[str, Any]:
    code, detail = PROBLEMS[status]
    example = {
        "type": f"/problems/{code}",
        "title": _phrase(status),
        "status": status,
        "detail": detail,
        "instance": "/v1/clusters/cls_9x7k3m2p#req_1f0c2a9d1e7b4f0c",
        "code": code,
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        pointer, _, message = detail.partition(": ")
        example["errors"] = [{"pointer": pointer, "message": message}]
    return example
