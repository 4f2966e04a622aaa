"""The input file of a prediction: its size and SHA-256."""

import hashlib

from workers.agent.protocol.inference import InputDescription
from workers.agent.runtime.errors import AgentError, DataError
from workers.agent.runtime.paths import SandboxRoot

_CHUNK = 1 << 20


def describe(root: SandboxRoot, pattern: str) -> InputDescription:
    """Measure the files that `pattern` names.

    Raises:
        DataError: `no_match`, `unreadable_input`.
    """
    files = root.files(pattern)
    if not files:
        raise DataError("no_match", "no file matches the path")
    digest, size = hashlib.sha256(), 0
    for path in files:
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise DataError("unreadable_input", f"{root.shown(path)} cannot be read ({type(error).__name__})") from None
    return InputDescription(size=size, sha256=digest.hexdigest())


def require(root: SandboxRoot, pattern: str, sha256: str) -> None:
    """Check that the files still have the content that the prediction was accepted for.

    Raises:
        AgentError: `input_changed`, or `no_match` if they are gone.
    """
    if describe(root, pattern).sha256 != sha256:
        raise AgentError("input_changed", "the content is not what the prediction was accepted for", 409)
