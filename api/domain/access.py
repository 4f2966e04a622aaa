"""Access to files and code in a sandbox. Training data stays in the sandboxes of workers and
validators.

The rules:

- Worker or validator, a project's key: it may upload and list below /data. Everything else needs
  the scope `data:export`: download, run code, upload elsewhere (an uploaded file could be code).
- Worker or validator, its data owner's key: it may run code, and upload and download below /data.
- A node that was deployed with `data_owner` is sealed: only its owner's key has access.
- An aggregator holds no training data. Every key of the project has access.
"""

from collections.abc import Collection
from typing import Literal

from api.domain.errors import ForbiddenError
from api.domain.scopes import EXPORT

Act = Literal["upload", "download", "execute", "delete", "list"]
DATA = "/data"


def check_access(act: Act, path: str | None, *, role: str, sealed: bool, owner: bool, scopes: Collection[str]) -> bool:
    """Check that a key with these scopes may do `act`. Return True when only `data:export` allows
    it.

    Raises:
        ForbiddenError: the key may not do it.
    """
    is_below_data = path is not None and (path == DATA or path.startswith(f"{DATA}/"))
    if owner:
        if act != "execute" and not is_below_data:
            raise ForbiddenError("outside_data", f"A data owner's key reaches files below {DATA} only.")
        return False
    if role == "aggregator":
        return False
    if sealed:
        raise ForbiddenError("owner_only", "This node's sandbox is open to its data owner's key only.")
    if act in ("upload", "delete", "list") and is_below_data:
        return False
    if EXPORT not in scopes:
        denied = {
            "upload": f"To upload outside {DATA} of a worker",
            "delete": f"To delete outside {DATA} of a worker",
            "list": f"To list files outside {DATA} of a worker",
            "download": "To download from a worker",
            "execute": "To run code in a worker's sandbox",
        }[act]
        raise ForbiddenError("data_export_needed", f"{denied}, a key needs the scope {EXPORT} (or is its data owner's).")
    return True
