"""Translate the E2B SDK's errors into the control plane's errors.

Messages are our own, because the SDK's messages may quote addresses and bodies.
"""

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
    SandboxKeyError,
    SandboxNotFoundError,
    SandboxPathError,
    SandboxUnavailableError,
    SandboxUnsupportedError,
)

_NOT_FOUND = 404
_NOT_IMPLEMENTED = 501
_SERVER_ERROR = 500
_FAILURES = (
    e2b.SandboxException,
    e2b.AuthenticationException,
    e2b.ServiceBusyException,
    httpx.HTTPError,
    ConnectError,
    OSError,
)


@contextmanager
def translate_sdk_errors(action: str) -> Iterator[None]:
    """Raise a SandboxError for each error that the SDK raises inside.

    `action` completes the sentence "the sandbox provider could not …".
    """
    try:
        yield
    except (SandboxError, asyncio.CancelledError):
        raise
    except _FAILURES as error:
        raise _translate(error, action) from error


def _translate(error: Exception, action: str) -> SandboxError:
    match error:
        case e2b.SandboxNotFoundException() | e2b.SandboxNotRunningException():
            return SandboxNotFoundError("the sandbox does not exist any more")
        case e2b.FileNotFoundException():
            return SandboxFileNotFoundError("the sandbox has nothing at that path")
        case e2b.NotFoundException():
            return SandboxNotFoundError("the sandbox provider has no such sandbox, process or file")
        case e2b.NotEnoughSpaceException():
            return SandboxFullError("the sandbox has no room left")
        case e2b.InvalidArgumentException():
            return SandboxPathError(f"the sandbox provider could not {action}: the path cannot be used for that")
        case e2b.AuthenticationException():
            return SandboxKeyError("the sandbox provider refuses this deployment's key")
        case (
            e2b.TimeoutException()
            | e2b.RateLimitException()
            | e2b.ServiceBusyException()
            | httpx.HTTPError()
            | ConnectError()
            | OSError()
        ):
            return SandboxUnavailableError(f"the sandbox provider could not {action} in time")
        case e2b.SandboxException(status_code=int(status)):
            return _translate_status(status, action)
        case _:
            return SandboxError(f"the sandbox provider could not {action}")


def _translate_status(status: int, action: str) -> SandboxError:
    """Return the error for an HTTP status that the SDK has no class of its own for."""
    if status == _NOT_IMPLEMENTED:
        return SandboxUnsupportedError(f"the sandbox provider cannot {action}")
    if status == _NOT_FOUND:
        return SandboxUnsupportedError(f"the sandbox provider could not {action}: it has no such template")
    if status >= _SERVER_ERROR:
        return SandboxUnavailableError(f"the sandbox provider could not {action} for a fault of its own")
    return SandboxError(f"the sandbox provider could not {action}")
