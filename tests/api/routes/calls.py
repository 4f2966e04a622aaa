"""Every operation of the committed openapi.json as a call.

So the tests cover a new operation without further code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.api.routes.document import METHODS, document, example, whole

# Without a key, and without data of a project.
OPEN = {"get_health", "get_readiness", "get_metrics", "explain_problem"}
# An address that webhooks may have. Nothing is sent to it.
PUBLIC_URL = "https://93.184.216.34/"


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    item: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.item["operationId"])

    @property
    def scope(self) -> str:
        (requirement,) = self.item["security"]
        ((scope,),) = requirement.values()
        return str(scope)

    @property
    def names(self) -> list[str]:
        """Return the names of the ids in the path."""
        return [part["name"] for part in self.item.get("parameters", ()) if part["in"] == "path"]

    @property
    def mutates(self) -> bool:
        return self.method != "get"

    def call(self, ids: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments of a well-formed request.

        Ids that are not given are unknown ones. The body is the example.
        """
        path = self.path
        for name in self.names:
            path = path.replace(f"{{{name}}}", ids.get(name, "unknown"))
        query = {
            part["name"]: part["schema"]["examples"][0]
            for part in self.item.get("parameters", ())
            if part["in"] == "query" and part.get("required")
        }
        options: dict[str, Any] = {}
        for media_type, content in self.item.get("requestBody", {}).get("content", {}).items():
            options = {"json": example(content["schema"])} if media_type == "application/json" else {"content": b"x"}
        if "url" in options.get("json", {}):
            # The name in the example can be unknown here.
            options["json"] = {**options["json"], "url": PUBLIC_URL}
        return {"method": self.method.upper(), "url": path, "params": query, **options}


def operations() -> list[Operation]:
    paths = document()["paths"]
    verbs = [(verb, path, item) for path, items in paths.items() for verb, item in items.items() if verb in METHODS]
    return [Operation(verb, path, whole(item)) for verb, path, item in verbs]


def guarded() -> list[Operation]:
    return [operation for operation in operations() if operation.name not in OPEN]
