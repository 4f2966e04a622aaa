"""Send one message to the address of a webhook, and check where that address leads.

A name is resolved once, and the connection goes to the address that was checked. So a name that
changes between check and connection leads nowhere else.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import certifi
import httpcore

from api.domain.webhooks import Address, AddressRange, address_of, may_reach, parsed_url, refused_url

TIMEOUT_S: Final = 10.0
_RESOLVE_S: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443}


class AddressRefusedError(Exception):
    """A name leads to an address that webhooks may not reach."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt. `error` is one word; None means that the receiver took it."""

    status_code: int | None
    duration_ms: float
    error: str | None


async def check_url(url: str, networks: Sequence[AddressRange]) -> None:
    """Check that a webhook may have this address now.

    Raises:
        InvalidError: it is malformed, its name is unknown, or it leads to a refused address.
    """
    parts = parsed_url(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        async with asyncio.timeout(_RESOLVE_S):
            await _checked_addresses(host, port, networks, tls=parts.scheme == "https")
    except (OSError, TimeoutError, UnicodeError, AddressRefusedError):
        raise refused_url("must lead to a public address with https, or into a network that the operator lists") from None


async def send(url: str, headers: Mapping[str, str], body: bytes, networks: Sequence[AddressRange]) -> Outcome:
    """POST the body and return what came of it. The answer's body is not read."""
    began = time.monotonic()
    status_code, error = None, None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status_code = await _post(url, headers, body, networks)
        error = None if 200 <= status_code < 300 else "status"
    except AddressRefusedError:
        error = "refused"
    except (TimeoutError, httpcore.TimeoutException):
        error = "timeout"
    except ssl.SSLError:
        error = "tls"
    except (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError) as failure:
        error = "tls" if isinstance(failure.__cause__ or failure.__context__, ssl.SSLError) else "connection"
    return Outcome(status_code, round((time.monotonic() - began) * 1000, 1), error)


async def _post(url: str, headers: Mapping[str, str], body: bytes, networks: Sequence[AddressRange]) -> int:
    backend = _CheckedBackend(networks, tls=url.lower().startswith("https:"))
    async with (
        httpcore.AsyncConnectionPool(ssl_context=tls(), network_backend=backend) as pool,
        pool.stream("POST", url, headers=[*headers.items()], content=body) as response,
    ):
        return int(response.status)


@cache
def tls() -> ssl.SSLContext:
    """Return the TLS settings, created once. They check certificate and host name.

    The machine's own authorities count too: `SSL_CERT_FILE` names them.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connect to a checked address of the host."""

    def __init__(self, networks: Sequence[AddressRange], *, tls: bool) -> None:
        self._networks, self._tls = networks, tls
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _checked_addresses(host, port, self._networks, tls=self._tls)
        return await self._backend.connect_tcp(
            str(addresses[0]), port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )


async def _checked_addresses(host: str, port: int, networks: Sequence[AddressRange], *, tls: bool) -> list[Address]:
    """Resolve a host and return its addresses.

    Raises:
        AddressRefusedError: one of them is refused.
        OSError: the name is unknown.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [address_of(str(entry[4][0])) for entry in found]
    if not addresses or not all(may_reach(address, networks, tls=tls) for address in addresses):
        raise AddressRefusedError
    return addresses
