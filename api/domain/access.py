"""Who may reach into a sandbox. Training data lies in the sandboxes of workers and validators, and stays there.

Workers and validators are closed: a project's key may upload below /data, and needs `data:export` to download anything, to
run code, or to upload elsewhere (which could be code that somebody runs). Their data owner's key may run code, and upload and
download below /data. A node that was deployed with `data_owner` is sealed: only its owner's key does any of this. An
aggregator holds no training data and is open to the project's keys.
"""

from collections.abc import Collection
from typing import Literal

from api.domain.errors import ForbiddenError
from api.domain.scopes import EXPORT

Act = Literal["upload", "download", "execute", "delete"]
DATA = "/data"


def check_access(act: Act, path: str | None, *, role: str, sealed: bool, owner: bool, scopes: Collection[str]) -> bool:
    """ForbiddenError when a key with these scopes may not; True when it may only by `data:export`."""
    within = path is not None and (path == DATA or path.startswith(f"{DATA}/"))
    if owner:
        if act != "execute" and not within:
            raise ForbiddenError("outside_data", f"A data owner's key reaches files below {DATA} only.")
        return False
    if role == "aggregator":
        return False
    if sealed:
        raise ForbiddenError("owner_only", "This node's sandbox is open to its data owner's key only.")
    if act in ("upload", "delete") and within:
        return False
    if EXPORT not in scopes:
        what = {
            "upload": f"To upload outside {DATA} of a worker",
            "delete": f"To delete outside {DATA} of a worker",
            "download": "To download from a worker",
            "execute": "To run code in a worker's sandbox",
        }[act]
        raise ForbiddenError("data_export_needed", f"{what}, a key needs the scope {EXPORT} (or is its data owner's).")
    return True
