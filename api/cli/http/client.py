"""The HTTP client: bounded waits, bounded retries, and the API's problems as one line."""

import ipaddress
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx

from api.cli.config import Target
from api.cli.errors import FAILURE, USAGE, CliError, UsageError
from api.cli.http.answer import Answer, parse
from api.cli.output.printing import plain
from api.cli.responses import JsonObject, PageJson, ProblemJson, StoredFileJson

Body = Callable[[], Iterable[bytes]]
T = TypeVar("T")

_PAGE_SIZE = 100
_GRACE_S = 30.0
_POLL_S = 1.0
_PAUSES_S = (0.2, 0.6, 1.8)
_LONGEST_PAUSE_S = 60.0
_STALL_S = 300.0
# ReadTimeout is not here: the server may still work, and a second wait would only double the first.
_RETRYABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)


def api_path(*segments: str) -> str:
    """Return `/v1/...` from names and identifiers. An identifier never adds a segment of its own.

    Raises:
        UsageError: A segment is not an identifier.
    """
    for segment in segments:
        if not segment.strip(".") or not _is_text(segment):
            raise UsageError(f"{segment!r} is not an identifier")
    return "/".join(["/v1", *(quote(segment, safe="") for segment in segments)])


def _is_text(value: str) -> bool:
    """Return false if a shell argument was not UTF-8. Python keeps its bytes as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


@dataclass(frozen=True, slots=True)
class _Call:
    """One request. `wait` is the time in seconds that the server may take beyond the usual."""

    method: str
    path: str
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    json: Mapping[str, object] | None = None
    body: Body | None = None
    wait: float = 0
    stream: bool = False
    repeatable: bool = True


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class ApiClient:
    """A client of one API.

    Raises:
        CliError: By every method. Exit code 2 means a 4xx of the API; 1 means any other failure.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        headers = {"Accept": "application/json", "User-Agent": "flow-nexus-cli"}
        if target.api_key:
            headers["Authorization"] = f"Bearer {target.api_key}"
        timeout = httpx.Timeout(_GRACE_S, connect=5.0)
        # A proxy of the environment cannot reach the loopback address of this machine.
        self._http = httpx.Client(base_url=target.url, headers=headers, timeout=timeout, trust_env=not _is_loopback(target.url))

    def close(self) -> None:
        """Close the connections to the API."""
        self._http.close()

    def get(self, path: str, model: type[T], params: Mapping[str, str] | None = None) -> Answer[T]:
        return Answer(self._json(self._send(_Call("GET", path, params=params))), model)

    def delete(self, path: str, model: type[T], *, wait: int = 0) -> Answer[T] | None:
        """Delete a resource; return None when the API answers without a body."""
        response = self._send(_Call("DELETE", path, headers=_prefer(wait), wait=wait))
        return Answer(self._json(response), model) if response.content else None

    def patch(self, path: str, model: type[T], body: Mapping[str, object]) -> Answer[T]:
        """Change fields of a resource."""
        return Answer(self._json(self._send(_Call("PATCH", path, json=body))), model)

    def post(
        self, path: str, model: type[T], body: Mapping[str, object] | None = None, *, wait: int = 0, hold_s: float = 0
    ) -> Answer[T]:
        """Create a resource.

        The server is asked to hold its answer up to `wait` seconds, until the resource is ready.
        `hold_s` is the time in seconds that the work itself takes, such as the run of a command.
        Retries have the same Idempotency-Key, so nothing is created twice.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex, **_prefer(wait)}
        response = self._send(_Call("POST", path, json=body, headers=headers, wait=max(wait, hold_s)))
        return Answer(self._json(response), model)

    def post_and_poll(
        self,
        path: str,
        model: type[T],
        body: Mapping[str, object] | None = None,
        *,
        wait: int,
        pending: str,
        location: Callable[[T], str],
    ) -> Answer[T]:
        """Create a resource, then poll it until its status is no longer `pending`.

        Return its last answer, after `wait` seconds at the latest.
        `location` returns the path to poll.
        """
        deadline = time.monotonic() + wait
        answer = self.post(path, model, body, wait=wait)
        while answer.status == pending and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            answer = self.get(location(answer.value), model)
        return answer

    def items(
        self, path: str, model: type[T], params: Mapping[str, str] | None = None, limit: int | None = None
    ) -> Answer[PageJson[T]]:
        """Return all pages of a list as one page, or its first `limit` items."""
        items: list[object] = []
        cursor: str | None = None
        while True:
            size = _PAGE_SIZE if limit is None else min(_PAGE_SIZE, limit - len(items))
            query = {**(params or {}), "limit": str(size), **({"cursor": cursor} if cursor else {})}
            page = self._json(self._send(_Call("GET", path, params=query)))
            items += _items_of(page)
            previous, cursor = cursor, _cursor_of(page)
            if not cursor or cursor == previous or (limit is not None and len(items) >= limit):
                return Answer({"items": items[:limit], "next_cursor": cursor}, PageJson[model])  # type: ignore[valid-type]

    def upload(
        self, path: str, params: Mapping[str, str], body: Body, size: int | None, *, repeatable: bool
    ) -> Answer[StoredFileJson]:
        """PUT a stream of bytes. `size` is their number, or None if it is not known beforehand."""
        headers = {"Content-Type": "application/octet-stream", **({} if size is None else {"Content-Length": str(size)})}
        call = _Call("PUT", path, params=params, headers=headers, body=body, wait=_STALL_S, repeatable=repeatable)
        return Answer(self._json(self._send(call)), StoredFileJson)

    @contextmanager
    def download(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """Yield a response whose body is still to be read."""
        with self._open(_Call("GET", path, params=params, headers={"Accept": "*/*"}, stream=True)) as response:
            yield response

    @contextmanager
    def events(
        self, path: str, last_event_id: str | None, quiet_s: float, params: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of an event stream.

        Raises:
            httpx.ReadTimeout: No byte came for `quiet_s` seconds; raised while the bytes are read.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        with self._open(_Call("GET", path, params=params, headers=headers, wait=quiet_s - _GRACE_S, stream=True)) as response:
            yield response.iter_bytes()

    @contextmanager
    def _open(self, call: _Call) -> Iterator[httpx.Response]:
        response = self._send(call)
        try:
            yield response
        finally:
            response.close()

    def _send(self, call: _Call) -> httpx.Response:
        """Send a request, at most four times, until the answer is neither 429 nor 503.

        Raises:
            CliError: The answer is 4xx or 5xx, or there is none.
        """
        for pause in (*(_PAUSES_S if call.repeatable else ()), None):
            request = self._build(call)
            try:
                response = self._http.send(request, stream=call.stream)
            except httpx.HTTPError as error:
                if pause is None or not isinstance(error, _RETRYABLE) or _is_untrusted(error):
                    raise self._no_answer(error) from None
            else:
                if response.is_success:
                    return response
                retry_after = _retry_after(response)
                if pause is None or response.status_code not in _BUSY or (retry_after or 0) > _LONGEST_PAUSE_S:
                    raise self._problem(response)
                response.close()
                pause = pause if retry_after is None else retry_after
            time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _build(self, call: _Call) -> httpx.Request:
        timeout = httpx.Timeout(_GRACE_S, connect=5.0, read=_GRACE_S + call.wait)
        content = call.body() if call.body else None
        try:
            return self._http.build_request(
                call.method,
                call.path,
                params=call.params,
                headers=call.headers,
                json=call.json,
                content=content,
                timeout=timeout,
            )
        except ValueError:  # NaN, infinity, or text that is not UTF-8
            raise UsageError("a value cannot be sent: numbers must be finite, and text must be UTF-8") from None

    def _no_answer(self, error: httpx.HTTPError) -> CliError:
        url = self._target.url
        if isinstance(error, httpx.TimeoutException):
            return CliError(f"no answer from {url} in time; {url}/readyz says which part is down")
        if _is_untrusted(error):
            return CliError(f"the certificate of {url} is not trusted here; SSL_CERT_FILE names the authority that signed it")
        if isinstance(error, _RETRYABLE):
            return CliError(f"cannot reach the API at {url}; start it with `flow-nexus up`, or name another with --url")
        return CliError(f"the request to {url} failed: {type(error).__name__}")

    def _json(self, response: httpx.Response) -> JsonObject:
        try:
            content = json.loads(response.content)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise CliError(f"{self._target.url} did not answer with a JSON object; is it a Flow Nexus API?")
        return content

    def _problem(self, response: httpx.Response) -> CliError:
        """Return RFC 9457 problem details as one line that names every wrong field."""
        exit_code = USAGE if 400 <= response.status_code < 500 else FAILURE
        try:
            response.read()
            text = _problem_text(parse(response.json(), ProblemJson))
        except (httpx.HTTPError, ValueError, RecursionError, CliError):
            text = f"{self._target.url} answered {response.status_code} {response.reason_phrase}".rstrip()
            return CliError(plain(text), exit_code=exit_code)
        finally:
            response.close()
        hint = ""
        if response.status_code == httpx.codes.UNAUTHORIZED and not self._target.api_key:
            hint = "; no API key was given: use FLOW_NEXUS_API_KEY or --api-key"
        return CliError(plain(f"{text}{hint}"), exit_code=exit_code)


def _problem_text(problem: ProblemJson) -> str:
    """Return the detail and the code. Wrong fields that the detail does not name replace it."""
    detail = problem.detail or problem.title
    if not detail:
        raise ValueError("the problem has no detail")
    fields = problem.errors or ()
    if any(field.message not in detail for field in fields):
        detail = "; ".join(f"{field.pointer}: {field.message}" for field in fields)
    return f"{detail} ({problem.code})"


def _items_of(page: JsonObject) -> list[object]:
    """Return the items of a page as they came; JSON output prints them unchanged."""
    items = page.get("items")
    if not isinstance(items, list):
        raise CliError("the API's answer has no 'items'; is it a Flow Nexus API?")
    return items


def _cursor_of(page: JsonObject) -> str | None:
    cursor = page.get("next_cursor")
    return cursor if isinstance(cursor, str) else None


def _is_untrusted(error: httpx.HTTPError) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _prefer(wait: int) -> dict[str, str]:
    return {"Prefer": f"wait={wait}"} if wait else {}


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait: from a number or an HTTP date."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
