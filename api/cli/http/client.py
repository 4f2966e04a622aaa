"""The HTTP client: bounded waits, bounded repeats, and the API's problems as one line."""

import json as jsons
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from api.cli.config import Target
from api.cli.errors import FAILURE, USAGE, CliError, UsageError
from api.cli.output.printing import plain

Json = dict[str, Any]
Body = Callable[[], Iterable[bytes]]

_PAGE = 100
_GRACE_S = 30.0
_POLL_S = 1.0
_PAUSES_S = (0.2, 0.6, 1.8)
_LONGEST_PAUSE_S = 60.0
_STALL_S = 300.0
# Not ReadTimeout: the server may still be at work, and a second wait would only double the first.
_REPEATABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


def api_path(*segments: str) -> str:
    """`/v1/...` from names and identifiers; an identifier can never add a segment of its own."""
    for segment in segments:
        if not segment.strip(".") or not _is_text(segment):
            raise UsageError(f"{segment!r} is not an identifier")
    return "/".join(["/v1", *(quote(segment, safe="") for segment in segments)])


def _is_text(value: str) -> bool:
    """False for bytes of the shell that are no UTF-8, which Python keeps as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


class Answer(dict[str, Any]):
    """An object of the API's JSON; a field that it must have and has not ends the command."""

    def __missing__(self, name: str) -> Any:
        raise CliError(f"the API's answer has no {name!r}; is it a Flow Nexus API?")


class ApiClient:
    """Every method raises CliError: exit code 2 for the API's 4xx, 1 for everything else."""

    def __init__(self, target: Target) -> None:
        self._target = target
        headers = {"Accept": "application/json", "User-Agent": "flow-nexus-cli"}
        if target.api_key:
            headers["Authorization"] = f"Bearer {target.api_key}"
        loopback = urlsplit(target.url).hostname in ("127.0.0.1", "::1", "localhost")
        timeout = httpx.Timeout(_GRACE_S, connect=5.0)
        # A proxy of the environment cannot reach this machine's own loopback.
        self._http = httpx.Client(base_url=target.url, headers=headers, timeout=timeout, trust_env=not loopback)

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        return self._json(self._send("GET", path, params=params))

    def delete(self, path: str, *, wait: int = 0) -> Json | None:
        """Delete; None when the API answers without a body."""
        response = self._send("DELETE", path, headers=_prefer(wait), wait=wait)
        return self._json(response) if response.content else None

    def post(
        self,
        path: str,
        body: Json | None = None,
        *,
        wait: int = 0,
        hold_s: float = 0,
        pending: frozenset[str] = frozenset(),
        then: Callable[[Json], str] | None = None,
    ) -> Json:
        """Create something, and wait up to `wait` seconds for it; `hold_s` is how long the answer takes by its nature.

        The server is asked to hold its answer; where it answers earlier with a status in `pending`, the path that `then`
        gives is polled for what is left of the time. Repeats carry the same Idempotency-Key, so nothing is made twice.
        """
        deadline = time.monotonic() + wait
        headers = {"Idempotency-Key": uuid.uuid4().hex, **_prefer(wait)}
        resource = self._json(self._send("POST", path, json=body, headers=headers, wait=max(wait, hold_s)))
        while then and resource.get("status") in pending and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            resource = self.get(then(resource))
        return resource

    def items(self, path: str, params: Mapping[str, str] | None = None, limit: int | None = None) -> Json:
        """All pages of a list as one, or its first `limit` items."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self.get(path, {**(params or {}), "limit": str(size), **({"cursor": cursor} if cursor else {})})
            found += page["items"]
            previous, cursor = cursor, page.get("next_cursor")
            if not cursor or cursor == previous or (limit is not None and len(found) >= limit):
                return {"items": found[:limit], "next_cursor": cursor}

    def upload(self, path: str, params: Mapping[str, str], body: Body, size: int | None, *, repeatable: bool) -> Json:
        """PUT raw bytes as they come; `size` in bytes where it is known beforehand."""
        headers = {"Content-Type": "application/octet-stream", **({} if size is None else {"Content-Length": str(size)})}
        response = self._send("PUT", path, params=params, headers=headers, body=body, wait=_STALL_S, repeatable=repeatable)
        return self._json(response)

    @contextmanager
    def download(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """A response whose body has not been read yet."""
        with self._open(path, params=params, headers={"Accept": "*/*"}) as response:
            yield response

    @contextmanager
    def events(self, path: str, last_event_id: str | None, quiet_s: float) -> Iterator[Iterator[bytes]]:
        """An event stream's bytes; httpx.ReadTimeout after `quiet_s` without any."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        with self._open(path, headers=headers, wait=quiet_s - _GRACE_S) as response:
            yield response.iter_bytes()

    @contextmanager
    def _open(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        response = self._send("GET", path, stream=True, **options)
        try:
            yield response
        finally:
            response.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Json | None = None,
        body: Body | None = None,
        wait: float = 0,
        stream: bool = False,
        repeatable: bool = True,
    ) -> httpx.Response:
        """Send until an answer comes that is neither 429 nor 503, at most four times. Raises CliError for 4xx and 5xx."""
        timeout = httpx.Timeout(_GRACE_S, connect=5.0, read=_GRACE_S + wait)
        for pause in (*(_PAUSES_S if repeatable else ()), None):
            content = body() if body else None
            try:
                request = self._http.build_request(
                    method, path, params=params, headers=headers, json=json, content=content, timeout=timeout
                )
            except ValueError:  # NaN, infinity, or bytes that are no UTF-8
                raise UsageError("a value cannot be sent: numbers must be finite, and text must be UTF-8") from None
            try:
                response = self._http.send(request, stream=stream)
            except httpx.TimeoutException as error:
                if pause is None or not isinstance(error, _REPEATABLE):
                    raise CliError(f"no answer from {self._target.url} in time") from None
            except _REPEATABLE as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    words = "is not trusted here; SSL_CERT_FILE names the authority that signed it"
                    raise CliError(f"the certificate of {self._target.url} {words}") from None
                if pause is None:
                    raise CliError(f"cannot reach the API at {self._target.url}") from None
            except httpx.HTTPError as error:
                raise CliError(f"the request to {self._target.url} failed: {type(error).__name__}") from None
            else:
                if response.is_success:
                    return response
                asked = _retry_after(response)
                if pause is None or response.status_code not in (429, 503) or (asked or 0) > _LONGEST_PAUSE_S:
                    raise self._problem(response)
                response.close()
                pause = pause if asked is None else asked
            time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _json(self, response: httpx.Response) -> Json:
        try:
            content = jsons.loads(response.content, object_hook=Answer)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise CliError(f"{self._target.url} did not answer with a JSON object; is it a Flow Nexus API?")
        return content

    def _problem(self, response: httpx.Response) -> CliError:
        """RFC 9457 problem details as one line that names every wrong field."""
        exit_code = USAGE if 400 <= response.status_code < 500 else FAILURE
        try:
            response.read()
            problem = response.json()
            detail, code = problem.get("detail") or problem["title"], problem["code"]
            wrong = problem.get("errors") or ()
            if any(item["message"] not in detail for item in wrong):
                detail = "; ".join(f"{item['pointer']}: {item['message']}" for item in wrong)
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            words = f"{self._target.url} answered {response.status_code} {response.reason_phrase}".rstrip()
            return CliError(plain(words), exit_code=exit_code)
        finally:
            response.close()
        hint = ""
        if response.status_code == httpx.codes.UNAUTHORIZED and not self._target.api_key:
            hint = "; no API key was given: use FLOW_NEXUS_API_KEY or --api-key"
        return CliError(plain(f"{detail} ({code}){hint}"), exit_code=exit_code)


def _prefer(wait: int) -> dict[str, str]:
    return {"Prefer": f"wait={wait}"} if wait else {}


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks us to stay away: a number or an HTTP date."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
