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
    SandboxNotFoundError,
    SandboxPathError,
    SandboxUnavailableError,
    SandboxUnsupportedError,
)

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
            return SandboxError("the sandbox provider refuses this deployment's key")
        case e2b.SandboxException(status_code=code) if code == _NOT_IMPLEMENTED:
            return SandboxUnsupportedError(f"the sandbox provider cannot {action}")
        case e2b.SandboxException(status_code=code) if code == 404:
            return SandboxUnsupportedError(f"the sandbox provider could not {action}: it has no such template")
        case (
            e2b.TimeoutException()
            | e2b.RateLimitException()
            | e2b.ServiceBusyException()
            | httpx.HTTPError()
            | ConnectError()
            | OSError()
        ):
            return SandboxUnavailableError(f"the sandbox provider could not {action} in time")
        case e2b.SandboxException(status_code=code) if code is not None and code >= _SERVER_ERROR:
            return SandboxUnavailableError(f"the sandbox provider could not {action} for a fault of its own")
        case _:
            return SandboxError(f"the sandbox provider could not {action}")
