"""The E2B SDK's errors in the control plane's words. Messages are our own: the SDK's may quote addresses and bodies."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from connectrpc.errors import ConnectError
from e2b import exceptions as e2b

from api.domain.sandboxes import (
    SandboxError,
    SandboxFileNotFoundError,
    SandboxFullError,
    SandboxNotFoundError,
    SandboxPathError,
    SandboxUnavailableError,
    SandboxUnsupportedError,
)

_NOT_IMPLEMENTED = 501
_FAILURES = (
    e2b.SandboxException,
    e2b.AuthenticationException,
    e2b.ServiceBusyException,
    httpx.HTTPError,
    ConnectError,
    OSError,
)


@contextmanager
def translate_sdk_errors(what: str) -> Iterator[None]:
    """Raise a SandboxError for whatever the SDK raises inside; `what` completes "the sandbox provider could not …"."""
    try:
        yield
    except (SandboxError, asyncio.CancelledError):
        raise
    except _FAILURES as error:
        raise _translate(error, what) from error


def _translate(error: Exception, what: str) -> SandboxError:
    match error:
        case e2b.SandboxNotFoundException() | e2b.SandboxNotRunningException():
            return SandboxNotFoundError("the sandbox does not exist any more")
        case e2b.FileNotFoundException():
            return SandboxFileNotFoundError("the sandbox has nothing at that path")
        case e2b.NotFoundException():
            return SandboxNotFoundError("the sandbox provider does not know what was asked for")
        case e2b.NotEnoughSpaceException():
            return SandboxFullError("the sandbox has no room left")
        case e2b.InvalidArgumentException():
            return SandboxPathError(f"the sandbox provider could not {what}: the path cannot be used for that")
        case e2b.AuthenticationException():
            return SandboxError("the sandbox provider refuses the key of this deployment")
        case e2b.SandboxException(status_code=code) if code == _NOT_IMPLEMENTED:
            return SandboxUnsupportedError(f"the sandbox provider cannot {what}")
        case e2b.SandboxException(status_code=code) if code == 404:
            return SandboxUnsupportedError(f"the sandbox provider could not {what}: it has no such template")
        case (
            e2b.TimeoutException()
            | e2b.RateLimitException()
            | e2b.ServiceBusyException()
            | httpx.HTTPError()
            | ConnectError()
            | OSError()
        ):
            return SandboxUnavailableError(f"the sandbox provider could not {what} in time")
        case _:
            return SandboxError(f"the sandbox provider could not {what}")
